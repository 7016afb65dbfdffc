"""How the peak of memory grows with the batch."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import (
    LOST_SYMBOL,
    NEUTRAL,
    ArmStyle,
    FigureSpec,
    arm_styles,
    empty,
    label,
    make_room,
    panels,
)
from reports.figures.headings import add_headings
from reports.figures.ledger import PREDICTED, measured, unit_of
from reports.frames import Frames
from reports.text import count

MAX_PANELS = 6


class MemoryGrowth(NamedTuple):
    """The peaks of each arm by batch size.

    Args:
        points: Columns family, arm, batch_size, peak, predicted (bytes), num_runs, num_lost; of families with several
            batch sizes, ascending.
        num_left_out: Families that there is no room for.
        arms: All arms of the study.
    """

    points: pd.DataFrame
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> MemoryGrowth:
    """Return the points of the families that were run at several batch sizes."""
    rows = measured(frames)
    rows = rows[rows.groupby("family")["batch_size"].transform("nunique") > 1]
    families = list(rows["family"].unique())
    points = rows[rows["family"].isin(families[:MAX_PANELS])].sort_values(["family", "arm", "batch_size"])
    columns = ["family", "arm", "batch_size", "peak", "predicted", "num_runs", "num_lost"]
    return MemoryGrowth(points[columns].reset_index(drop=True), max(0, len(families) - MAX_PANELS), frames.arms)


def plot(data: MemoryGrowth) -> go.Figure:
    """Return a panel a family, with a line an arm."""
    if data.points.empty:
        return empty("Memory was not measured at several batch sizes.")
    groups = [(str(family), group) for family, group in data.points.groupby("family", sort=False)]
    unit, size = unit_of(float(data.points[["peak", "predicted"]].max().max()))
    more = f" ({count(data.num_left_out, 'more panel')} in the table)" if data.num_left_out else ""
    x_titles = [*[" "] * (len(groups) - 1), f"batch size{more}"]
    figure = panels([f"{unit} at the peak"] * len(groups), x_titles)
    named: set[str] = set()
    for panel, (_, group) in enumerate(groups, start=1):
        for arm, style in arm_styles(data.arms).items():
            points = group[group["arm"] == arm]
            if len(points):
                _add_measured(figure, points, style, size=size, panel=panel, show_name=arm not in named)
                _add_predicted(figure, points, style, size=size, panel=panel)
                named.add(arm)
        figure.update_xaxes(tickmode="array", tickvals=sorted(group["batch_size"].unique()), row=panel)
    _name_predicted(figure)
    figure.update_yaxes(rangemode="tozero")
    return make_room(add_headings(figure, [label(family) for family, _ in groups]), [*named, PREDICTED])


def _add_measured(
    figure: go.Figure, points: pd.DataFrame, style: ArmStyle, *, size: float, panel: int, show_name: bool
) -> None:
    """Add the measured peaks of an arm."""
    arm = str(points["arm"].iloc[0])
    figure.add_scatter(
        x=points["batch_size"],
        y=points["peak"] / size,
        name=label(arm),
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 2},
        marker={"color": style.color, "symbol": style.symbol, "size": 7},
        legendgroup=arm,
        showlegend=show_name,
        hovertemplate="%{fullData.name}, batch %{x}: %{y:.4g}<extra></extra>",
        row=panel,
        col=1,
    )


def _add_predicted(figure: go.Figure, points: pd.DataFrame, style: ArmStyle, *, size: float, panel: int) -> None:
    """Add the predicted peaks of an arm as open marks, crossed where no run finished."""
    known = points[points["predicted"].notna()]
    if known.empty:
        return
    arm = str(known["arm"].iloc[0])
    is_lost = known["peak"].isna() & (known["num_lost"] > 0)
    figure.add_scatter(
        x=known["batch_size"],
        y=known["predicted"] / size,
        name=label(arm),
        mode="markers",
        marker={
            "color": style.color,
            "symbol": [f"{LOST_SYMBOL if lost else style.symbol}-open" for lost in is_lost],
            "size": 13,
        },
        legendgroup=arm,
        showlegend=False,
        customdata=[f", {lost} of {runs} runs lost" if lost else "" for lost, runs in _lost(known)],
        hovertemplate="%{fullData.name}, batch %{x}: predicted %{y:.4g}%{customdata}<extra></extra>",
        row=panel,
        col=1,
    )


def _lost(points: pd.DataFrame) -> list[tuple[int, int]]:
    """Return lost and all runs of each point."""
    return list(zip(points["num_lost"].astype(int), points["num_runs"].astype(int), strict=True))


def _name_predicted(figure: go.Figure) -> None:
    """Add what open marks mean to the legend."""
    figure.add_scatter(
        x=[None],
        y=[None],
        name=PREDICTED,
        mode="markers",
        marker={"color": NEUTRAL, "symbol": "circle-open", "size": 12},
        legendgroup=PREDICTED,
        row=1,
        col=1,
    )


FIGURE = FigureSpec(
    name="memory_growth",
    title="How does memory grow with the batch?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="Filled: the peak that was measured, of the run of each arm with the largest; the line joins the batch sizes "
    "that were run and says nothing between them. Open: the peak predicted without running the step; a cross where no "
    "run finished, so that a prediction is all there is. Arms whose marks cover each other need the same.",
    is_of_the_study=True,
)
