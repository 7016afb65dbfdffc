"""How the entries of the Fisher diagonal of three layers are distributed over training (Figs 4, 11)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers.findings import KEYS, of_the_race
from reports.answers.fisher_histograms import PREFIX, QUANTILES, quantile
from reports.figures.base import ArmStyle, FigureSpec, arm_styles, beside, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.figures.places import Place, left_out, of_place, place_name, places
from reports.frames import Frames

DIAGONALS = {"true": "exact Fisher", "estimate": "what the optimizer holds"}
MAX_PANELS = 6
PANEL_PX = 190
DODGE = 0.6  # of the gap between moments, over which the arms stand side by side


class Histograms(NamedTuple):
    """The distributions, as decades of quantiles.

    Args:
        rows: Columns workload, case, arm, layer, diagonal, moment, frac (of training), p05, median, p95 (base-10
            logarithms, mean over the seeds; what is beyond the histogram's edges lies on them), num_runs.
        medians: Columns workload, case, arm, layer, diagonal, moment, median: a row a seed.
        places: Workload and case of each group of panels.
        num_left_out: Cases that are not drawn.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    medians: pd.DataFrame
    places: tuple[Place, ...]
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> Histograms:
    """Return the quantiles of every histogram of the runs that finished, over the seeds."""
    entries = of_the_race(frames.arrays, frames, PREFIX)
    columns = [*KEYS, "layer", "diagonal", "moment", "frac", *QUANTILES]
    seeds = pd.DataFrame(list(_seeds(entries)), columns=columns)
    found = places(frames, seeds)
    num_panels = max(1, seeds.groupby(["layer", "diagonal"]).ngroups)
    num_drawn = max(1, MAX_PANELS // num_panels)
    keys = [*KEYS, "layer", "diagonal", "moment"]
    means = seeds.groupby(keys, as_index=False)[["frac", *QUANTILES]].mean()
    counts = seeds.groupby(keys, as_index=False).size()
    rows = means.assign(num_runs=counts["size"])
    return Histograms(rows, seeds[[*keys, "median"]], tuple(found[:num_drawn]), len(found[num_drawn:]), frames.arms)


def plot(data: Histograms) -> go.Figure:
    """Return a panel a layer and diagonal, with an interval an arm and moment."""
    if data.rows.empty:
        return empty("No run recorded histograms of its Fisher diagonal.")
    groups = [
        (place, str(layer), diagonal)
        for place in data.places
        for diagonal in DIAGONALS
        for layer in sorted(of_place(data.rows, place)["layer"].unique(), key=_depth)
        if len(_of(of_place(data.rows, place), layer, diagonal))
    ]
    x_titles = [*[" "] * (len(groups) - 1), f"fraction of training{left_out(data.num_left_out)}"]
    figure = panels(["entries of the diagonal"] * len(groups), x_titles, panel_px=PANEL_PX)
    styles, named = arm_styles(data.arms), set[str]()
    for row, (place, layer, diagonal) in enumerate(groups, start=1):
        rows, medians = (_of(of_place(table, place), layer, diagonal) for table in (data.rows, data.medians))
        shifts = _shifts(rows)
        for arm, own in rows.groupby("arm"):
            seeds = medians[medians["arm"] == arm].merge(own[["moment", "frac"]], on="moment")
            _add_arm(figure, own, seeds, (str(arm), styles[str(arm)]), shift=shifts[str(arm)], row=row, named=named)
        ticks = rows.groupby("moment")["frac"].mean().round(2).tolist()
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], row=row)
    figure.update_yaxes(tickprefix="10<sup>", ticksuffix="</sup>", zeroline=False, nticks=6)
    headings = [_heading(place, layer, diagonal, data.places) for place, layer, diagonal in groups]
    return add_headings(make_room(figure.update_layout(showlegend=True), named), headings)


