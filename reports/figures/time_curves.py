"""Learning curves over the budget's time axis."""

import plotly.graph_objects as go

from reports.figures.bands import Curves, curves, plot_curves
from reports.figures.base import FigureSpec
from reports.frames import Frames


def data(frames: Frames) -> Curves:
    """Return the validation curves over ``budget_time_s``."""
    return curves(frames, "budget_time_s")


def plot(curves: Curves) -> go.Figure:
    """Return them drawn."""
    return plot_curves(curves, "training time charged to the budget (s)")


FIGURE = FigureSpec(
    name="time_curves",
    title="Who is ahead at which moment of the budget?",
    good="{metric}; loss: lower is better.",
    data=data,
    plot=plot,
    note="Line: mean over the race's seeds; band: from the lowest to the highest seed. The metric's axis leaves out "
    "the steep start; double-click for all of it. In a calibrated race the time is steps × calibrated seconds per "
    "step. Every arm's learning-rate schedule ends with the budget, so only the right end compares finished trainings.",
    is_of_the_race=True,
)
