"""What a model fitted to the measured steps says of more workers."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers import projection as answer
from reports.answers.base import frame_of
from reports.figures.bands import add_outline
from reports.figures.base import NEUTRAL, ArmStyle, FigureSpec, arm_styles, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.figures.scaling import DISTRUST
from reports.frames import Frames
from reports.scaling import groups
from reports.scaling import points as points_of
from reports.text import count
from reports.trust import is_trusted

MAX_PANELS = 12
PANEL_PX = 150
PLACE = ["workload", "arm", "num_threads", "batch_size"]
MARGIN = 1.4  # of the axis beyond its points, as a factor
# What the legend says, by how it is drawn.
KEY: dict[str, dict[str, Any]] = {
    "measured": {"mode": "markers", "marker": {"color": NEUTRAL, "size": 9}},
    "model": {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dash", "width": 2}},
    "not identified": {"mode": "markers", "marker": {"color": NEUTRAL, "symbol": "circle-open", "size": 8}},
    "all that agrees": {
        "mode": "markers",
        "marker": {"color": "rgba(138,138,138,0.3)", "symbol": "square", "size": 12},
    },
    "ideal": {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dot", "width": 1}},
}


class Projection(NamedTuple):
    """The measured and the projected steps under strong scaling.

    Args:
        points: Columns workload, arm, num_threads, batch_size, num_workers, measured_ms (NaN of the projected),
            model_ms, low_ms and high_ms (of the projected: all that agrees with the measurements; infinite where
            nothing bounds it), is_identified, stop (the fewest workers of which twice as many hardly pay, in words).
        is_trusted: Whether the study's times passed every check.
        num_left_out: Panels that there is no room for.
        arms: All arms of the study.
    """

    points: pd.DataFrame
    is_trusted: bool
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> Projection:
    """Return the points of each arm and batch that was measured on several numbers of workers and projected.

    Args:
        frames: Of a whole study.

    Returns:
        Where there is no room for all, of each arm the largest batches.
    """
    is_scaled = any(True for _ in groups(points_of(frames), "strong"))
    table = answer.table(frames) if is_scaled else frame_of([], answer.COLUMNS)
    is_projected = table["kind"] == "projected"
    points = pd.DataFrame({
        **{name: table[name] for name in (*PLACE, "num_workers")},
        "measured_ms": 1e3 * table["measured_step_s"],
        "model_ms": 1e3 * table["model_step_s"],
        "low_ms": 1e3 * table["model_low_step_s"].fillna(0.0).where(is_projected),
        "high_ms": 1e3 * table["model_high_step_s"].fillna(np.inf).where(is_projected),
        "is_identified": table["identified"] == "yes",
        "stop": table["saturated_at_workers"],
    })
    own = points.groupby(PLACE)
    points = points[(own["measured_ms"].transform("count") > 1) & (own["high_ms"].transform("count") > 0)]
    places = points[PLACE].drop_duplicates()
    turn = places.groupby(PLACE[:-1])["batch_size"].rank(ascending=False)
    shown = places.loc[turn.sort_values(kind="stable").index[:MAX_PANELS]]
    kept = points.merge(shown, on=PLACE)
    return Projection(kept, is_trusted(frames), max(0, len(places) - MAX_PANELS), frames.arms)


def plot(data: Projection) -> go.Figure:
    """Return a panel an arm and batch, all on the same axes."""
    if data.points.empty:
        return empty("No arm was measured on several numbers of workers: there is nothing to project from.")
    panes = [group.sort_values("num_workers") for _, group in data.points.groupby(PLACE, sort=False)]
    more = f" ({count(data.num_left_out, 'more panel')} in the table)" if data.num_left_out else ""
    x_titles = [*[" "] * (len(panes) - 1), f"data-parallel workers (log){more}"]
    figure = panels(["ms a step"] * len(panes), x_titles, panel_px=PANEL_PX)
    styles, bounds = arm_styles(data.arms), _bounds(data.points)
    for panel, group in enumerate(panes, start=1):
        style = styles[str(group["arm"].iloc[0])]
        _add_ideal(figure, group, panel)
        _add_range(figure, group, style, bounds, panel)
        _add_points(figure, group, style, panel)
    for name, drawn in KEY.items():
        figure.add_scatter(x=[None], y=[None], name=name, legendgroup=name, **drawn, row=1, col=1)
    workers = sorted(data.points["num_workers"].unique())
    figure.update_xaxes(type="log", tickmode="array", tickvals=workers, ticktext=[f"{k:g}" for k in workers])
    figure.update_yaxes(type="log", tickformat="~g", dtick=1, range=[float(np.log10(bound)) for bound in bounds])
    headings = [_heading(group, data.points) for group in panes]
    if not data.is_trusted:
        headings[0] = f"<i>{DISTRUST}</i><br>{headings[0]}"
    return make_room(add_headings(figure, headings), KEY)


def _bounds(points: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the y axis: of all that is known, but not of what nothing bounds."""
    values = points[["measured_ms", "model_ms", "low_ms", "high_ms"]].to_numpy(dtype="float64")
    known = values[np.isfinite(values) & (values > 0)]
    return float(known.min() / MARGIN), float(known.max() * MARGIN)


