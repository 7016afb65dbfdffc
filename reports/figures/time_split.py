"""Where the time of a step goes."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.answers import time_split as answer
from reports.answers.time_split import PARTS
from reports.figures import stacks
from reports.figures.base import DENSE_ROW_PX, FigureSpec, arm_rows, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.frames import Frames
from reports.text import count
from reports.trust import is_control

MAX_BARS = 24
PLACE = ["workload", "case", "batch_size", "num_workers"]
NAMES = {part: "optimizer step" if part == "step" else part for part in PARTS}
STYLES = {
    "data": stacks.YELLOW,
    "forward": stacks.CYAN,
    "backward": stacks.BLUE,
    "factors": stacks.ORANGE,
    "step": stacks.PINK,
    "communication": stacks.PEAR,
}
TEXT_ROOM = 1.25  # of the axis, for what is written behind the bars


class TimeSplit(NamedTuple):
    """The parts of a step.

    Args:
        bars: Columns heading (of the bar's panel), arm, steps (all, plain or refresh), total_ms, and the milliseconds
            of each part.
        num_left_out: Rows of the table that are not among them.
    """

    bars: pd.DataFrame
    num_left_out: int


def data(frames: Frames) -> TimeSplit:
    """Return the bars: of all steps, and of plain and refresh steps where an arm has both."""
    table = answer.table(frames)
    rows = pd.DataFrame({
        "heading": _headings(table),
        "arm": table["arm"],
        "steps": table["steps"],
        "total_ms": 1e3 * table["total_s"],
        **{part: 1e3 * table[f"{part}_s"].fillna(0.0) for part in PARTS},
    })
    has_both = rows["steps"].groupby([rows["heading"], rows["arm"]]).transform("nunique") > 2
    wanted = rows[(rows["steps"] == "all") | has_both]
    bars = _fitting(wanted)
    return TimeSplit(bars.reset_index(drop=True), len(wanted) - len(bars))


def plot(data: TimeSplit) -> go.Figure:
    """Return a panel a place, with a stacked bar an arm and kind of step."""
    bars, left_out = data
    if bars.empty:
        return empty("No step was profiled.")
    groups = [group for _, group in bars.groupby("heading", sort=False)]
    heights = [len(group) for group in groups]
    more = f" ({count(left_out, 'more bar')} in the table)" if left_out else ""
    x_titles = [*[" "] * (len(groups) - 1), f"milliseconds a step{more}"]
    mean_px = DENSE_ROW_PX * len(bars) // len(groups) + 16
    figure = panels([""] * len(groups), x_titles, panel_px=mean_px, row_heights=heights)
    parts = [part for part in PARTS if bars[part].any()]
    for panel, group in enumerate(groups, start=1):
        for part in parts:
            _add_part(figure, group, part, panel)
        _add_totals(figure, group, panel)
        arm_rows(
            figure, [_row_name(arm, steps) for arm, steps in zip(group["arm"], group["steps"], strict=True)], panel
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    add_headings(figure, [group["heading"].iloc[0] for group in groups], bars["arm"])
    return make_room(figure, [NAMES[part] for part in parts])


def _headings(table: pd.DataFrame) -> pd.Series:
    """Return what is written above each row's panel: its place, with batch and workers where these are not all one."""
    is_mixed = (table[["batch_size", "num_workers"]].nunique() > 1).any()
    names = [
        ", ".join(label(row[name]) for name in ("workload", "case") if row[name])
        + (f": batch {row['batch_size']} on {count(int(row['num_workers']), 'worker')}" if is_mixed else "")
        for row in table.to_dict("records")
    ]
    return pd.Series(names, table.index, dtype="object")


def _fitting(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that there is room for: first the kinds of step go, then controls, then the last places."""
    for kept in (rows, rows[rows["steps"] == "all"]):
        if len(kept) <= MAX_BARS:
            return kept
    kept = kept[~kept["arm"].map(is_control).astype(bool)]
    sizes = kept.groupby("heading", sort=False).size().cumsum()
    fitting = sizes[sizes <= MAX_BARS].index
    return kept[kept["heading"].isin(fitting)] if len(fitting) else kept.head(MAX_BARS)


def _add_part(figure: go.Figure, group: pd.DataFrame, part: str, panel: int) -> None:
    """Add one part of every bar of a panel."""
    figure.add_bar(
        x=group[part],
        y=list(range(len(group))),
        name=NAMES[part],
        orientation="h",
        width=0.7,
        marker=stacks.hatched(STYLES[part]),
        legendgroup=part,
        showlegend=panel == 1,
        customdata=[
            [f"{label(row.arm)}, {row.steps} steps", row.share]
            for row in group.assign(share=group[part] / group["total_ms"]).itertuples()
        ],
        hovertemplate="%{customdata[0]}: %{fullData.name} %{x:.3g} ms, %{customdata[1]:.0%}<extra></extra>",
        row=panel,
        col=1,
    )


def _add_totals(figure: go.Figure, group: pd.DataFrame, panel: int) -> None:
    """Write the length of each bar behind it."""
    texts = [f" {value:.3g}" for value in group["total_ms"]]
    stacks.add_ends(figure, group["total_ms"], texts, room=TEXT_ROOM, panel=panel)


def _row_name(arm: str, steps: str) -> str:
    """Return the tick label of a bar; its kinds of step stand below an arm's first bar."""
    return label(arm) if steps == "all" else f"<i>{steps} steps</i>"


FIGURE = FigureSpec(
    name="time_split",
    title="Where does the time of a step go?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="From a separate profiling pass of each arm, once, so without an interval; watching a step makes it slower. "
    "Factors: what a second-order arm spends on its curvature. The first bar of an arm is of all steps, plain and "
    "refresh ones combined by how often each comes; below it, where an arm has both, a plain step and one that "
    "refreshes the curvature. An arm that refreshes in every step, or has no curvature, has one bar.",
    is_of_the_study=True,
)
