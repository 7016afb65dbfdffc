"""How soon the runs of each arm reach the validation target."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import survival
from reports.figures.bands import stack
from reports.figures.base import (
    LOST_SYMBOL,
    NEUTRAL,
    PANEL_PX,
    ROW_PX,
    ArmStyle,
    FigureSpec,
    arm_rows,
    arm_styles,
    empty,
    label,
    make_room,
    panels,
    row_name,
    row_px,
)
from reports.frames import Frames, Metric
from reports.targets import Reached, watch

CENSORED_SYMBOL = "line-ns-open"


class TimeToTarget(NamedTuple):
    """The times to the target of one race.

    Args:
        curves: Columns arm, time_s, share (of the runs that have reached the target by then); from 0 on.
        ends: Where runs without the target were censored: arm, time_s, share, is_lost.
        rows: Columns arm, mean, low, high (of the restricted time), note; the shortest first.
        seeds: Columns arm, restricted_s, is_reached.
        end_s: Up to when arms are compared.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    curves: pd.DataFrame
    ends: pd.DataFrame
    rows: pd.DataFrame
    seeds: pd.DataFrame
    end_s: float
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> TimeToTarget:
    """Return the Kaplan-Meier curves and the restricted means."""
    found = watch(frames)
    curves = {arm.arm: _curve(arm.runs, found.end_s) for arm in found.arms}
    rows = [(a.arm, a.restricted.mean, a.restricted.low, a.restricted.high, _note(a)) for a in found.arms]
    ends = [_ends(arm.runs, curves[arm.arm]) for arm in found.arms]
    return TimeToTarget(
        stack([curve.assign(arm=arm) for arm, curve in curves.items()], ["arm", "time_s", "share"]),
        stack(ends, ["arm", "time_s", "share", "is_lost"]),
        pd.DataFrame(rows, columns=["arm", "mean", "low", "high", "note"]),
        found.runs[["arm", "restricted_s", "is_reached"]],
        found.end_s,
        found.metric,
        frames.arms,
    )


