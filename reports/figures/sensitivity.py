"""How an arm's result depends on its learning rate."""

from typing import NamedTuple

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
    panels,
)
from reports.frames import LOST, Frames, Metric, metric_of, tune_runs

SCORES_PX = 300
STRIP_PX = 24  # height of a row of lost trials


class Sensitivity(NamedTuple):
    """The trials by learning rate.

    Args:
        trials: Columns arm, trial, lr, score (NaN if lost), status.
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
    return Sensitivity(trials.reset_index(drop=True), metric_of(frames), frames.arms)


def plot(data: Sensitivity) -> go.Figure:
    """Return scores over learning rates, and below them a row of crosses for each way to be lost."""
    if data.trials.empty:
        return empty("No trials with a learning rate yet.")
    ways = [status for status in LOST if (data.trials["status"] == status).any()]
    y_title, x_title = f"validation {label(data.metric.name)}", "learning rate (log)"
    figure = _two_panels(y_title, x_title, len(ways)) if ways else panels([y_title], [x_title], panel_px=SCORES_PX)
    for arm, style in arm_styles(data.arms).items():
        trials = data.trials[data.trials["arm"] == arm]
        if len(trials):
            _add_scores(figure, trials, arm, style)
            _add_lost(figure, trials[trials["status"].isin(ways)], arm, style, ways)
    if ways:
        arm_rows(figure, [status.replace("_", " ") for status in ways], row=2)
    add_target(figure, data.metric)
    return figure.update_xaxes(**log_axis(data.trials["lr"]))


def _add_scores(figure: go.Figure, trials: pd.DataFrame, arm: str, style: ArmStyle) -> None:
    """Add the trials of an arm that have a score, and its entry in the legend."""
    figure.add_scatter(
        x=trials["lr"],
        y=trials["score"],
        name=label(arm),
        mode="markers",
        marker={"color": style.color, "symbol": style.symbol, "size": 9},
        legendgroup=arm,
        showlegend=True,
        customdata=trials["trial"],
        hovertemplate="%{fullData.name}, trial %{customdata}: %{y:.4g} at %{x:.3g}<extra></extra>",
        row=1,
        col=1,
    )


def _add_lost(figure: go.Figure, trials: pd.DataFrame, arm: str, style: ArmStyle, ways: list[str]) -> None:
    """Add the lost trials of an arm to the strip."""
    if trials.empty:
        return
    figure.add_scatter(
        x=trials["lr"],
        y=[ways.index(status) for status in trials["status"]],
        name=label(arm),
        mode="markers",
        marker={"color": style.color, "symbol": LOST_SYMBOL, "size": 9},
        legendgroup=arm,
        showlegend=False,
        hovertemplate="%{fullData.name} lost at %{x:.3g}<extra></extra>",
        row=2,
        col=1,
    )


def _two_panels(y_title: str, x_title: str, num_ways: int) -> go.Figure:
    """Return a panel for scores above a strip for lost trials, over one axis of learning rates."""
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
    "learning rate allows. Crosses in the strip below: trials that were lost.",
)
