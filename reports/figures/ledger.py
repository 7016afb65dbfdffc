"""What memory is held at the instant of the peak, by what it is for."""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers import memory as answer
from reports.figures import stacks
from reports.figures.base import ROW_PX, FigureSpec, arm_rows, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.frames import Frames
from reports.text import count

MAX_BARS = 24
TEXT_ROOM = 1.7  # of the axis, for what is written behind the bars
PARTS = tuple(name.removesuffix("_bytes") for name in answer.PARTS if name != "peak_bytes")
NAMES = {part: part.replace("_", " ") for part in PARTS}
STYLES = {
    "parameters": stacks.YELLOW,
    "gradients": stacks.PEAR,
    "optimizer_state": stacks.PINK,
    "factors": stacks.ORANGE,
    "activations": stacks.CYAN,
    "temporaries": stacks.GREY,
}
PREDICTED = "predicted peak"
SMALL_ERROR = 5e-4  # of a prediction, below which its sign says nothing

_BATCH = re.compile(r"[,;\s]*\bbatch(?: size)?[ =]\d+\b")
_UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}


class Ledger(NamedTuple):
    """The ledgers of the arms at the largest batch of each family of cases.

    Args:
        bars: Columns family, batch_size, arm, the bytes of each of :data:`PARTS`, peak, predicted, error (of the
            prediction, relative), num_runs, num_lost; NaN where nothing was measured or predicted.
        num_left_out: Rows that there is no room for.
    """

    bars: pd.DataFrame
    num_left_out: int


def measured(frames: Frames) -> pd.DataFrame:
    """Return the rows of the memory table that say something, with ``family``: workload and case without its batch."""
    table = answer.table(frames)
    numbers = table.filter(regex="_bytes$").astype("float64").rename(columns=lambda name: name.removesuffix("_bytes"))
    pairs = zip(table["workload"], table["case"], strict=True)
    families = [", ".join(filter(None, (workload, _BATCH.sub("", case).strip(" ,;")))) for workload, case in pairs]
    rows = pd.concat(
        [table[["arm", "batch_size", "num_runs", "num_lost"]].astype({"batch_size": float}), numbers], axis=1
    )
    rows = rows.rename(columns={"predicted_peak": "predicted"})
    rows = rows.assign(family=np.array(families, dtype=object), error=table["prediction_error"])
    return rows[rows[["peak", "predicted"]].notna().any(axis=1) & rows["batch_size"].notna()]


def unit_of(most: float) -> tuple[str, float]:
    """Return the unit in which so many bytes are read best, and its bytes."""
    return next(((name, size) for name, size in _UNITS.items() if most >= size), ("bytes", 1.0))


def data(frames: Frames) -> Ledger:
    """Return the rows of the largest batch of each family."""
    rows = measured(frames)
    largest = rows[rows["batch_size"] == rows.groupby("family")["batch_size"].transform("max")]
    wanted = largest.sort_values(["family", "arm"], ignore_index=True)
    ends = wanted.groupby("family").size().cumsum()
    fitting = wanted[wanted["family"].isin(ends[ends <= MAX_BARS].index)]
    bars = fitting if len(fitting) else wanted.head(MAX_BARS)
    columns = ["family", "batch_size", "arm", *PARTS, "peak", "predicted", "error", "num_runs", "num_lost"]
    return Ledger(bars[columns], len(wanted) - len(bars))


def plot(data: Ledger) -> go.Figure:
    """Return a panel a family, with a stacked bar an arm."""
    bars, left_out = data
    if bars.empty:
        return empty("The memory of a step was neither measured nor predicted.")
    unit, size = unit_of(float(bars[["peak", "predicted"]].max().max()))
    groups = [group for _, group in bars.groupby("family", sort=False)]
    more = f" ({count(left_out, 'more bar')} in the table)" if left_out else ""
    x_titles = [*[" "] * (len(groups) - 1), f"{unit} at the peak{more}"]
    panel_px = ROW_PX * len(bars) // len(groups)
    figure = panels([""] * len(groups), x_titles, panel_px=panel_px, row_heights=[len(group) for group in groups])
    for panel, group in enumerate(groups, start=1):
        for part in PARTS:
            _add_part(figure, group, part, size, panel)
        _add_predicted(figure, group, size, panel)
        _add_totals(figure, group, size, panel)
        arm_rows(figure, [label(arm) for arm in group["arm"]], panel)
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    headings = [f"{label(group['family'].iloc[0])}: batch {group['batch_size'].iloc[0]:.0f}" for group in groups]
    return make_room(add_headings(figure, headings, bars["arm"]), [*NAMES.values(), PREDICTED])


def _add_part(figure: go.Figure, group: pd.DataFrame, part: str, size: float, panel: int) -> None:
    """Add one category of every bar of a panel."""
    shares = group[part] / group["peak"]
    figure.add_bar(
        x=group[part] / size,
        y=list(range(len(group))),
        name=NAMES[part],
        orientation="h",
        width=0.6,
        marker=stacks.hatched(STYLES[part]),
        legendgroup=part,
        showlegend=panel == 1,
        customdata=[[label(arm), share] for arm, share in zip(group["arm"], shares, strict=True)],
        hovertemplate="%{customdata[0]}: %{fullData.name} %{x:.4g}, %{customdata[1]:.1%}<extra></extra>",
        row=panel,
        col=1,
    )


def _add_predicted(figure: go.Figure, group: pd.DataFrame, size: float, panel: int) -> None:
    """Mark the predicted peaks."""
    figure.add_scatter(
        x=group["predicted"] / size,
        y=list(range(len(group))),
        name=PREDICTED,
        mode="markers",
        marker={"symbol": "diamond", "size": 9, "color": "#FFFFFF", "line": {"color": stacks.INK, "width": 1.5}},
        legendgroup=PREDICTED,
        showlegend=panel == 1,
        customdata=[label(arm) for arm in group["arm"]],
        hovertemplate="%{customdata}: predicted %{x:.4g}<extra></extra>",
        row=panel,
        col=1,
    )


def _add_totals(figure: go.Figure, group: pd.DataFrame, size: float, panel: int) -> None:
    """Write each peak behind its bar, with the error of its prediction and the lost runs."""
    ends = group[["peak", "predicted"]].max(axis=1) / size
    texts = [f"   {_told(row, size)}" for row in group.itertuples()]
    stacks.add_ends(figure, ends, texts, room=TEXT_ROOM, panel=panel)


def _told(row: Any, size: float) -> str:
    """Return what is written behind a bar: its length, what was lost, and how far the prediction is off."""
    lost = [f"{row.num_lost} of {row.num_runs} lost"] if row.num_lost else []
    if np.isnan(row.peak):
        return "<br>   ".join(lost) or "not run"
    off = "not predicted" if np.isnan(row.error) else f"error {row.error:+.1%}"
    if abs(row.error) < SMALL_ERROR:
        off = "error under 0.1%"
    return "<br>   ".join([", ".join([f"{row.peak / size:.3g}", *lost]), off])


FIGURE = FigureSpec(
    name="ledger",
    title="What is the memory of a step spent on?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="Every byte that tensors hold at the instant of the peak, by what it is for, at the largest batch that was "
    "run; of the run of each arm with the largest peak. A category that is small here may be large at another "
    "instant. Diamonds: the peak predicted without running the step. Behind each bar the peak, and the error "
    "of the prediction relative to it. What libraries and the allocator take besides is in the table.",
    is_of_the_study=True,
)
