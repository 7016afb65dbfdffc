"""What a step and an epoch cost."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from reports.figures.base import NEUTRAL, FigureSpec, arm_rows, arm_styles, empty, label, panels, row_px
from reports.frames import Frames, calibrated_arm, calibrations
from reports.text import count


class EpochTime(NamedTuple):
    """The calibrated cost of each arm.

    Args:
        rows: Columns arm, num_workers, epoch_s, epoch_low_s, epoch_high_s (NaN if the steps per epoch are unknown),
            plain_ms and refresh_ms (NaN without refresh steps).
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    arms: tuple[str, ...]


def data(frames: Frames) -> EpochTime:
    """Return seconds per epoch = calibrated seconds per step × steps per epoch, and both kinds of step."""
    measured = calibrations(frames)
    steps = measured["steps_per_epoch"]
    rows = pd.DataFrame({
        "arm": measured["arm"],
        "num_workers": measured["num_workers"],
        "epoch_s": measured["step_s"] * steps,
        "epoch_low_s": measured["step_s_low"] * steps,
        "epoch_high_s": measured["step_s_high"] * steps,
        "plain_ms": 1e3 * measured["plain_step_s"],
        "refresh_ms": 1e3 * measured["refresh_step_s"],
    })
    return EpochTime(rows.sort_values(["num_workers", "arm"], ignore_index=True), frames.arms)


def plot(data: EpochTime) -> go.Figure:
    """Return an epoch's seconds drawn above the milliseconds of plain and refresh steps."""
    rows = data.rows
    if rows.empty:
        return empty("No calibrated step times yet.")
    titles = ["seconds per epoch", "milliseconds per step"]
    figure = panels(["", ""], titles, panel_px=int(1.25 * row_px(len(rows))) * len(rows), row_heights=[2, 3])
    styles = arm_styles(data.arms)
    colors = [styles[calibrated_arm(arm, styles)].color for arm in rows["arm"]]
    places = np.arange(len(rows), dtype="float64")
    error = {"array": rows["epoch_high_s"] - rows["epoch_s"], "arrayminus": rows["epoch_s"] - rows["epoch_low_s"]}
    error_x = {**error, "thickness": 1, "color": NEUTRAL}
    _add_bars(figure, places, rows["epoch_s"], colors, "%{x:.3g} s", row=1, width=0.6, error_x=error_x)
    _add_bars(figure, places - 0.2, rows["plain_ms"], colors, "plain %{x:.3g} ms", row=2, width=0.36)
    _add_bars(figure, places + 0.2, rows["refresh_ms"], colors, "refresh %{x:.3g} ms", row=2, width=0.36)
    is_mixed = rows["num_workers"].nunique() > 1
    pairs = zip(rows["arm"], rows["num_workers"], strict=True)
    names = [label(arm) + (f"<br>{count(int(workers), 'worker')}" if is_mixed else "") for arm, workers in pairs]
    for row in (1, 2):
        arm_rows(figure, names, row)
    return figure.update_layout(showlegend=False, barmode="overlay")


def _add_bars(
    figure: go.Figure,
    places: NDArray[np.floating],
    values: pd.Series,
    colors: list[str],
    text: str,
    *,
    row: int,
    width: float,
    error_x: dict[str, object] | None = None,
) -> None:
    """Add horizontal bars with their value written inside or beside them."""
    figure.add_bar(
        x=values,
        y=places,
        orientation="h",
        width=width,
        marker_color=colors,
        error_x=error_x,
        texttemplate=text,
        textposition="auto",
        insidetextanchor="start",
        hoverinfo="skip",
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="epoch_time",
    title="What does a step cost?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="Calibrated alone on the machine, the arms taking turns. Above: seconds per epoch with the 95 % "
    "interval. Below: a plain step, and a step that refreshes the curvature factors; an arm without factors has plain "
    "steps only.",
)
