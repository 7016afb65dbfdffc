"""Whether curvature acted: how far apart the entries of the preconditioner are."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.figures.bands import add_band, band, stack
from reports.figures.base import FigureSpec, arm_styles, empty, log_axis, make_room, panels
from reports.frames import Frames, race_runs

RATIOS = {
    "preconditioner_spread_p95_p05": "95th ÷ 5th percentile of F̃",
    "preconditioner_spread": "max F̃ ÷ min F̃",
}


class Spread(NamedTuple):
    """The spread of the preconditioner over training.

    Args:
        lines: Columns arm, quantity, x (steps), mean, low, high over the race's seeds.
        arms: All arms of the study.
    """

    lines: pd.DataFrame
    arms: tuple[str, ...]


def data(frames: Frames) -> Spread:
    """Return both ratios of the race runs that recorded them."""
    values = frames.metrics[frames.metrics["name"].isin(RATIOS)]
    values = values.merge(race_runs(frames)[["run_id", "arm"]], on="run_id")
    lines = [
        band((seed for _, seed in group.groupby("run_id")), "step", "value").assign(arm=str(arm), quantity=str(name))
        for (arm, name), group in values.groupby(["arm", "name"])
    ]
    columns = ["arm", "quantity", "x", "mean", "low", "high"]
    return Spread(stack(lines, columns), frames.arms)


def plot(data: Spread) -> go.Figure:
    """Return the ratio of percentiles drawn above the ratio of extremes."""
    if data.lines.empty:
        return empty("No race run has recorded the spread of its preconditioner.")
    figure = panels(list(RATIOS.values()), ["", "training steps"], shared_xaxes=True)
    for row, quantity in enumerate(RATIOS, start=1):
        for arm, style in arm_styles(data.arms).items():
            lines = data.lines[(data.lines["arm"] == arm) & (data.lines["quantity"] == quantity)]
            add_band(figure, lines, arm, style, row=row, show_name=row == 1)
        figure.update_yaxes(**log_axis(data.lines.loc[data.lines["quantity"] == quantity, "mean"]), row=row)
    return make_room(figure.update_layout(showlegend=True), data.lines["arm"].unique())


FIGURE = FigureSpec(
    name="spread",
    title="Did curvature act?",
    good="At 1 the preconditioner is a constant, the arm SGD with momentum; far above 1, curvature shapes the step.",
    data=data,
    plot=plot,
    note="F̃ is what AdaFisher divides its step by. In the paper's numerics min-max normalization forces "
    "max F̃ ÷ min F̃ to (1+λ)/λ whatever the curvature, so there the lower panel shows the damping λ only: the ratio "
    "of percentiles is the one to read. The released numerics drift to a constant F̃ (ratio 1): SGD with momentum.",
    is_of_the_race=True,
)
