"""How much a step gains from more workers."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers import scaling as answer
from reports.figures.base import (
    NEUTRAL,
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
from reports.figures.headings import add_headings
from reports.frames import Frames
from reports.text import count

MAX_GROUPS = 6
MAX_TIMED = 2  # groups that have their step times drawn too
SPREAD = 0.16  # of a doubling of the workers, over which the arms stand beside each other
ROOM = 1.15  # above the highest mean; wider intervals end at the edge of the panel
DISTRUST = "these times failed a check of trust"
KEPT = {"strong": "batch {:g} over all workers", "weak": "batch {:g} on each worker"}


class Scaling(NamedTuple):
    """How throughput grew with the workers.

    Args:
        points: Columns heading, arm, num_workers, efficiency, its low and high, step_ms, its low_ms and high_ms, and
            num_runs; NaN where one run has no interval.
        is_trusted: Whether the study's times passed every check.
        num_left_out: Groups that there is no room for.
        arms: All arms of the study.
    """

    points: pd.DataFrame
    is_trusted: bool
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> Scaling:
    """Return the points of each workload, mode and batch that is kept; of arms that ran on several workers."""
    table = answer.table(frames)
    points = pd.DataFrame({
        "heading": _headings(table),
        "arm": table["arm"],
        "num_workers": table["num_workers"].astype("float64"),
        "efficiency": table["efficiency"],
        "low": table["efficiency_low"],
        "high": table["efficiency_high"],
        "step_ms": 1e3 * table["mean_step_s"],
        "low_ms": 1e3 * table["low_step_s"],
        "high_ms": 1e3 * table["high_step_s"],
        "num_runs": table["num_runs"],
    })
    several = points.groupby(["heading", "arm"])["efficiency"].transform("count") > 1
    points = points[several & points["efficiency"].notna()]
    names = list(points["heading"].unique())
    kept = points[points["heading"].isin(names[:MAX_GROUPS])].reset_index(drop=True)
    return Scaling(kept, not (table["trusted"] == "no").any(), max(0, len(names) - MAX_GROUPS), frames.arms)


def plot(data: Scaling) -> go.Figure:
    """Return the efficiency of each group, and the time of a step if there are few groups."""
    if data.points.empty:
        return empty("No arm was timed on several numbers of workers, with common seeds.")
    groups = [(str(heading), group) for heading, group in data.points.groupby("heading", sort=False)]
    quantities = ("efficiency", "step_ms") if len(groups) <= MAX_TIMED else ("efficiency",)
    drawn = [(heading, group, quantity) for heading, group in groups for quantity in quantities]
    more = f" ({count(data.num_left_out, 'more group')} in the table)" if data.num_left_out else ""
    x_titles = [*[" "] * (len(drawn) - 1), f"data-parallel workers (log){more}"]
    y_titles = ["efficiency" if quantity == "efficiency" else "milliseconds a step" for *_, quantity in drawn]
    figure = panels(y_titles, x_titles)
    styles = arm_styles(data.arms)
    for panel, (_, group, quantity) in enumerate(drawn, start=1):
        arms = list(group["arm"].unique())
        for arm, place in beside(arms, SPREAD).items():
            own = group[group["arm"] == arm]
            shown = own.assign(x=own["num_workers"] * 2**place)
            _add_arm(figure, shown, quantity, styles[arm], panel=panel)
        _set_axes(figure, group, quantity, panel)
    doubt = "" if data.is_trusted else f"<br><i>{DISTRUST}</i>"
    add_headings(figure, [heading + doubt if q == "efficiency" else "" for heading, _, q in drawn])
    return make_room(_named_once(figure), data.points["arm"].unique())


def _headings(table: pd.DataFrame) -> pd.Series:
    """Return what stands above each row's panel: workload, mode and the batch that is kept."""
    several_threads = table["num_threads"].nunique() > 1
    names = []
    for row in table.to_dict("records"):
        kept = row["batch_size"] / (1 if row["mode"] == "strong" else row["num_workers"])
        threads = f", {count(int(row['num_threads']), 'thread')} each" if several_threads else ""
        names.append(f"{label(row['workload'])}, {row['mode']}: {KEPT[row['mode']].format(kept)}{threads}")
    return pd.Series(names, table.index, dtype="object")


def _add_arm(figure: go.Figure, own: pd.DataFrame, quantity: str, style: ArmStyle, *, panel: int) -> None:
    """Add the points of an arm with their intervals."""
    arm, ends = str(own["arm"].iloc[0]), ("low", "high") if quantity == "efficiency" else ("low_ms", "high_ms")
    low, high = (own[end] for end in ends)
    figure.add_scatter(
        x=own["x"],
        y=own[quantity],
        error_y={
            "array": (high - own[quantity]).fillna(0.0),
            "arrayminus": (own[quantity] - low).fillna(0.0),
            "color": style.color,
            "thickness": 1.5,
            "width": 3,
        },
        name=label(arm),
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 2},
        marker={"color": style.color, "symbol": style.symbol, "size": 9},
        legendgroup=arm,
        customdata=np.stack([own["num_workers"], low, high, own["num_runs"].astype("float64")], axis=1),
        hovertemplate="%{fullData.name}, %{customdata[0]:d} workers: %{y:.3g} (95 % interval %{customdata[1]:.3g} to "
        "%{customdata[2]:.3g}, %{customdata[3]:d} runs)<extra></extra>",
        row=panel,
        col=1,
    )


def _set_axes(figure: go.Figure, group: pd.DataFrame, quantity: str, panel: int) -> None:
    """Set the ranges of a panel, and draw the line of the ideal."""
    workers = sorted(group["num_workers"].unique())
    ticks = {"tickmode": "array", "tickvals": workers, "ticktext": [f"{k:g}" for k in workers]}
    figure.update_xaxes(**(log_axis(workers) | ticks), row=panel)
    figure.update_yaxes(
        range=[0, ROOM * max(group[quantity].max(), 1.0 if quantity == "efficiency" else 0.0)], row=panel
    )
    if quantity == "efficiency":
        line = {"width": 1, "dash": "dot", "color": NEUTRAL}
        figure.add_hline(y=1.0, row=panel, line=line, annotation_text="ideal", annotation_font_size=10)


def _named_once(figure: go.Figure) -> go.Figure:
    """Return the figure with one entry an arm in its legend."""
    seen: set[str] = set()
    for trace in figure.data:
        trace.showlegend = trace.name not in seen
        seen.add(trace.name)
    return figure


FIGURE = FigureSpec(
    name="scaling",
    title="How much do more workers gain?",
    good="Efficiency: higher is better, 1 is ideal; milliseconds: lower is better.",
    data=data,
    plot=plot,
    note="Efficiency: samples a second over those on the fewest workers, over how many times as many workers there "
    "are; paired by seed, mean with its 95 % interval, and 1 by definition on the fewest. Strong: the batch over all "
    "workers stays, and a step would ideally take half as long on twice as many; weak: the batch of each worker stays, "
    "and the step would take as long. A line joins what was measured and says nothing between or beyond. An interval "
    "may end at the edge of its panel; one run has none. Workers on one machine share its memory and caches too.",
    is_of_the_study=True,
)