def _seeds(entries: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the quantiles of each histogram, within the edges."""
    is_edge = entries["name"] == "edges"
    edges = entries[is_edge].drop_duplicates("row").sort_values("row")["value"].to_numpy(dtype="float64")
    limits = np.log10(edges[[0, -1]]) if len(edges) else []
    for key, own in entries[~is_edge].groupby([*KEYS, "name", "moment", "run_id"]):
        cells = dict(zip([*KEYS, "name", "moment"], key, strict=False))
        bins = own.sort_values("row")["value"].to_numpy(dtype="float64")
        layer, _, diagonal = str(cells["name"]).rpartition("/")
        if len(bins) == len(edges) + 1 and bins.sum():
            decades = {name: float(np.clip(quantile(bins, edges, q), *limits)) for name, q in QUANTILES.items()}
            yield cells | {"layer": layer, "diagonal": diagonal, "frac": own["frac"].iloc[0], **decades}


def _of(rows: pd.DataFrame, layer: str, diagonal: str) -> pd.DataFrame:
    """Return the rows of a panel."""
    return rows[(rows["layer"] == layer) & (rows["diagonal"] == diagonal)]


def _depth(layer: str) -> tuple[int, str]:
    """Return where a layer stands: first, middle, last."""
    order = ["first", "middle", "last"]
    place = layer.partition("_")[0]
    return (order.index(place) if place in order else len(order)), layer


def _shifts(rows: pd.DataFrame) -> dict[str, float]:
    """Return how far beside its moment each arm stands."""
    arms, moments = sorted(rows["arm"].unique()), np.unique(rows["frac"].round(2))
    gap = float(np.diff(moments).min()) if len(moments) > 1 else 0.1
    return beside(arms, DODGE * gap)


def _heading(place: Place, layer: str, diagonal: str, others: tuple[Place, ...]) -> str:
    """Return what a panel shows."""
    of_case = place_name(place, others)
    return f"{label(layer.replace('_', ' '))}: {DIAGONALS[diagonal]}" + (f", {of_case}" if of_case else "")


def _add_arm(
    figure: go.Figure,
    rows: pd.DataFrame,
    seeds: pd.DataFrame,
    arm: tuple[str, ArmStyle],
    *,
    shift: float,
    row: int,
    named: set[str],
) -> None:
    """Add an arm's intervals with their medians, and the medians of single seeds, open and small."""
    name, style = arm
    shared = {"name": label(name), "legendgroup": name, "mode": "markers", "row": row, "col": 1}
    marker = {"color": style.color, "symbol": style.symbol, "size": 9}
    if rows["num_runs"].max() > 1:
        figure.add_scatter(
            x=seeds["frac"] + shift,
            y=seeds["median"],
            marker=marker | {"symbol": f"{style.symbol}-open", "size": 5},
            showlegend=False,
            hovertemplate="%{fullData.name}, one seed: median 10<sup>%{y:.2f}</sup><extra></extra>",
            **shared,
        )
    figure.add_scatter(
        x=rows["frac"] + shift,
        y=rows["median"],
        error_y={
            "array": rows["p95"] - rows["median"],
            "arrayminus": rows["median"] - rows["p05"],
            "color": style.color,
            "width": 3,
        },
        marker=marker,
        showlegend=name not in named,
        customdata=rows[["p05", "p95"]],
        hovertemplate="%{fullData.name}: median 10<sup>%{y:.2f}</sup>, 5 % to 95 % of the entries "
        "10<sup>%{customdata[0]:.2f}</sup> to 10<sup>%{customdata[1]:.2f}</sup><extra></extra>",
        **shared,
    )
    named.add(name)


FIGURE = FigureSpec(
    name="fisher_histograms",
    title="How is the Fisher diagonal distributed, and how does it move?",
    good="A short interval is a narrow distribution; that is neither good nor bad.",
    data=data,
    plot=plot,
    note="Of each layer's entries, weight and bias together: the median, and from the 5th to the 95th percentile, mean "
    "over the seeds (of the logarithms). The interval says how far entries are apart, not how sure it is; small open "
    "marks are the medians of single seeds. Entries below 10⁻¹², zeros among them, lie at 10⁻¹². What an optimizer "
    "holds has a scale of its own (AdaFisher's F̃ lies between its damping λ and 1 + λ), so compare its shape and its "
    "way with the exact one, not its height. Optimizers that hold no diagonal are absent there.",
    is_of_the_race=True,
    is_of_the_study=True,
)
