"""When the runs of a race reached the validation target, and until when the others were watched.

How runs without it count. A run that completed without reaching the target was watched until its budget ended, and is
censored there. A run that was lost (diverged, out of memory, failed) would never have reached it: it is censored at the
end of its budget, never where it died, which would take it out of the share of those that fail; also if it had met
the target before it was lost.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports import survival
from reports.frames import Frames, Metric, metric_of, race_runs
from reports.stats import Estimate, estimate


@dataclass(frozen=True, slots=True)
class Reached:
    """How one arm reached the target.

    Args:
        arm: Its name.
        source: Where its hyperparameters come from, as in the results; None where these do not say.
        runs: Its rows of :attr:`Watch.runs`.
        median_s: Kaplan-Meier median of the time to the target; NaN where fewer than half reached it.
        restricted: Of min(time to the target, end), in seconds; its interval is cut to what is possible, 0 to the end.
    """

    arm: str
    source: str | None
    runs: pd.DataFrame
    median_s: float
    restricted: Estimate

    @property
    def num_reached(self) -> int:
        """Runs that reached the target and were not lost."""
        return int(self.runs["is_reached"].sum())

    @property
    def num_lost(self) -> int:
        """Diverged, out of memory, failed, or without a finite metric."""
        return int(self.runs["is_lost"].sum())


@dataclass(frozen=True, slots=True)
class Watch:
    """The race as times to the target.

    Args:
        runs: Columns arm, seed, source, is_lost, has_failed, is_reached, time_s (of the target, or until when there was
            none), and restricted_s: ``end_s`` where the target was not reached by then.
        end_s: Up to when all runs are compared: the budget; of budgets without seconds the shortest that a run
            completed. NaN where neither is known.
        metric: The workload's metric.
        grains: By arm the time between two looks at the target, in seconds: what its times are known to.
    """

    runs: pd.DataFrame
    end_s: float
    metric: Metric
    grains: Mapping[str, float]

    @property
    def arms(self) -> tuple[Reached, ...]:
        """The arms, shortest restricted mean first."""
        found = [_reached(str(arm), own, self.end_s) for arm, own in self.runs.groupby("arm")]
        return tuple(sorted(found, key=lambda arm: arm.restricted.mean))


def watch(frames: Frames) -> Watch:
    """Return when the runs of a race reached the target.

    Args:
        frames: Prepared frames of one part of a study.

    Returns:
        No runs where there is no target, no race, or no time in which it could be reached.
    """
    runs, metric = race_runs(frames), metric_of(frames)
    if not math.isfinite(metric.target):
        runs = runs.iloc[:0]
    ends, end_s = _ends(runs)
    is_reached = np.isfinite(runs["time_to_target_s"]) & ~runs["is_lost"]
    runs = runs.assign(is_reached=is_reached, time_s=runs["time_to_target_s"].where(is_reached, ends))
    runs["restricted_s"] = runs["time_s"].where(is_reached, end_s).clip(upper=end_s)
    runs["has_failed"] = runs["status"] == "failed"
    columns = ["arm", "seed", "source", "is_lost", "has_failed", "is_reached", "time_s", "restricted_s"]
    kept = runs.loc[np.isfinite(runs["restricted_s"]), columns].reset_index(drop=True)
    return Watch(kept, end_s, metric, _grains(frames, runs))


def _grains(frames: Frames, runs: pd.DataFrame) -> dict[str, float]:
    """Return by arm the longest time between two evaluations of a run, in the median over its runs."""
    looks = frames.epochs[frames.epochs["run_id"].isin(runs["run_id"])].sort_values(["run_id", "budget_time_s"])
    gaps = looks.groupby("run_id")["budget_time_s"].diff().groupby(looks["run_id"]).max()
    by_arm = runs["run_id"].map(gaps).astype("float64").groupby(runs["arm"]).median().dropna()
    return {str(arm): float(gap) for arm, gap in by_arm.items()}


def _ends(runs: pd.DataFrame) -> tuple[pd.Series, float]:
    """Return when the budget of each run ends, and the time up to which all can be compared."""
    completed = runs["budget_time_s"].where(runs["status"] == "completed")
    own = completed.fillna(runs["budget_seconds"])
    own = own.fillna(completed.groupby(runs["arm"]).transform("max")).fillna(completed.max())
    own = own.fillna(runs["time_to_target_s"].max())  # all stopped there
    known = runs["budget_seconds"].min()
    return own, float(known if np.isfinite(known) else own.min())


def _reached(arm: str, runs: pd.DataFrame, end_s: float) -> Reached:
    """Return what there is to say of one arm."""
    median = survival.median_time(runs["time_s"], ~runs["is_reached"])
    source = next(iter(runs["source"].dropna()), None)
    mean = estimate(runs["restricted_s"])
    low, high = np.clip([mean.low, mean.high], 0.0, end_s)
    return Reached(arm, source, runs, median, replace(mean, low=float(low), high=float(high)))
