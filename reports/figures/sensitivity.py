"""How an arm's result depends on its learning rate."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import (
    FRAME_PX,
    LOST_SYMBOL,
    ArmStyle,
    FigureSpec,
    add_target,
    arm_rows,
    arm_styles,
    empty,
    label,
    log_axis,
    make_room,
    panels,
)
from reports.frames import LOST, Frames, Metric, metric_of, tune_runs

SCORES_PX = 300
STRIP_PX = 24  # height of a row of trials without a score
PRUNED = "pruned"
PRUNED_SYMBOL = "triangle-down"
MAX_LEVELS = 12  # learning rates of a grid, to have a tick each
GRID_REPEATS = 2  # trials a learning rate, from which an arm's are those of a grid
GRID_SPREAD = 0.6  # of the smallest gap between learning rates that the arms of a grid share


class Sensitivity(NamedTuple):
    """The trials by learning rate.

    Args:
        trials: Columns arm, trial, lr, score (NaN if lost or stopped early), status, and x: where it is drawn, beside
            lr where the arms tried the same few values, so that their points do not cover each other.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    trials: pd.DataFrame
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> Sensitivity:
    """Return the trials that have a learning rate."""
    runs = tune_runs(frames)
    trials = runs.loc[runs["lr"] > 0, ["arm", "trial", "lr", "score", "status"]]
    return Sensitivity(_side_by_side(trials.reset_index(drop=True)), metric_of(frames), frames.arms)


def plot(data: Sensitivity) -> go.Figure:
    """Return scores over learning rates, and below them a row of marks for each way to have no score."""
    if data.trials.empty:
        return empty("No trials with a learning rate yet.")
    ways = [status for status in (PRUNED, *LOST) if (data.trials["status"] == status).any()]
    y_title, x_title = f"validation {label(data.metric.name)}", "learning rate (log)"
    figure = _two_panels(y_title, x_title, len(ways)) if ways else panels([y_title], [x_title], panel_px=SCORES_PX)
    for arm, style in arm_styles(data.arms).items():
        trials = data.trials[data.trials["arm"] == arm]
        if len(trials):
            _add_scores(figure, trials, arm, style)
            _add_lost(figure, trials[trials["status"].isin(ways)], arm, style, ways)
    if ways:
        names = ["stopped early" if status == PRUNED else status.replace("_", " ") for status in ways]
        arm_rows(figure, names, row=2)
    add_target(figure, data.metric)
    figure.update_xaxes(**log_axis(data.trials["lr"]), **_grid_ticks(data.trials))
    return make_room(figure, data.trials["arm"].unique())


def _side_by_side(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with ``x``: the arms of a grid beside each other at each of its learning rates."""
    arms = [arm for arm, rates in trials.groupby("arm")["lr"] if len(rates) >= GRID_REPEATS * rates.nunique()]
    gaps = np.diff(np.log10(np.unique(trials["lr"])))
    if len(arms) < 2 or not len(gaps):
        return trials.assign(x=trials["lr"])
    places = np.linspace(-0.5, 0.5, len(arms)) * GRID_SPREAD * gaps.min()
    shift = trials["arm"].map(dict(zip(arms, places, strict=True))).fillna(0.0)
    return trials.assign(x=trials["lr"] * 10**shift)


def _grid_ticks(trials: pd.DataFrame) -> dict[str, Any]:
    """Return the ticks of an axis of few learning rates: a tick at each."""
    levels = np.unique(trials["lr"])
    if len(levels) > MAX_LEVELS or len(trials) < GRID_REPEATS * len(levels):
        return {}
    return {"tickmode": "array", "tickvals": list(levels), "ticktext": [f"{level:g}" for level in levels]}


def _add_scores(figure: go.Figure, trials: pd.DataFrame, arm: str, style: ArmStyle) -> None:
    """Add the trials of an arm that have a score, and its entry in the legend."""
    figure.add_scatter(
        x=trials["x"],
        y=trials["score"],
        name=label(arm),
        mode="markers",
        marker={"color": style.color, "symbol": style.symbol, "size": 9},
        legendgroup=arm,
        showlegend=True,
        customdata=trials[["trial", "lr"]],
        hovertemplate="%{fullData.name}, trial %{customdata[0]}: %{y:.4g} at %{customdata[1]:.3g}<extra></extra>",
        row=1,
        col=1,
    )


def _add_lost(figure: go.Figure, trials: pd.DataFrame, arm: str, style: ArmStyle, ways: list[str]) -> None:
    """Add the trials of an arm that have no score to the strip."""
    if trials.empty:
        return
    figure.add_scatter(
        x=trials["x"],
        y=[ways.index(status) for status in trials["status"]],
        name=label(arm),
        mode="markers",
        marker={
            "color": style.color,
            "symbol": [PRUNED_SYMBOL if status == PRUNED else LOST_SYMBOL for status in trials["status"]],
            "size": 9,
        },
        legendgroup=arm,
        showlegend=False,
        customdata=trials[["trial", "lr"]],
        hovertemplate="%{fullData.name}, trial %{customdata[0]}, at %{customdata[1]:.3g}<extra></extra>",
        row=2,
        col=1,
    )


def _two_panels(y_title: str, x_title: str, num_ways: int) -> go.Figure:
    """Return a panel for scores above a strip for trials without one, over one axis of learning rates."""
    strip = STRIP_PX * num_ways
    figure = panels([y_title, ""], ["", x_title], shared_xaxes=True, row_heights=[SCORES_PX, strip])
    return figure.update_layout(height=SCORES_PX + strip + FRAME_PX)


FIGURE = FigureSpec(
    name="sensitivity",
    title="How much does the learning rate matter?",
    good="{metric}; a wide plateau at the best level is good: the arm forgives a wrong learning rate.",
    data=data,
    plot=plot,
    note="A point a trial of the search; the other hyperparameters vary too, so an arm's upper edge is what its "
    "learning rate allows. In the strip below: crosses for trials that were lost, triangles for trials that were "
    "stopped early. Arms that tried the same few learning rates stand beside each other at each.",
)
