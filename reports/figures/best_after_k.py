"""How good a search of k trials would have been: the tuning curve of each arm with its confidence band."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import text
from reports.figures.bands import MAX_POINTS, add_outline
from reports.figures.base import (
    ArmStyle,
    FigureSpec,
    add_target,
    arm_styles,
    empty,
    label,
    lines_of,
    log_axis,
    make_room,
    panels,
)
from reports.frames import Frames, Metric, metric_of, tune_runs
from reports.tuning_curve import tuning_curve

ADAPTIVE = ("tpe", "gp")  # samplers that propose by what earlier trials found, so that trials are not exchangeable
GRID = "grid"  # is no draw from anything
MIN_TRIALS = 3
MAX_MARKS = 30  # points of a line, to be marked each
ALL_PX, ARM_PX, GAP_PX = 260, 84, 26
MARGIN = 0.08  # of the range of the curves


class BestAfterK(NamedTuple):
    """The tuning curves.

    Args:
        curves: Columns arm, k, median, expected, low, high, num_trials; of :func:`reports.tuning_curve.tuning_curve`.
        skipped: Arms without a curve → why.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    curves: pd.DataFrame
    skipped: dict[str, str]
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> BestAfterK:
    """Return the curve of each arm that was searched at random, or quasi-random."""
    metric, curves, skipped = metric_of(frames), [], {}
    for arm, trials in tune_runs(frames).groupby("arm"):
        adaptive = sorted(set(trials["sampler"].dropna()) & set(ADAPTIVE))
        if adaptive:
            skipped[str(arm)] = f"its sampler ({', '.join(adaptive)}) learns from earlier trials"
        elif (trials["sampler"] == GRID).any():
            skipped[str(arm)] = "a grid is no draw from its space"
        elif trials["search_space"].nunique() > 1:
            skipped[str(arm)] = "its space moved with what earlier trials found"
        elif len(trials) < MIN_TRIALS:
            skipped[str(arm)] = f"fewer than {MIN_TRIALS} trials"
        elif trials["score"].isna().all():
            skipped[str(arm)] = "no trial ran to its end"
        else:
            curve = tuning_curve(trials["score"], sign=metric.sign)
            curves.append(curve.assign(arm=str(arm), num_trials=len(trials)))
    columns = ["arm", "k", "median", "expected", "low", "high", "num_trials"]
    found = pd.concat(curves, ignore_index=True)[columns] if curves else pd.DataFrame(columns=columns)
    return BestAfterK(found, skipped, metric, frames.arms)


def plot(data: BestAfterK) -> go.Figure:
    """Return the curves of all arms above a panel an arm with its band; in it those of the others are grey."""
    reasons = [f"{arm}: {reason}" for arm, reason in data.skipped.items()]
    if data.curves.empty:
        return empty(*(reasons or ["No trials yet."]))
    shown = [arm for arm in data.arms if (data.curves["arm"] == arm).any()]
    heights = [ALL_PX, *[ARM_PX] * len(shown)]
    figure = panels(
        [f"best validation {label(data.metric.name)}", *[""] * len(shown)],
        [*[""] * len(shown), "trials in the search (log)" + f"<br>{lines_of(reasons)}" * bool(reasons)],
        panel_px=sum(heights) // len(heights) + GAP_PX,
        row_heights=heights,
        shared_xaxes=True,
    )
    bottom, top = _range(data.curves)
    styles = arm_styles(data.arms)
    for row, arm in enumerate(shown, start=2):
        own = data.curves[data.curves["arm"] == arm]
        curve = own.iloc[np.unique(np.linspace(0, len(own) - 1, MAX_POINTS).astype(int))]
        _add_line(figure, curve, arm, styles[arm], row=1)
        # an open side reaches the edge of the panel
        band = curve.assign(x=curve["k"], **curve[["low", "high"]].clip(bottom, top))
        add_outline(figure, band, arm, styles[arm], row=row)
        _add_line(figure, curve, arm, styles[arm], row=row)
        _add_name(figure, f"<b>{label(arm)}</b>, {text.count(len(own), 'trial')}", row)
    add_target(figure, data.metric)
    figure.update_yaxes(range=[bottom, top], zeroline=False)
    figure.update_yaxes(nticks=4)
    figure.update_xaxes(**log_axis(data.curves["k"]))
    return make_room(figure, shown)


def _range(curves: pd.DataFrame) -> tuple[float, float]:
    """Return the range of the axis: that of the lines, which the bands may leave."""
    low, high = curves["median"].min(), curves["median"].max()
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _add_line(figure: go.Figure, curve: pd.DataFrame, arm: str, style: ArmStyle, *, row: int) -> None:
    """Add the line of an arm; the legend names it by that of the first panel."""
    figure.add_scatter(
        x=curve["k"],
        y=curve["median"],
        name=label(arm),
        mode="lines+markers" if len(curve) <= MAX_MARKS else "lines",
        line={"color": style.color, "dash": style.dash, "width": 2},
        marker={"color": style.color, "symbol": style.symbol, "size": 5},
        legendgroup=arm,
        showlegend=row == 1,
        customdata=[
            [text.number(value, 4) if np.isfinite(value) else "?" for value in values]
            for values in curve[["expected", "low", "high"]].itertuples(index=False)
        ],
        hovertemplate="%{fullData.name}, best of %{x}: median %{y:.4g}, mean %{customdata[0]}; "
        "95 % band %{customdata[1]} to %{customdata[2]}<extra></extra>",
        row=row,
        col=1,
    )


def _add_name(figure: go.Figure, name: str, row: int) -> None:
    """Write whose panel it is above the panel."""
    place = {"x": 0, "y": figure.layout[f"yaxis{row}"].domain[1], "xanchor": "left", "yanchor": "bottom"}
    figure.add_annotation(text=name, xref="paper", yref="paper", font_size=11, showarrow=False, **place)


FIGURE = FigureSpec(
    name="best_after_k",
    title="How good would a search of k trials have been?",
    good="{metric}; a line that is high early is good: a short search suffices.",
    data=data,
    plot=plot,
    note="Line: median of the best of k trials drawn from the arm's own. Band: where, with 95 % confidence for the "
    "whole curve at once, that median lies for new searches of the same space (Lourie et al., 2024); a side that "
    "reaches the edge of its panel is open, since n trials cannot say how good much longer searches get. Bands "
    "that overlap do not rank arms. Lost and early stopped trials count as worse than any number. It assumes "
    "exchangeable trials: arms searched by TPE, a Gaussian process, a grid, or in a space that moved are left "
    "out. Quasi-random trials (Sobol) cover their space more evenly than the random ones that the bands are exact "
    "for.",
)
