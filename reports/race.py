"""The race in numbers: how each arm stands, and which pairs of arms are resolved.

How lost runs count: a race run that diverged, ran out of memory or failed has no finite metric. It is counted and it
loses: arms are ordered by the number of runs they lost first, by mean metric after, and an arm that lost a run is not
tested against others, because its remaining seeds are a selection.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import stats
from reports.frames import Frames, Metric, metric_of, race_runs


@dataclass(frozen=True, slots=True)
class Standing:
    """One arm in the race.

    Args:
        arm: Its name.
        metric: Of the test metric.
        loss: Of the test loss.
        time_to_target_s: Of the seconds to the target; over the runs that reached it.
        num_runs: All race runs, lost ones too.
        num_lost: Diverged, out of memory, failed, or without a finite metric.
        num_reached: Runs whose validation metric reached the target.
    """

    arm: str
    metric: stats.Estimate
    loss: stats.Estimate
    time_to_target_s: stats.Estimate
    num_runs: int
    num_lost: int
    num_reached: int


@dataclass(frozen=True, slots=True)
class Race:
    """The whole race.

    Args:
        metric: The workload's metric.
        standings: Arms in order: fewest lost runs, then best mean.
        comparisons: All pairs by test metric; ``first`` stands above ``second``.
        loss_comparisons: All pairs by test loss, in the same order; a table, and a Holm correction, of its own.
    """

    metric: Metric
    standings: tuple[Standing, ...]
    comparisons: tuple[stats.Comparison, ...]
    loss_comparisons: tuple[stats.Comparison, ...]

    @property
    def complete(self) -> tuple[Standing, ...]:
        """The arms that lost no run: the ones that can be tested."""
        return tuple(standing for standing in self.standings if not standing.num_lost)


def race(frames: Frames) -> Race:
    """Return the standings and comparisons of the race runs.

    Args:
        frames: Prepared frames of one workload.

    Returns:
        Empty standings if there are no race runs.
    """
    runs, metric = race_runs(frames), metric_of(frames)
    standings = [_standing(str(arm), group) for arm, group in runs.groupby("arm")]
    standings.sort(key=lambda s: (s.num_lost, -metric.sign * s.metric.mean if s.metric.n else math.inf))
    arms = [standing.arm for standing in standings]
    lost = [standing.arm for standing in standings if standing.num_lost]
    return Race(
        metric,
        tuple(standings),
        tuple(stats.compare_all(by_seed(runs, "test_metric", arms), sign=metric.sign, exclude=lost)),
        tuple(stats.compare_all(by_seed(runs, "test_loss", arms), sign=-1, exclude=lost)),
    )


def by_seed(runs: pd.DataFrame, column: str, arms: list[str]) -> pd.DataFrame:
    """Return a column of the race runs, a row a seed and a column an arm; lost and missing runs are NaN."""
    if runs.empty:
        return pd.DataFrame(columns=arms, dtype="float64")
    table = runs.pivot_table(index="seed", columns="arm", values=column, aggfunc="mean", dropna=False)
    return table.reindex(columns=arms)


def _standing(arm: str, runs: pd.DataFrame) -> Standing:
    """Return the standing of one arm's race runs."""
    return Standing(
        arm,
        stats.estimate(runs["test_metric"]),
        stats.estimate(runs["test_loss"]),
        stats.estimate(runs["time_to_target_s"]),
        num_runs=len(runs),
        num_lost=int(runs["is_lost"].sum()),
        num_reached=int(np.isfinite(runs["time_to_target_s"]).sum()),
    )
