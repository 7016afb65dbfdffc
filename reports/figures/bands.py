"""Curves of several seeds as one line with a band: what the curve figures and the spread share."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import (
    LOST_SYMBOL,
    ArmStyle,
    add_target,
    arm_styles,
    empty,
    label,
    log_axis,
    make_room,
    panels,
)
from reports.frames import Frames, Metric, metric_of, race_runs

MAX_POINTS = 200  # a curve: more than a column of the page has distinguishable positions
SKIPPED = 0.1  # share of the axis

QUANTITIES = ("val_metric", "val_loss")


class Curves(NamedTuple):
    """Validation curves of the race.

    Args:
        lines: Columns arm, quantity, x, mean, low, high.
        ends: Last point of each lost run: arm, quantity, x, y.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    lines: pd.DataFrame
    ends: pd.DataFrame
    metric: Metric
    arms: tuple[str, ...]


def band(curves: Iterable[pd.DataFrame], x: str, y: str) -> pd.DataFrame:
    """Return mean, lowest and highest of several curves, each interpolated within its own range.

    Args:
        curves: A frame a seed.
        x: Column of the abscissa.
        y: Column of the values; points that are not finite are left out.

    Returns:
        Columns x, mean, low, high: at the curves' own points if these are at most ``MAX_POINTS``, else on an even grid.
    """
    points = [curve.loc[np.isfinite(curve[x]) & np.isfinite(curve[y]), [x, y]].sort_values(x) for curve in curves]
    points = [curve for curve in points if len(curve)]
    if not points:
        return pd.DataFrame(columns=["x", "mean", "low", "high"], dtype="float64")
    grid = np.unique(np.concatenate([curve[x] for curve in points]))
    if len(grid) > MAX_POINTS:
        grid = np.linspace(grid[0], grid[-1], MAX_POINTS)
    values = np.array([np.interp(grid, curve[x], curve[y], left=np.nan, right=np.nan) for curve in points])
    known = np.isfinite(values).any(axis=0)
    grid, values = grid[known], values[:, known]
    return pd.DataFrame({
        "x": grid,
        "mean": np.nanmean(values, axis=0),
        "low": np.nanmin(values, axis=0),
        "high": np.nanmax(values, axis=0),
    })


def curves(frames: Frames, x: str) -> Curves:
    """Return the validation curves of the race over a column of the epochs table."""
    points = frames.epochs.merge(race_runs(frames)[["run_id", "arm", "is_lost"]], on="run_id")
    lines, ends = [], []
    for arm, group in points.groupby("arm"):
        for quantity in QUANTITIES:
            line = band((curve for _, curve in group.groupby("run_id")), x, quantity)
            lines.append(line.assign(arm=arm, quantity=quantity))
        for _, curve in group[group["is_lost"]].groupby("run_id"):
            last = curve.dropna(subset=[x, *QUANTITIES]).sort_values(x).tail(1)
            ends.append(last.melt(id_vars=["arm", x], value_vars=list(QUANTITIES), var_name="quantity", value_name="y"))
    return Curves(
        stack(lines, ["arm", "quantity", "x", "mean", "low", "high"]),
        stack([end.rename(columns={x: "x"}) for end in ends], ["arm", "quantity", "x", "y"]),
        metric_of(frames),
        frames.arms,
    )


def plot_curves(data: Curves, x_title: str) -> go.Figure:
    """Return the metric drawn above the loss; a cross marks where a lost run ended."""
    if data.lines.empty:
        return empty("No evaluations of race runs yet.")
    y_titles = [f"validation {label(data.metric.name)}", "validation loss"]
    figure = panels(y_titles, ["", x_title], shared_xaxes=True)
    for row, quantity in enumerate(QUANTITIES, start=1):
        for arm, style in arm_styles(data.arms).items():
            lines = data.lines[(data.lines["arm"] == arm) & (data.lines["quantity"] == quantity)]
            add_band(figure, lines, arm, style, row=row, show_name=row == 1)
            ends = data.ends[(data.ends["arm"] == arm) & (data.ends["quantity"] == quantity)]
            _add_ends(figure, ends, arm, style, row)
    add_target(figure, data.metric)
    figure.update_yaxes(range=_late_range(data), row=1)
    figure.update_yaxes(**log_axis(data.lines.loc[data.lines["quantity"] == "val_loss", "mean"]), row=2)
    return make_room(figure, data.lines["arm"].unique())


def add_band(figure: go.Figure, lines: pd.DataFrame, arm: str, style: ArmStyle, *, row: int, show_name: bool) -> None:
    """Add the line of an arm and, where seeds differ, the band from their lowest to their highest."""
    if lines.empty:
        return
    if (lines["high"] > lines["low"]).any():
        add_outline(figure, lines, arm, style, row=row)
    figure.add_scatter(
        x=lines["x"],
        y=lines["mean"],
        name=label(arm),
        mode="lines" if len(lines) > 1 else "markers",
        line={"color": style.color, "dash": style.dash, "width": 2},
        marker={"color": style.color, "symbol": style.symbol, "size": 9},
        legendgroup=arm,
        showlegend=show_name,
        hovertemplate="%{fullData.name}: %{y:.4g} at %{x:.4g}<extra></extra>",
        row=row,
        col=1,
    )


def add_outline(figure: go.Figure, lines: pd.DataFrame, arm: str, style: ArmStyle, *, row: int) -> None:
    """Fill what lies between the columns ``low`` and ``high`` over ``x``, in an arm's colour."""
    figure.add_scatter(
        x=[*lines["x"], *lines["x"][::-1]],
        y=[*lines["high"], *lines["low"][::-1]],
        fill="toself",
        fillcolor=style.band,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=arm,
        showlegend=False,
        row=row,
        col=1,
    )


def _late_range(data: Curves) -> list[float] | None:
    """Return the metric's range after the first tenth of the axis, whose steep start would flatten the rest."""
    lines = data.lines[data.lines["quantity"] == "val_metric"]
    late = lines[lines["x"] >= SKIPPED * lines["x"].max()]
    if late.empty:
        return None
    values = [late["low"].min(), late["high"].max(), *([data.metric.target] if np.isfinite(data.metric.target) else [])]
    margin = 0.05 * (max(values) - min(values)) or 0.05
    return [min(values) - margin, max(values) + margin]


def _add_ends(figure: go.Figure, ends: pd.DataFrame, arm: str, style: ArmStyle, row: int) -> None:
    """Mark where the lost runs of an arm ended."""
    if ends.empty:
        return
    figure.add_scatter(
        x=ends["x"],
        y=ends["y"],
        name=f"{label(arm)}, run lost",
        mode="markers",
        marker={"color": style.color, "symbol": LOST_SYMBOL, "size": 10},
        legendgroup=arm,
        showlegend=row == 1,
        row=row,
        col=1,
    )


def stack(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Return the parts below each other, with these columns; those without rows, which have no types, left out."""
    kept = [part for part in parts if len(part)]
    return pd.concat(kept, ignore_index=True)[columns] if kept else pd.DataFrame(columns=columns)
