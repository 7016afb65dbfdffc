"""What each arm gains over SGD, and over its placebo: SGD that takes the same steps without the curvature."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports import text
from reports.answers.base import BASELINE
from reports.answers.paired import Difference
from reports.answers.placebo import gains
from reports.figures.base import NEUTRAL, ArmStyle, FigureSpec, arm_rows, arm_styles, empty, label, panels
from reports.frames import Frames, Metric, metric_of

PLACEBO = "its placebo"
LINES_PX = 62  # of a row with three lines of text
ROUND_OFF = 12  # decimals


class Gains(NamedTuple):
    """The gains of a race.

    Args:
        rows: Columns arm, over (``sgd`` or ``its placebo``), gain, low, high, num_seeds, verdict; those of an arm
            together, arms with a placebo first. Gains of pairs that lost runs are NaN.
        has_placebo: Whether an arm raced with a placebo.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    has_placebo: bool
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> Gains:
    """Return the gains of each arm; positive is better."""
    found = gains(frames)
    rows = []
    for gain in found:
        rows.append(_row(gain.arm, BASELINE, gain.over_baseline))
        if gain.over_placebo is not None:
            rows.append(_row(gain.arm, PLACEBO, gain.over_placebo))
    columns = ["arm", "over", "gain", "low", "high", "num_seeds", "verdict"]
    has_placebo = any(gain.placebo is not None for gain in found)
    return Gains(pd.DataFrame(rows, columns=columns), has_placebo, metric_of(frames), frames.arms)


def plot(data: Gains) -> go.Figure:
    """Return a row a gain, with its verdict in words."""
    if not data.has_placebo:
        return empty(f"No arm raced beside {BASELINE} and a placebo of its own.")
    x_title = f"gain in test {label(data.metric.name)}"
    figure = panels([""], [x_title], panel_px=LINES_PX * len(data.rows) + 10)
    arm_rows(figure, list(_names(data.rows)), row=1)
    styles = arm_styles(data.arms)
    for place, row in enumerate(data.rows.itertuples()):
        if math.isfinite(row.gain):  # type: ignore[arg-type]
            _add_gain(figure, row, styles[str(row.arm)], place)
    figure.add_vline(x=0, line={"width": 1, "color": NEUTRAL})
    figure.update_xaxes(nticks=5, tickangle=0)
    return figure.update_layout(showlegend=False)


def _row(arm: str, over: str, found: Difference) -> dict[str, Any]:
    """Return a gain as a row; what is left of a pair that lost runs is a selection, and no gain."""
    is_whole = "lost" not in found.verdict
    estimate = found.estimate
    values = (estimate.mean, estimate.low, estimate.high) if is_whole else (math.nan,) * 3
    cells = {name: round(value, ROUND_OFF) for name, value in zip(("gain", "low", "high"), values, strict=True)}
    return {"arm": arm, "over": over, **cells, "num_seeds": estimate.n, "verdict": found.verdict}


def _names(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what each row is called: who gains how much over whom, and whether it is resolved."""
    for arm, over, gain, verdict in rows[["arm", "over", "gain", "verdict"]].itertuples(index=False, name=None):
        amount = f": {text.difference(gain)}" if math.isfinite(gain) else ""
        told = verdict.replace("not tested: ", "not tested:<br>")
        yield f"{label(arm)}<br>over {over}{amount}<br><i>{told}</i>"


def _add_gain(figure: go.Figure, row: Any, style: ArmStyle, place: int) -> None:
    """Add a gain with its interval; over the placebo it is an open mark."""
    symbol = f"{style.symbol}-open" if row.over == PLACEBO else style.symbol
    interval = f"{row.low:.4g} to {row.high:.4g}" if math.isfinite(row.low) else "unknown of one seed"
    figure.add_scatter(
        x=[row.gain],
        y=[place],
        name=label(row.arm),
        legendgroup=row.arm,
        mode="markers",
        marker={"color": style.color, "symbol": symbol, "size": 12, "line_width": 2 if row.over == PLACEBO else 0},
        error_x={"array": [row.high - row.gain], "arrayminus": [row.gain - row.low], "color": style.color},
        hovertemplate=f"%{{x:.4g}}, 95 % interval {interval}, {text.count(row.num_seeds, 'seed')}<extra></extra>",
        row=1,
        col=1,
    )


FIGURE = FigureSpec(
    name="placebo",
    title="Was it the curvature that won?",
    good="To the right of 0 is better, whichever way the metric goes.",
    data=data,
    plot=plot,
    note="Mean paired difference over the common seeds, with its 95 % interval; resolved: p < 0.05, Holm-corrected "
    "over these pairs. A placebo is SGD with momentum that takes the same steps without the curvature: what an arm "
    "gains over SGD but not over its placebo, the curvature did not bring. An arm without a placebo of its own is "
    "measured against SGD alone. A pair that lost runs has no mark: the seeds that are left are a selection. "
    "Not resolved does not mean that there is no gain.",
    is_of_the_race=True,
)
