"""How diagonal the full Kronecker factors of two layers are (Figs 3, 7, 8, 9)."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import stats
from reports.answers.findings import KEYS, of_the_race
from reports.answers.kronecker import PREFIX
from reports.figures.bands import add_band, band
from reports.figures.base import (
    NEUTRAL,
    ArmStyle,
    FigureSpec,
    arm_rows,
    arm_styles,
    beside,
    empty,
    label,
    log_axis,
    make_room,
    panels,
)
from reports.figures.headings import add_headings
from reports.figures.places import Place, left_out, of_place, places
from reports.frames import Frames

QUANTITIES = {
    "diagonal_share": "share of the energy on the diagonal",
    "discs_excluding_0": "share of the Gershgorin discs without 0",
    "snr_db": "diagonal ÷ the triangle above it (dB)",
    "kaiser_shift": "eigenvalues moved by noise (relative, log)",
}
DISCS = ("gershgorin_center", "gershgorin_radius")
FACTOR = ["layer", "factor"]
SHARES = ("diagonal_share", "discs_excluding_0")
RANK = "rank of the disc by center, largest first"
FACTOR_PX, CURVE_PX, GAP_PX = 52, 150, 62
DODGE = 0.7  # of a row, over which the arms stand below each other
MAX_CURVE = 30  # points


class Structure(NamedTuple):
    """The structure of the factors.

    Args:
        rows: Columns workload, case, arm, layer, factor, quantity, moment, frac (of training), mean, low, high.
        sizes: Side of each factor by layer and factor.
        discs: Columns workload, case, arm, layer, factor, x (rank of the row over their number, from the largest
            center), mean, low, high (radius over center): at the last moment.
        place: Workload and case that are drawn.
        num_left_out: Cases that are not.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    sizes: dict[tuple[str, str], float]
    discs: pd.DataFrame
    place: Place
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> Structure:
    """Return the numbers of the factors, and their discs where they were stored, of the first case that has any."""
    found = _named(of_the_race(frames.metrics, frames, PREFIX))
    place, *others = places(frames, found) or [("", "")]
    own = of_place(found, place)
    sides = own[own["quantity"] == "size"]
    sizes = {(layer, factor): value for layer, factor, value in sides[[*FACTOR, "value"]].itertuples(index=False)}
    kept = own[own["quantity"].isin(QUANTITIES) & ~_is_drowned(own)]
    rows = [
        dict(zip([*KEYS, *FACTOR, "quantity", "moment"], key, strict=True))
        | {"frac": group["frac"].mean(), "mean": estimate.mean, "low": estimate.low, "high": estimate.high}
        for key, group in kept.groupby([*KEYS, *FACTOR, "quantity", "moment"])
        for estimate in [stats.estimate(group["value"])]
    ]
    columns = [*KEYS, *FACTOR, "quantity", "moment", "frac", "mean", "low", "high"]
    discs = _discs(of_place(_named(of_the_race(_stored(frames), frames, PREFIX)), place))
    return Structure(pd.DataFrame(rows, columns=columns), sizes, discs, place, len(others), frames.arms)


def plot(data: Structure) -> go.Figure:
    """Return a panel a quantity with a row a factor, and below them the discs of each factor."""
    rows = data.rows.dropna(subset="mean")
    if rows.empty:
        return empty("No run looked at its full Kronecker factors.")
    shown = [quantity for quantity in QUANTITIES if (rows["quantity"] == quantity).any()]
    factors = sorted({*rows[FACTOR].itertuples(index=False, name=None)})
    curves = [factor for factor in factors if len(_of(data.discs, factor))]
    figure = _figure(len(shown), len(curves), len(factors), left_out(data.num_left_out))
    styles, named = arm_styles(data.arms), set[str]()
    for panel, quantity in enumerate(shown, start=1):
        own = rows[rows["quantity"] == quantity]
        arm_rows(figure, [_name(factor, data.sizes) for factor in factors], panel)
        _add_quantity(figure, own, factors, styles, panel=panel, named=named)
        figure.update_xaxes(**_axis(quantity, own), row=panel)
    for panel, factor in enumerate(curves, start=len(shown) + 1):
        _add_discs(figure, _of(data.discs, factor), styles, panel)
    headings = [QUANTITIES[quantity] for quantity in shown]
    headings += [f"Gershgorin discs at the end: {_text(factor)}" for factor in curves]
    figure = make_room(figure.update_layout(showlegend=True), named)
    return add_headings(figure, headings, [_text(factor) for factor in factors])


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the parts of their names."""
    parts = rows["name"].astype("object").str.rsplit("/", n=2)
    return rows.assign(**{column: parts.str[place] for place, column in enumerate([*FACTOR, "quantity"])})


def _is_drowned(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows say what noise does to a factor that is smaller than the noise."""
    noise = rows[rows["quantity"] == "noise_over_diagonal"]
    drowned = {*noise.loc[noise["value"] > 1, ["run_id", "moment", *FACTOR]].itertuples(index=False, name=None)}
    keys = rows[["run_id", "moment", *FACTOR]].itertuples(index=False, name=None)
    return (rows["quantity"] == "kaiser_shift") & pd.Series([key in drowned for key in keys], rows.index, dtype=bool)


def _stored(frames: Frames) -> pd.DataFrame:
    """Return the stored discs; the other arrays are large."""
    return frames.arrays[frames.arrays["name"].astype("object").str.endswith(DISCS, na=False)]


