"""What each arm reaches as one setting moves from its base value and all others stay."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers.sensitivity import BASE, Line, lines
from reports.figures.base import (
    LOST_SYMBOL,
    ArmStyle,
    FigureSpec,
    arm_styles,
    beside,
    empty,
    label,
    log_axis,
    make_room,
    panels,
)
from reports.frames import Frames, metric_of

TITLES = {
    "batch_size": "batch size (log)",
    "lr": "learning rate ÷ its base value (log)",
    "damping": "damping λ ÷ its base value (log)",
    "gamma": "γ, weight of the new factor",
}
RELATIVE = ("lr", "damping")  # their base values differ by arm, so that moves are what can be compared
LINEAR = ("gamma",)
SPREAD, MAX_SPREAD = 0.3, 0.05  # of the smallest gap, and of the axis, over which arms stand side by side
PANEL_PX = 250
MAX_TICKS = 10
FLOOR = 0.07  # of the panel's range, by which the marks of lost runs stand below the values


class Axes(NamedTuple):
    """The runs of each arm along each axis that was moved.

    Args:
        points: Columns workload, metric, axis, arm, case, value (as it was set), place (on the axis of the panel),
            mean, low, high (of the seeds that finished; NaN if none did), num_runs, num_lost; ascending.
        arms: All arms of the study.
    """

    points: pd.DataFrame
    arms: tuple[str, ...]


COLUMNS = "workload metric axis arm case value place mean low high num_runs num_lost".split()


def data(frames: Frames) -> Axes:
    """Return a point a value of each axis, of the arms for which it was moved."""
    rows = [row for line in lines(frames) if line.axis in TITLES for row in _rows(line, frames)]
    return Axes(pd.DataFrame(rows, columns=COLUMNS), frames.arms)


def plot(data: Axes) -> go.Figure:
    """Return a panel a workload and axis."""
    if data.points.empty:
        return empty("No setting was moved from a base case.")
    groups = [
        (workload, axis, own)
        for workload, found in data.points.groupby("workload")
        for axis in TITLES
        if len(own := found[found["axis"] == axis])
    ]
    several = data.points["workload"].nunique() > 1
    y_titles = [f"test {label(own['metric'].iloc[0])}" + f"<br>{label(w)}" * several for w, _, own in groups]
    figure = panels(y_titles, [TITLES[axis] for _, axis, _ in groups], panel_px=PANEL_PX)
    styles, named = arm_styles(data.arms), set[str]()
    for row, (_, axis, own) in enumerate(groups, start=1):
        shown = _side_by_side(own, axis)
        floor = _floor(own)
        for arm, points in shown.groupby("arm", sort=False):
            _add_arm(figure, points, str(arm), styles[str(arm)], row=row, show_name=arm not in named)
            _add_lost(figure, points[points["num_lost"] > 0], str(arm), styles[str(arm)], row=row, y=floor)
            named.add(str(arm))
        figure.update_xaxes(**_ticks(own["place"], axis), row=row)
    return make_room(figure.update_layout(showlegend=True), named)


def _rows(line: Line, frames: Frames) -> Iterator[dict[str, Any]]:
    """Yield the points of an arm on an axis."""
    base = float(line.base["value"].iloc[0])
    metric = metric_of(frames.only(line.runs)).name
    for value, own in line.points():
        scores = own["test_metric"].dropna()
        yield {
            "workload": line.workload,
            "metric": metric,
            "axis": line.axis,
            "arm": line.arm,
            "case": BASE if (own["case"] == BASE).any() else own["case"].iloc[0],
            "value": value,
            "place": float(f"{value / base:.3g}") if line.axis in RELATIVE and base > 0 else value,
            "mean": scores.mean(),
            "low": scores.min(),
            "high": scores.max(),
            "num_runs": len(own),
            "num_lost": int(own["is_lost"].sum()),
        }


def _side_by_side(points: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Return the points with ``x``: beside their place, by arm, so that ranges do not cover each other."""
    arms = list(points["arm"].unique())
    places = points["place"] if axis in LINEAR else np.log10(points["place"])
    gaps = np.diff(np.unique(places))
    width = min(SPREAD * gaps.min(), MAX_SPREAD * gaps.sum()) if len(gaps) else 0.0
    x = places + points["arm"].map(beside(arms, width))
    return points.assign(x=x if axis in LINEAR else 10**x)


