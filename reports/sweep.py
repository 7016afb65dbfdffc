"""The sweep in numbers: each arm's best trial, what the search cost, and whether it looked far enough."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import stats
from reports.frames import Frames, metric_of, read_json, remembered, tune_runs
from suite.results.spaces import edges, hull


@dataclass(frozen=True, slots=True)
class Search:
    """The search of one arm.

    Args:
        arm: Its name.
        num_trials: Trials, lost ones too.
        num_lost: Diverged, out of memory, failed, or without a finite score.
        num_pruned: Stopped early by the pruner.
        training_s: Measured training time of all its trials.
        best_score: Selection metric of the best trial, NaN if none finished.
        best_trial: Its number; None if none finished.
        hyperparameters: The best trial's: those searched, or all where the space is not known.
        space: All that its trials searched, as :mod:`suite.results.spaces` has it; empty for results that do not say.
        extended: Hyperparameters of which later trials searched a moved range.
        edges: Hyperparameters whose best value lies on an edge of the space → ``low`` or ``high``.
        lr_basin_decades: Decades of learning rate within 2 % of the best score.
        divergence_rate: Share of its trials that diverged.
    """

    arm: str
    num_trials: int
    num_lost: int
    num_pruned: int
    training_s: float
    best_score: float
    best_trial: int | None
    hyperparameters: dict[str, Any]
    space: dict[str, dict[str, Any]]
    extended: tuple[str, ...]
    edges: dict[str, str]
    lr_basin_decades: float
    divergence_rate: float


@remembered
def sweep(frames: Frames) -> tuple[Search, ...]:
    """Return the search of each arm that was tuned, by name of arm."""
    runs, sign = tune_runs(frames), metric_of(frames).sign
    return tuple(_search(str(arm), trials, sign) for arm, trials in runs.groupby("arm"))


def _search(arm: str, trials: pd.DataFrame, sign: int) -> Search:
    """Return the search of one arm from its trials."""
    best, spaces = _best(trials, sign), _spaces(trials)
    row = None if best is None else trials.iloc[best]
    space = hull(spaces)
    values = {} if row is None else read_json(row["hyperparameters"])
    point = {name: values[name] for name in space or values if name in values}
    return Search(
        arm,
        num_trials=len(trials),
        num_lost=int(trials["is_lost"].sum()),
        num_pruned=int(trials["is_pruned"].sum()),
        training_s=float(trials["train_time_s"].sum(min_count=1)),
        best_score=np.nan if row is None else float(row["score"]),
        best_trial=None if row is None or np.isnan(row["trial"]) else int(row["trial"]),
        hyperparameters=point,
        space=space,
        extended=tuple(name for name, atom in space.items() if any(other.get(name) != atom for other in spaces)),
        edges=edges(space, point),
        lr_basin_decades=stats.basin_width(trials["lr"], trials["score"], sign=sign),
        divergence_rate=stats.divergence_rate(list(trials["status"])),
    )


def _spaces(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what each trial searched; nothing if one does not say, since its space could be the larger."""
    spaces = [read_json(space) for space in trials["search_space"]]
    return spaces if all(spaces) else []


def _best(trials: pd.DataFrame, sign: int) -> int | None:
    """Return the row of the trial that races: of equal scores the lower validation loss, then the earlier trial."""
    keys = pd.DataFrame({"score": -sign * trials["score"], "loss": trials["val_loss"], "trial": trials["trial"]})
    ranked = keys.reset_index(drop=True).dropna(subset="score").sort_values(["score", "loss", "trial"])
    return int(ranked.index[0]) if len(ranked) else None