def plot(data: TimeToTarget) -> go.Figure:
    """Return the shares over time above the restricted means."""
    rows = data.rows
    if rows.empty:
        return empty("No race runs of a workload with a target yet.")
    height = (ROW_PX if (rows["note"] != "").any() else row_px(len(rows))) * len(rows) + 10
    titles = ["seconds of the budget", f"mean seconds, cut at {data.end_s:.3g}"]
    heights = [PANEL_PX, height]
    figure = panels(["share of runs at the target", ""], titles, panel_px=sum(heights) // 2, row_heights=heights)
    for place, row in enumerate(rows.itertuples()):
        style = arm_styles(data.arms)[str(row.arm)]
        _add_curve(figure, data, str(row.arm), style)
        _add_row(figure, row, data.seeds[data.seeds["arm"] == row.arm], style, place)
    arm_rows(figure, [row_name(arm, note) for arm, note in zip(rows["arm"], rows["note"], strict=True)], row=2)
    is_cut = (data.seeds["restricted_s"] >= data.end_s).any()
    for panel in (1, 2) if is_cut else (1,):
        figure.add_vline(x=data.end_s, line={"width": 1, "dash": "dot", "color": NEUTRAL}, row=panel, col=1)
    figure.update_yaxes(range=[-0.04, 1.06], row=1)
    figure.update_xaxes(rangemode="tozero")
    return make_room(figure, rows["arm"])


def _curve(runs: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """Return the share of runs at the target after each time at which it changes, from 0 until the budget ends."""
    times, shares = survival.survival(runs["time_s"], ~runs["is_reached"])
    reached = 1 - shares
    steps = np.flatnonzero(np.diff(reached, prepend=0.0) > 0)
    return pd.DataFrame({
        "time_s": [0.0, *times[steps], max(times[-1], end_s)],
        "share": [0.0, *reached[steps], reached[-1]],
    })


def _ends(runs: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """Return where the runs without the target were censored, on the curve of their arm."""
    ends = runs.loc[~runs["is_reached"], ["arm", "time_s", "is_lost"]]
    places = np.searchsorted(curve["time_s"], ends["time_s"], side="right") - 1
    return ends.assign(share=curve["share"].to_numpy()[places])


def _note(arm: Reached) -> str:
    """Return how many runs did not reach the target, empty where all did."""
    if arm.num_reached == len(arm.runs):
        return ""
    lost = f", {arm.num_lost} lost" if arm.num_lost else ""
    return f"reached in {arm.num_reached} of {len(arm.runs)} runs{lost}"


def _add_curve(figure: go.Figure, data: TimeToTarget, arm: str, style: ArmStyle) -> None:
    """Add the share of an arm's runs at the target, with marks at its steps and where runs were censored."""
    curve, ends = (frame[frame["arm"] == arm] for frame in (data.curves, data.ends))
    figure.add_scatter(
        x=curve["time_s"],
        y=curve["share"],
        name=label(arm),
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 2, "shape": "hv"},
        marker={"symbol": style.symbol, "size": [0, *[7] * (len(curve) - 2), 0]},
        legendgroup=arm,
        hovertemplate="%{fullData.name}: %{y:.0%} of the runs by %{x:.4g} s<extra></extra>",
        row=1,
        col=1,
    )
    if len(ends):
        figure.add_scatter(
            x=ends["time_s"],
            y=ends["share"],
            name=label(arm),
            mode="markers",
            marker={
                "color": style.color,
                "symbol": [LOST_SYMBOL if is_lost else CENSORED_SYMBOL for is_lost in ends["is_lost"]],
                "size": 10,
                "line": {"width": 2},
            },
            legendgroup=arm,
            showlegend=False,
            text=["lost: counted as never" if is_lost else "not reached by then" for is_lost in ends["is_lost"]],
            hovertemplate="%{fullData.name}: %{text} (%{x:.4g} s)<extra></extra>",
            row=1,
            col=1,
        )


def _add_row(figure: go.Figure, row: Any, seeds: pd.DataFrame, style: ArmStyle, place: int) -> None:
    """Add an arm's restricted times, small and crossed where not reached, and their mean with the interval."""
    shared = {"mode": "markers", "legendgroup": str(row.arm), "showlegend": False, "row": 2, "col": 1}
    figure.add_scatter(
        x=seeds["restricted_s"],
        y=[place + 0.22] * len(seeds),
        name=label(row.arm),
        marker={
            "color": style.color,
            "symbol": [f"{style.symbol}-open" if reached else CENSORED_SYMBOL for reached in seeds["is_reached"]],
            "size": 6,
        },
        hovertemplate="one run: %{x:.4g} s<extra></extra>",
        **shared,
    )
    error = {"array": [row.high - row.mean], "arrayminus": [row.mean - row.low]} if np.isfinite(row.high) else {}
    interval = f", 95 % interval {row.low:.4g} to {row.high:.4g} s" if error else ""
    figure.add_scatter(
        x=[row.mean],
        y=[place],
        name=label(row.arm),
        marker={"color": style.color, "symbol": style.symbol, "size": 12},
        error_x={**error, "color": style.color},
        hovertemplate=f"mean %{{x:.4g}} s{interval}<extra></extra>",
        **shared,
    )


FIGURE = FigureSpec(
    name="time_to_target",
    title="How soon is the target reached, and how surely?",
    good="Above, higher and further left is better; below, lower is better.",
    data=data,
    plot=plot,
    note="Above: share of the race runs whose validation metric has reached the target by each moment (Kaplan-Meier). "
    "A bar on the curve: a run that spent its budget without reaching it, censored there; a cross: a lost run "
    "(diverged, out of memory, failed), censored at the end of its budget and not where it died. Below: mean, 95 % "
    "interval and single runs of the time to the target, cut at the dotted line, which a run that did not reach it in "
    "time counts in full. That line is the budget, or, for budgets without seconds, the shortest that a run "
    "completed. The metric is looked at at each evaluation, so that times are coarser for arms with costlier epochs. "
    "With few runs the steps are coarse; differences are tested in the table of the same name.",
    is_of_the_race=True,
)