def _discs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the radius of each disc over its center, at the last moment of each run, thinned out."""
    last = rows[rows["moment"] == rows.groupby("run_id")["moment"].transform("max")]
    wide = last.pivot_table(index=[*KEYS, *FACTOR, "run_id", "row"], columns="quantity", values="value")
    columns = [*KEYS, *FACTOR, "x", "mean", "low", "high"]
    if not {*DISCS} <= {*wide.columns}:
        return pd.DataFrame(columns=columns)
    ratio = (wide["gershgorin_radius"] / wide["gershgorin_center"]).rename("y").reset_index()
    lines = []
    for key, own in ratio.groupby([*KEYS, *FACTOR]):
        runs = [_thinned(run) for _, run in own.groupby("run_id")]
        lines.append(band(runs, "x", "y").assign(**dict(zip([*KEYS, *FACTOR], map(str, key), strict=True))))
    return pd.concat(lines, ignore_index=True)[columns].round(4)


def _thinned(run: pd.DataFrame) -> pd.DataFrame:
    """Return at most so many discs of a factor, evenly spaced by rank; ``x`` is the rank, from 0 to 1."""
    kept = run.iloc[np.unique(np.linspace(0, len(run) - 1, min(len(run), MAX_CURVE)).round().astype(int))]
    return kept.assign(x=kept["row"] / max(1.0, run["row"].max()))


def _figure(num_quantities: int, num_curves: int, num_factors: int, note: str) -> go.Figure:
    """Return the panels: lists of factors above curves."""
    heights = [FACTOR_PX * num_factors] * num_quantities + [CURVE_PX] * num_curves
    x_titles = [" "] * (len(heights) - 1) + [(RANK if num_curves else "") + note or " "]
    y_titles = [""] * num_quantities + ["radius ÷ center (log)"] * num_curves
    px = sum(heights) // len(heights) + GAP_PX
    return panels(y_titles, x_titles, panel_px=px, row_heights=heights)


def _of(rows: pd.DataFrame, factor: tuple[str, str]) -> pd.DataFrame:
    """Return the rows of a factor."""
    return rows[(rows["layer"] == factor[0]) & (rows["factor"] == factor[1])]


def _text(factor: tuple[str, str]) -> str:
    """Return what a factor is called."""
    return f"{label(factor[0].replace('_', ' '))}, {label(factor[1])}"


def _name(factor: tuple[str, str], sizes: dict[tuple[str, str], float]) -> str:
    """Return the tick label of a factor, with its size on a second line."""
    size = sizes.get(factor)
    return _text(factor) + (f"<br><i>{size:,.0f} × {size:,.0f}</i>" if size else "")


def _axis(quantity: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the settings of a quantity's axis: shares from 0 to 1."""
    if quantity == "kaiser_shift":
        return log_axis(rows["mean"]) | {"dtick": 1, "tickangle": 0}
    return {"range": [-0.03, 1.03]} if quantity in SHARES else {}


def _add_quantity(
    figure: go.Figure,
    rows: pd.DataFrame,
    factors: list[tuple[str, str]],
    styles: dict[str, ArmStyle],
    *,
    panel: int,
    named: set[str],
) -> None:
    """Add the means of each arm with their intervals: full at the last moment, open before."""
    arms = [arm for arm in styles if (rows["arm"] == arm).any()]
    shifts = beside(arms, DODGE)
    for arm in arms:
        own, style = rows[rows["arm"] == arm].sort_values("moment", ascending=False), styles[arm]
        places = [factors.index(factor) for factor in own[FACTOR].itertuples(index=False, name=None)]
        is_last = own["moment"] == own["moment"].max()
        figure.add_scatter(
            x=own["mean"],
            y=np.array(places) + shifts[arm],
            error_x={
                "array": own["high"] - own["mean"],
                "arrayminus": own["mean"] - own["low"],
                "color": style.color,
                "thickness": 1,
                "width": 3,
            },
            name=label(arm),
            legendgroup=arm,
            showlegend=arm not in named,
            mode="markers",
            marker={
                "color": style.color,
                "symbol": np.where(is_last, style.symbol, f"{style.symbol}-open").tolist(),
                "size": 9,
            },
            customdata=own["frac"],
            hovertemplate="%{fullData.name}, after %{customdata:.0%} of training: %{x:.4g}<extra></extra>",
            row=panel,
            col=1,
        )
        named.add(arm)


def _add_discs(figure: go.Figure, lines: pd.DataFrame, styles: dict[str, ArmStyle], panel: int) -> None:
    """Add the discs of a factor: below the line at 1 they do not contain 0."""
    for arm, style in styles.items():
        add_band(figure, lines[lines["arm"] == arm], arm, style, row=panel, show_name=False)
    figure.update_yaxes(**log_axis([1.0, *lines["low"], *lines["high"]]), row=panel)
    figure.update_xaxes(range=[0, 1], row=panel)
    figure.add_hline(y=1, row=panel, col=1, line={"width": 1, "dash": "dot", "color": NEUTRAL})


FIGURE = FigureSpec(
    name="kronecker",
    title="How diagonal are the full Kronecker factors?",
    good="The more diagonal, the more of a factor AdaFisher keeps: shares near 1, decibels high, eigenvalues unmoved.",
    data=data,
    plot=plot,
    note="H is of a layer's inputs, S of the gradients at its outputs; full marks: at the end, open ones: before. "
    "Bars: 95 % interval over the seeds. The share of the energy is the one number that says how diagonal a factor is: "
    "1 if it is diagonal, 1/N if all its N² entries are equal. A Gershgorin disc whose radius is above its center, "
    "above the dotted line, contains 0 (lines: mean over the seeds, bands: lowest to highest; a disc without a center "
    "is left out). Decibels (Eq. 6, without noise) count one triangle only, which flatters by 3. The noise off the "
    "diagonal that moves eigenvalues is 10⁻³ whatever the factor: left out where that is more than the diagonal.",
    is_of_the_race=True,
    is_of_the_study=True,
)
