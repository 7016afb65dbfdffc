"""The sweep in numbers: each arm's best trial, what the search cost, and whether it looked far enough."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import stats
from reports.frames import Frames, metric_of, read_json, tune_runs

MIN_TRIALS_FOR_EDGES = 3  # with fewer, every value is an extreme


@dataclass(frozen=True, slots=True)
class Search:
    """The search of one arm.

    Args:
        arm: Its name.
        num_trials: Trials, lost ones too.
        num_lost: Diverged, out of memory or failed.
        training_s: Budget time of all its trials.
        best_score: Selection metric of the best trial, NaN if all are lost.
        best_trial: Its number; None if all are lost.
        hyperparameters: The best trial's.
        edges: Hyperparameters whose best value is the smallest or largest tried → ``smallest`` or ``largest``.
        lr_basin_decades: Decades of learning rate within 2 % of the best score.
        divergence_rate: Share of its trials that diverged.
    """

    arm: str
    num_trials: int
    num_lost: int
    training_s: float
    best_score: float
    best_trial: int | None
    hyperparameters: dict[str, Any]
    edges: dict[str, str]
    lr_basin_decades: float
    divergence_rate: float


def sweep(frames: Frames) -> tuple[Search, ...]:
    """Return the search of each arm that was tuned, by name of arm."""
    runs, sign = tune_runs(frames), metric_of(frames).sign
    return tuple(_search(str(arm), trials, sign) for arm, trials in runs.groupby("arm"))


def points(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the numeric hyperparameters of the trials, those that vary: a row a trial, a column a hyperparameter."""
    records = [read_json(text) for text in trials["hyperparameters"]]
    table = pd.DataFrame(records, index=trials.index).select_dtypes("number")
    return table.loc[:, table.nunique() > 1].astype("float64")


def _search(arm: str, trials: pd.DataFrame, sign: int) -> Search:
    """Return the search of one arm from its trials."""
    scores = trials["score"].to_numpy()
    best = _best(trials, sign)
    row = None if best is None else trials.iloc[best]
    return Search(
        arm,
        num_trials=len(trials),
        num_lost=int(np.isnan(scores).sum()),
        training_s=float(trials["budget_time_s"].sum()),
        best_score=np.nan if row is None else float(row["score"]),
        best_trial=None if row is None or np.isnan(row["trial"]) else int(row["trial"]),
        hyperparameters={} if row is None else read_json(row["hyperparameters"]),
        edges={} if best is None else _edges(points(trials), best),
        lr_basin_decades=stats.basin_width(trials["lr"], scores, sign=sign),
        divergence_rate=stats.divergence_rate(list(trials["status"])),
    )


def _best(trials: pd.DataFrame, sign: int) -> int | None:
    """Return the row of the trial that races: of equal scores the lower validation loss, then the earlier trial."""
    keys = pd.DataFrame({"score": -sign * trials["score"], "loss": trials["val_loss"], "trial": trials["trial"]})
    ranked = keys.reset_index(drop=True).dropna(subset="score").sort_values(["score", "loss", "trial"])
    return int(ranked.index[0]) if len(ranked) else None


def _edges(tried: pd.DataFrame, best: int) -> dict[str, str]:
    """Return which hyperparameters of the trial in row ``best`` are extremes of what was tried."""
    if len(tried) < MIN_TRIALS_FOR_EDGES:
        return {}
    values = {str(name): column.to_numpy() for name, column in tried.items()}
    ends = {"smallest": np.nanmin, "largest": np.nanmax}
    return {name: end for name, x in values.items() for end, extreme in ends.items() if x[best] == extreme(x)}