def _heading(group: pd.DataFrame, points: pd.DataFrame) -> str:
    """Return what stands above a panel."""
    row = group.iloc[-1]
    stop = "beyond 64 workers, if ever" if row["stop"] == "none" else row["stop"] or "unknown"
    workload = f"{label(row['workload'])}, " if points["workload"].nunique() > 1 else ""
    threads = f", {count(int(row['num_threads']), 'thread')} each" if points["num_threads"].nunique() > 1 else ""
    return f"{workload}{label(row['arm'])}, batch {row['batch_size']}{threads}</b><br>stops paying: {stop}<b>"


def _add_ideal(figure: go.Figure, group: pd.DataFrame, panel: int) -> None:
    """Add the line on which twice as many workers take half as long, from the fewest that were measured."""
    first = group[group["measured_ms"].notna()].iloc[0]
    figure.add_scatter(
        x=group["num_workers"],
        y=first["measured_ms"] * first["num_workers"] / group["num_workers"].astype("float64"),
        mode="lines",
        line=KEY["ideal"]["line"],
        legendgroup=str(first["arm"]),
        showlegend=False,
        hoverinfo="skip",
        row=panel,
        col=1,
    )


def _add_range(
    figure: go.Figure, group: pd.DataFrame, style: ArmStyle, bounds: tuple[float, float], panel: int
) -> None:
    """Add the band of all that agrees with the measurements; what nothing bounds ends beyond the axis."""
    beyond = group[group["high_ms"].notna()]
    band = pd.DataFrame({
        "x": beyond["num_workers"],
        "low": beyond["low_ms"].clip(lower=bounds[0] / MARGIN),
        "high": beyond["high_ms"].clip(upper=bounds[1] * MARGIN),
    })
    add_outline(figure, band, str(group["arm"].iloc[0]), style, row=panel)


def _add_points(figure: go.Figure, group: pd.DataFrame, style: ArmStyle, panel: int) -> None:
    """Add the model's line, its projections, and what was measured."""
    arm = str(group["arm"].iloc[0])
    is_measured = group["measured_ms"].notna()
    shared = {"name": label(arm), "legendgroup": arm, "showlegend": False, "row": panel, "col": 1}
    beyond = group[~is_measured]
    figure.add_scatter(
        x=group["num_workers"],
        y=group["model_ms"],
        mode="lines",
        line={"color": style.color, "dash": "dash", "width": 2},
        hoverinfo="skip",
        **shared,
    )
    figure.add_scatter(
        x=beyond["num_workers"],
        y=beyond["model_ms"],
        mode="markers",
        marker={
            "color": style.color,
            "symbol": [style.symbol + ("" if known else "-open") for known in beyond["is_identified"]],
            "size": 8,
        },
        customdata=[
            [f"{row.low_ms:.3g} to {row.high_ms:.3g}", "identified" if row.is_identified else "not identified"]
            for row in beyond.itertuples()
        ],
        hovertemplate="%{fullData.name}, %{x} workers: %{y:.3g} by the best fit, all that agrees %{customdata[0]}, "
        "%{customdata[1]}<extra></extra>",
        **shared,
    )
    figure.add_scatter(
        x=group.loc[is_measured, "num_workers"],
        y=group.loc[is_measured, "measured_ms"],
        mode="markers",
        marker={"color": style.color, "symbol": style.symbol, "size": 10},
        hovertemplate="%{fullData.name}, %{x} workers: %{y:.3g} measured<extra></extra>",
        **shared,
    )


FIGURE = FigureSpec(
    name="projection",
    title="What would more workers gain?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="Strong scaling: the batch over all workers stays. Large marks were measured; the dashed line is a model of "
    "computing and of a ring of messages, fitted to them. Shaded: all that the model allows within the errors of the "
    "measurements; where that is wide, the figure is not identified (open marks) and the line is one guess among many, "
    "so arms are not to be compared there. Stops paying: the fewest workers of which twice as many shorten the step by "
    "10 % at most. All machines are assumed alike and linked as those measured.",
    is_of_the_study=True,
)
