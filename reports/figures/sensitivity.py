"""How an arm's result depends on one setting: its learning rate, its damping or its γ."""

from functools import partial
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
MAX_LEVELS = 12  # values of a grid, to have a tick each
GRID_REPEATS = 2  # trials a value, from which an arm's are those of a grid
GRID_SPREAD = 0.6  # of the smallest gap between values that the arms of a grid share


class Setting(NamedTuple):
    """What the trials are drawn over.

    Args:
        column: Of ``runs``.
        name: In a sentence.
        title: Of the axis.
        is_log: Whether the axis is logarithmic.
        is_optional: Whether arms may lack it or keep it fixed; those are left out.
    """

    column: str
    name: str
    title: str
    is_log: bool = True
    is_optional: bool = True


LR = Setting("lr", "learning rate", "learning rate (log)", is_optional=False)
DAMPING = Setting("damping", "damping", "damping λ (log)")
GAMMA = Setting("gamma", "γ", "γ, weight of the new factor", is_log=False)


class Sensitivity(NamedTuple):
    """The trials by one setting.

    Args:
        trials: Columns arm, trial, the setting's, score (NaN if lost or stopped early), status, and x: where it is
            drawn, beside its value where the arms tried the same few, so that their points do not cover each other.
        metric: The workload's metric.
        arms: All arms of the study.
        setting: Which.
    """

    trials: pd.DataFrame
    metric: Metric
    arms: tuple[str, ...]
    setting: Setting = LR


def data(frames: Frames, setting: Setting = LR) -> Sensitivity:
    """Return the trials that have a value of the setting.

    Args:
        frames: Prepared frames of one part of a study.
        setting: Which.

    Returns:
        Of an optional setting the arms that tried several values of it.
    """
    runs, column = tune_runs(frames), setting.column
    is_known = runs[column] > 0 if setting.is_log else np.isfinite(runs[column])
    trials = runs.loc[is_known, ["arm", "trial", column, "score", "status"]].reset_index(drop=True)
    if setting.is_optional:
        trials = trials[trials.groupby("arm")[column].transform("nunique") > 1].reset_index(drop=True)
    return Sensitivity(_side_by_side(trials, setting), metric_of(frames), frames.arms, setting)


def plot(data: Sensitivity) -> go.Figure:
    """Return scores over learning rates, and below them a row of marks for each way to have no score."""
    if data.trials.empty:
        who = "arm with several values" if data.setting.is_optional else "trials with a value"
        return empty(f"No {who} of {data.setting.name} yet.")
    ways = [status for status in (PRUNED, *LOST) if (data.trials["status"] == status).any()]
    y_title, x_title = f"validation {label(data.metric.name)}", data.setting.title
    figure = _two_panels(y_title, x_title, len(ways)) if ways else panels([y_title], [x_title], panel_px=SCORES_PX)
    for arm, style in arm_styles(data.arms).items():
        trials = data.trials[data.trials["arm"] == arm]
        if len(trials):
            marked = trials.assign(value=trials[data.setting.column])
            _add_scores(figure, marked, arm, style)
            _add_lost(figure, marked[marked["status"].isin(ways)], arm, style, ways)
    if ways:
        names = ["stopped early" if status == PRUNED else status.replace("_", " ") for status in ways]
        arm_rows(figure, names, row=2)
    add_target(figure, data.metric)
    values = data.trials[data.setting.column]
    figure.update_xaxes(**(log_axis(values) if data.setting.is_log else {"zeroline": False}), **_grid_ticks(values))
    return make_room(figure, data.trials["arm"].unique())


def _side_by_side(trials: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Return the trials with ``x``: the arms of a grid beside each other at each of its values."""
    values = trials[setting.column]
    places = np.log10(values) if setting.is_log else values
    arms = [arm for arm, own in values.groupby(trials["arm"]) if len(own) >= GRID_REPEATS * own.nunique()]
    gaps = np.diff(np.unique(places))
    if len(arms) < 2 or not len(gaps):
        return trials.assign(x=values)
    beside = np.linspace(-0.5, 0.5, len(arms)) * GRID_SPREAD * gaps.min()
    shift = trials["arm"].map(dict(zip(arms, beside, strict=True))).fillna(0.0)
    return trials.assign(x=values * 10**shift if setting.is_log else values + shift)


def _grid_ticks(values: pd.Series) -> dict[str, Any]:
    """Return the ticks of an axis of few values: a tick at each."""
    levels = np.unique(values)
    if len(levels) > MAX_LEVELS or len(values) < GRID_REPEATS * len(levels):
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
        customdata=trials[["trial", "value"]],
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
        customdata=trials[["trial", "value"]],
        hovertemplate="%{fullData.name}, trial %{customdata[0]}, at %{customdata[1]:.3g}<extra></extra>",
        row=2,
        col=1,
    )


def _two_panels(y_title: str, x_title: str, num_ways: int) -> go.Figure:
    """Return a panel for scores above a strip for trials without one, over one axis of learning rates."""
    strip = STRIP_PX * num_ways
    figure = panels([y_title, ""], ["", x_title], shared_xaxes=True, row_heights=[SCORES_PX, strip])
    return figure.update_layout(height=SCORES_PX + strip + FRAME_PX)


_NOTE = (
    "A point a trial of the search; the other hyperparameters vary too, so an arm's upper edge is what its {what} "
    "allows. In the strip below: crosses for trials that were lost, triangles for trials that were stopped early. Arms "
    "that tried the same few values stand beside each other at each."
)

FIGURE = FigureSpec(
    name="sensitivity",
    title="How much does the learning rate matter?",
    good="{metric}; a wide plateau at the best level is good: the arm forgives a wrong learning rate.",
    data=data,
    plot=plot,
    note=_NOTE.format(what="learning rate"),
)

DAMPING_FIGURE = FigureSpec(
    name="damping_sensitivity",
    title="How much does damping matter?",
    good="{metric}; a wide plateau at the best level is good: the arm forgives a wrong damping.",
    data=partial(data, setting=DAMPING),
    plot=plot,
    note=_NOTE.format(what="damping") + " Only arms that tried several dampings; damping acts on the scale of the "
    "arm's own curvature, so the same value means different things for different arms.",
)

GAMMA_FIGURE = FigureSpec(
    name="gamma_sensitivity",
    title="How much does γ matter?",
    good="{metric}; a wide plateau at the best level is good: the arm forgives a wrong γ.",
    data=partial(data, setting=GAMMA),
    plot=plot,
    note=_NOTE.format(what="γ") + " γ is the weight of the new curvature factor in AdaFisher's moving average; only "
    "arms that tried several.",
)
