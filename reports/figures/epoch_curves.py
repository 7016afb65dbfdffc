"""Learning curves over passes through the training data."""

import plotly.graph_objects as go

from reports.figures.bands import Curves, curves, plot_curves
from reports.figures.base import FigureSpec
from reports.frames import Frames


def data(frames: Frames) -> Curves:
    """Return the validation curves over ``epoch``."""
    return curves(frames, "epoch")


def plot(curves: Curves) -> go.Figure:
    """Return them drawn."""
    return plot_curves(curves, "epochs")


FIGURE = FigureSpec(
    name="epoch_curves",
    title="Who learns most from an epoch, whatever it costs?",
    good="{metric}; loss: lower is better.",
    data=data,
    plot=plot,
    note="The same runs per pass over the training data. An arm that leads here and not over time makes better "
    "steps that cost too much; its curve ends earlier because fewer epochs fit the budget.",
    is_of_the_race=True,
)
