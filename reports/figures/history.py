"""How the search went: best so far after each trial."""

import math
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import FigureSpec, arm_styles, empty, label, make_room, panels
from reports.frames import Frames, Metric, metric_of, tune_runs

MAX_TICKS = 12


class History(NamedTuple):
    """The search of each arm, in order of trial numbers.

    Args:
        trials: Columns arm, count (from 1), score (NaN if lost or stopped early), best (so far; NaN before the first
            finite score).
        metric: The workload's metric.
        arms: All arms of the study.
    """

    trials: pd.DataFrame
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> History:
    """Return the scores of the trials and the best of the first k."""
    metric = metric_of(frames)
    trials = tune_runs(frames).sort_values(["arm", "trial"], ignore_index=True)
    groups = trials.groupby("arm")
    best = metric.sign * (metric.sign * trials["score"]).groupby(trials["arm"]).cummax()
    trials = trials.assign(count=groups.cumcount() + 1, best=best)
    trials["best"] = trials.groupby("arm")["best"].ffill()
    return History(trials[["arm", "count", "score", "best"]], metric, frames.arms)


def plot(data: History) -> go.Figure:
    """Return the best so far drawn as steps, and each trial as a small marker."""
    if data.trials["score"].isna().all():
        count = len(data.trials)
        return empty(f"None of {count} trials ran to its end." if count else "No trials yet.")
    figure = panels([f"validation {label(data.metric.name)}"], ["trials"], panel_px=300)
    for arm, style in arm_styles(data.arms).items():
        trials = data.trials[data.trials["arm"] == arm]
        if trials.empty:
            continue
        figure.add_scatter(
            x=trials["count"],
            y=trials["score"],
            mode="markers",
            marker={"color": style.color, "symbol": f"{style.symbol}-open", "size": 6},
            hovertemplate=f"{label(arm)}, %{{x}}th trial: %{{y:.4g}}<extra></extra>",
            legendgroup=arm,
            showlegend=False,
        )
        figure.add_scatter(
            x=trials["count"],
            y=trials["best"],
            name=label(arm),
            mode="lines",
            line={"color": style.color, "dash": style.dash, "width": 2, "shape": "hv"},
            hovertemplate="best of the first %{x}: %{y:.4g}<extra></extra>",
            legendgroup=arm,
        )
    figure.update_xaxes(dtick=math.ceil(data.trials["count"].max() / MAX_TICKS), tick0=0)
    return make_room(figure, data.trials["arm"].unique())


FIGURE = FigureSpec(
    name="history",
    title="Would more trials have helped?",
    good="{metric}; a line that is flat at its end is good: more trials would have found little.",
    data=data,
    plot=plot,
    note="Line: best validation result of the first k trials. Small: single trials; those that were lost or "
    "stopped early count and have no mark. A line that still moves at the right end says that this arm was not tuned "
    "out.",
)
