"""The paper's numbers beside the measured ones, as far as these can be compared."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.answers.paper import ABSOLUTE, SAME, table
from reports.comparable import EFFICIENCY, EPOCHS_RATIO, GAIN, TIME_RATIO
from reports.figures.base import (
    NEUTRAL,
    ROW_PX,
    ArmStyle,
    FigureSpec,
    arm_rows,
    arm_styles,
    empty,
    label,
    log_axis,
    make_room,
    panels,
    row_px,
)
from reports.figures.headings import add_headings
from reports.frames import Frames
from reports.published import LR, PERPLEXITY

TITLES = {
    GAIN: "points over Adam",
    EPOCHS_RATIO: "epochs ÷ AdaFisher",
    TIME_RATIO: "time ÷ SGD's",
    EFFICIENCY: "scaling efficiency",
    LR: "learning rate (log)",
}
AT = {GAIN: 0.0, EPOCHS_RATIO: 1.0, TIME_RATIO: 1.0, EFFICIENCY: 1.0}
SCATTER_PX, GAP_PX = 330, 62
PUBLISHED = "published"
ASIDE = 0.16  # of a row: published numbers stand above its middle, measured ones below

PANEL = ["quantity", "scale", "variant"]


class Paper(NamedTuple):
    """The published and the measured numbers of each panel.

    Args:
        rows: Of the answer ``paper``, those with a measured number, and ``variant`` (``Cutout``, ``pretrained`` or
            empty; of gains, which the paper tells apart by it) and ``name`` of the row.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    arms: tuple[str, ...]


def data(frames: Frames) -> Paper:
    """Return what the study measured that is published too."""
    rows = table(frames)
    rows = rows[rows["measured"].notna() & rows["published"].notna()]
    variants = [_variant(*row) for row in rows[["quantity", "cutout", "pretrained"]].itertuples(index=False)]
    names = [_name(*row) for row in rows[["quantity", "arm", "relative_to", "num_workers"]].itertuples(index=False)]
    return Paper(rows.assign(variant=pd.Series(variants, rows.index, dtype="object"), name=names), frames.arms)


def plot(data: Paper) -> go.Figure:
    """Return a panel a quantity: numbers of the same workload against each other, others a row an arm."""
    groups = [(str(key[0]), str(key[1]), str(key[2]), own) for key, own in data.rows.groupby(PANEL, sort=False)]
    if not groups:
        return empty("Nothing was measured that the paper has published.")
    heights = [_height(quantity, own) for quantity, _, _, own in groups]
    y_titles = ["measured" if quantity in ABSOLUTE else "" for quantity, *_ in groups]
    px = sum(heights) // len(heights) + GAP_PX
    figure = panels(y_titles, [" "] * len(groups), panel_px=px, row_heights=heights)
    styles, named = arm_styles(data.arms), set[str]()
    for panel, (quantity, _, _, own) in enumerate(groups, start=1):
        if quantity in ABSOLUTE:
            _add_against(figure, own, styles, panel, named)
        else:
            _add_rows(figure, own, styles, panel, named)
    names = [name.partition("<br>")[0] for name in data.rows["name"].unique()]
    figure = make_room(figure.update_layout(showlegend=True), named)
    return add_headings(figure, [_heading(*group) for group in groups], names)


def _variant(quantity: str, cutout: str, pretrained: str) -> str:
    """Return what tells the tables of gains apart."""
    if quantity != GAIN:
        return ""
    return "pretrained" if pretrained == "yes" else "Cutout" if cutout == "yes" else ""


def _name(quantity: str, arm: str, relative_to: str, num_workers: float) -> str:
    """Return what a row is called."""
    if quantity == EPOCHS_RATIO:
        return f"{label(arm)}<br><i>÷ {label(relative_to)}</i>"
    return f"{label(arm)}<br><i>{num_workers:g} workers</i>" if quantity == EFFICIENCY else label(arm)


def _height(quantity: str, rows: pd.DataFrame) -> int:
    """Return the height of a panel."""
    if quantity in ABSOLUTE:
        return SCATTER_PX
    count = rows["name"].nunique()
    return count * (ROW_PX if rows["name"].str.contains("<br>").any() else row_px(count))


def _heading(quantity: str, scale: str, variant: str, rows: pd.DataFrame) -> str:
    """Return what a panel shows, and what may be compared in it."""
    title = TITLES.get(quantity, quantity) + (f", {variant}" if variant else "")
    doubt = ", untrusted" if (rows["trusted"] == "no").any() else ""
    short = "same workload" if scale == SAME else f"other {'budget' if scale.startswith(SAME) else 'workload'}"
    return f"{title}: {short}{doubt}"