def _floor(points: pd.DataFrame) -> float:
    """Return where the marks of lost runs stand: below all values of the panel."""
    low, high = points["low"].min(), points["high"].max()
    return float(low - FLOOR * ((high - low) or abs(low) or 1.0)) if np.isfinite(low) else 0.0


def _ticks(places: pd.Series, axis: str) -> dict[str, Any]:
    """Return the settings of a panel's x axis: a tick at each value, if these are few."""
    if axis in LINEAR:
        return {"zeroline": False}
    scale, values = log_axis(places), np.unique(places)
    if len(values) > MAX_TICKS:
        return scale
    texts = [f"×{value:g}" if axis in RELATIVE else f"{value:g}" for value in values]
    return scale | {"tickmode": "array", "tickvals": list(values), "ticktext": texts}


def _add_arm(figure: go.Figure, points: pd.DataFrame, arm: str, style: ArmStyle, *, row: int, show_name: bool) -> None:
    """Add the means of an arm with the range of its seeds; its base value is the larger mark."""
    symbols = [style.symbol if case == BASE else f"{style.symbol}-open" for case in points["case"]]
    figure.add_scatter(
        x=points["x"],
        y=points["mean"],
        error_y={
            "array": points["high"] - points["mean"],
            "arrayminus": points["mean"] - points["low"],
            "color": style.color,
            "thickness": 1.5,
            "width": 3,
        },
        name=label(arm),
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 1.5},
        marker={
            "color": style.color,
            "symbol": symbols,
            "size": [11 if case == BASE else 8 for case in points["case"]],
        },
        legendgroup=arm,
        showlegend=show_name,
        customdata=[
            [label(case), value, low, high, f"{runs - lost} of {runs}"]
            for case, value, low, high, runs, lost in points[
                ["case", "value", "low", "high", "num_runs", "num_lost"]
            ].itertuples(index=False)
        ],
        hovertemplate="%{fullData.name}, %{customdata[0]} (%{customdata[1]:.3g}): mean %{y:.4g}, seeds "
        "%{customdata[2]:.4g} to %{customdata[3]:.4g}, %{customdata[4]} runs finished<extra></extra>",
        row=row,
        col=1,
    )


def _add_lost(figure: go.Figure, points: pd.DataFrame, arm: str, style: ArmStyle, *, row: int, y: float) -> None:
    """Mark the values at which an arm lost runs, with how many."""
    if points.empty:
        return
    counts = zip(points["num_lost"], points["num_runs"], strict=True)
    figure.add_scatter(
        x=points["x"],
        y=[y] * len(points),
        name=label(arm),
        mode="markers+text",
        text=[f"{lost}/{runs}" for lost, runs in counts],
        textposition="middle right",
        textfont={"size": 10},
        marker={"color": style.color, "symbol": LOST_SYMBOL, "size": 10},
        legendgroup=arm,
        showlegend=False,
        customdata=points["value"],
        hovertemplate="%{fullData.name} at %{customdata:.3g}: %{text} runs lost<extra></extra>",
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="axes",
    title="What happens when one setting moves and all others stay?",
    good="A flat line is good: the arm forgives a wrong setting.",
    data=data,
    plot=plot,
    note="From each arm's own base value (the filled mark) one setting moves; learning rate and damping as a multiple "
    "of it. Mean over the seeds that finished, bars from the lowest to the highest of them; crosses below: how many of "
    "the runs at a value were lost. The base is a choice, not each arm's optimum, so a line says how far its arm may "
    "be moved from there, not which arm is best. Settings act together: what one allows depends on the others.",
    is_of_the_race=True,
    is_of_the_study=True,
)