def _add_rows(figure: go.Figure, rows: pd.DataFrame, styles: dict[str, ArmStyle], panel: int, named: set[str]) -> None:
    """Add a row an arm: the paper's numbers, as grey ticks, above the measured ones with their intervals."""
    names, quantity = list(rows["name"].unique()), rows["quantity"].iloc[0]
    arm_rows(figure, names, panel)
    theirs = rows.drop_duplicates(["name", "table", "dataset", "network", "published"])
    figure.add_scatter(
        x=theirs["published"],
        y=[names.index(name) - ASIDE for name in theirs["name"]],
        name=PUBLISHED,
        legendgroup=PUBLISHED,
        showlegend=PUBLISHED not in named,
        mode="markers",
        marker={"color": NEUTRAL, "symbol": "line-ns-open", "size": 11, "line_width": 2},
        customdata=list(_sources(theirs)),
        hovertemplate="published: %{x:.4g}<br>%{customdata}<extra></extra>",
        row=panel,
        col=1,
    )
    named.add(PUBLISHED)
    ours = rows.drop_duplicates(["name", "workload", "case", "num_workers"])
    for arm, own in ours.groupby("arm", sort=False):
        places = [names.index(name) + ASIDE for name in own["name"]]
        _add_measured(figure, own, styles[str(arm)], panel, {"x": own["measured"], "y": places})
    if quantity in AT:
        figure.add_vline(x=AT[quantity], row=panel, col=1, line={"width": 1, "dash": "dot", "color": NEUTRAL})
    if quantity == LR:
        figure.update_xaxes(**log_axis([*rows["published"], *rows["measured"]]) | {"dtick": 1}, row=panel)


def _add_against(
    figure: go.Figure, rows: pd.DataFrame, styles: dict[str, ArmStyle], panel: int, named: set[str]
) -> None:
    """Add measured numbers over published ones, and the line on which they are equal."""
    both = rows[["published", "measured"]].to_numpy(dtype="float64")
    ends = [float(both.min()), float(both.max())]
    line = {"color": NEUTRAL, "width": 1, "dash": "dot"}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, showlegend=False, hoverinfo="skip", row=panel, col=1)
    for arm, own in rows.groupby("arm", sort=False):
        at = {"x": own["published"], "y": own["measured"]}
        _add_measured(figure, own, styles[str(arm)], panel, at, is_against=True, show_name=arm not in named)
        named.add(str(arm))
    figure.update_xaxes(title_text="published", title_standoff=0, row=panel)
    if rows["quantity"].iloc[0] == PERPLEXITY:
        figure.update_xaxes(**log_axis(ends), row=panel)
        figure.update_yaxes(**log_axis(ends), row=panel)


def _add_measured(
    figure: go.Figure,
    rows: pd.DataFrame,
    style: ArmStyle,
    panel: int,
    at: dict[str, Any],
    *,
    is_against: bool = False,
    show_name: bool = False,
) -> None:
    """Add measured numbers of an arm with their intervals."""
    interval = {
        "array": rows["measured_high"] - rows["measured"],
        "arrayminus": rows["measured"] - rows["measured_low"],
        "color": style.color,
        "thickness": 1.2,
        "width": 3,
    }
    arm = str(rows["arm"].iloc[0])
    figure.add_scatter(
        **at,
        **{"error_y" if is_against else "error_x": interval},
        name=label(arm),
        legendgroup=arm,
        showlegend=show_name,
        mode="markers",
        marker={"color": style.color, "symbol": style.symbol, "size": 9},
        customdata=list(_conditions(rows)),
        hovertemplate=f"%{{fullData.name}}: measured %{{{'y' if is_against else 'x'}:.4g}}<br>%{{customdata}}"
        "<extra></extra>",
        row=panel,
        col=1,
    )


def _sources(rows: pd.DataFrame) -> Iterator[str]:
    """Yield where published numbers stand."""
    for texts in rows[["table", "optimizer", "dataset", "network"]].itertuples(index=False):
        yield label(", ".join(filter(None, map(str, texts))))


def _conditions(rows: pd.DataFrame) -> Iterator[str]:
    """Yield where numbers were measured, and over how many runs."""
    for workload, case, runs, lost in rows[["workload", "case", "num_runs", "num_lost"]].itertuples(index=False):
        place = label(", ".join(filter(None, (workload, case))))
        yield f"{place}: {runs} runs" + (f", {lost} lost" if pd.notna(lost) and lost else "")


FIGURE = FigureSpec(
    name="paper",
    title="How do the measured numbers stand beside the published ones?",
    good="Near each other is a replication.",
    data=data,
    plot=plot,
    note='Published: "AdaFisher", ICLR 2025, a tick a network, data set and table; selected on the test split. '
    "Measured: a mark a case with its 95 % interval over the seeds (learning rates: of the best trial); test at the "
    "end, selected on validation. The heading says what may be compared: of the same workload, numbers themselves; of "
    "another workload or budget relative figures alone, and there a difference may be the workload's or the machine's "
    "as well as the method's. Points over Adam: of top-1 accuracy, for transformers over AdamW; epochs: in the same "
    "time; time: of the same epochs. Untrusted: the study's times failed a check. adafisher is the paper's equations, "
    "adafisher-released the authors' code; the published AdaFisher stands beside both. Cases that vary the "
    "hyperparameters, batch size or schedule have no gains here.",
    is_of_the_study=True,
)
