"""The race in numbers: how each arm stands, and which pairs of arms are resolved.

How lost runs count: a race run that diverged, ran out of memory or failed has no finite metric. It is counted and it
loses: arms are ordered by the number of runs they lost first, by mean metric after, and an arm that lost a run is not
tested against others, because its remaining seeds are a selection.

A control is an arm that races once more under another name. It is shown and competes with none: it is tested against
its arm alone, uncorrected, and what is resolved there is a fault of the experiment.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import stats, text
from reports.frames import TOLD, Frames, Metric, base_arm, metric_of, race_runs, remembered


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
        source: Where its hyperparameters come from, as in the results; None where these do not say.
        num_tuning_trials: Trials behind them: 0 for defaults, NaN where the results do not say.
        tuning_time_s: Measured training time of those trials.
    """

    arm: str
    metric: stats.Estimate
    loss: stats.Estimate
    time_to_target_s: stats.Estimate
    num_runs: int
    num_lost: int
    num_reached: int
    source: str | None
    num_tuning_trials: float
    tuning_time_s: float

    @property
    def base(self) -> str:
        """The arm that it is an entry of: ``adam`` of ``adam (default)``."""
        return base_arm(self.arm) if self.source in TOLD else self.arm

    @property
    def is_control(self) -> bool:
        """Whether it is an arm once more, and no competitor."""
        return self.source == "control"


@dataclass(frozen=True, slots=True)
class Race:
    """The whole race.

    Args:
        metric: The workload's metric.
        standings: Arms in order: fewest lost runs, then best mean.
        comparisons: All pairs of competitors by test metric; ``first`` stands above ``second``.
        loss_comparisons: All pairs by test loss, in the same order; a table, and a Holm correction, of its own.
        controls: Each arm that raced twice against its control, by test metric.
    """

    metric: Metric
    standings: tuple[Standing, ...]
    comparisons: tuple[stats.Comparison, ...]
    loss_comparisons: tuple[stats.Comparison, ...]
    controls: tuple[stats.Comparison, ...] = ()

    @property
    def competitors(self) -> tuple[Standing, ...]:
        """The arms without the controls."""
        return tuple(standing for standing in self.standings if not standing.is_control)

    @property
    def complete(self) -> tuple[Standing, ...]:
        """The competitors that lost no run: the ones that can be tested."""
        return tuple(standing for standing in self.competitors if not standing.num_lost)

    def _verdict(self, comparison: stats.Comparison) -> str:
        """Return a verdict; where seeds are missing, the arm with the best mean may be worse on the common ones."""
        is_turned = comparison.resolved and self.metric.sign * comparison.difference < 0
        return verdict(comparison) + (": better on the common seeds" if is_turned else "")

    def against_best(self) -> dict[str, str]:
        """Return by arm its verdict against the best competitor; a control's is that against its own arm."""
        best = self.competitors[0].arm if self.competitors else ""
        found = {c.second: self._verdict(c) for c in self.comparisons if c.first == best}
        control = {c.second: f"control of {c.first}: {verdict(c)}" for c in self.controls}
        return {best: "best mean"} | found | control


def verdict(comparison: stats.Comparison) -> str:
    """Return whether a pair is resolved, in the words of the tables."""
    return outcome(comparison.p_holm, excluded=comparison.excluded)


def outcome(p_holm: float, *, excluded: bool = False) -> str:
    """Return whether a corrected p-value resolves, in the words of the tables.

    Args:
        p_holm: NaN where nothing was tested.
        excluded: Whether that is because runs were lost.

    Returns:
        ``resolved``, ``not resolved`` or ``not tested: …``.
    """
    if excluded:
        return "not tested: lost runs"
    if not math.isfinite(p_holm):
        return "not tested: fewer than two common seeds"
    return "resolved" if p_holm < stats.ALPHA else "not resolved"


def time_to_target(standing: Standing) -> str:
    """Return the time to the target; without a mean where a run did not reach it, since that mean would flatter."""
    if standing.num_reached == standing.num_runs:
        return f"{text.estimate(standing.time_to_target_s)} s"
    return f"reached in {standing.num_reached} of {text.count(standing.num_runs, 'run')}"


@remembered
def race(frames: Frames) -> Race:
    """Return the standings and comparisons of the race runs.

    Args:
        frames: Prepared frames of one part of a study.

    Returns:
        Empty standings if there are no race runs.
    """
    runs, metric, order = race_runs(frames), metric_of(frames), standings(frames)
    arms = [standing.arm for standing in order if not standing.is_control]
    twice = [(s.base, s.arm) for s in order if s.is_control and s.base in arms]
    lost = [standing.arm for standing in order if standing.num_lost]
    without_loss = [*lost, *_without_loss(runs)]
    pairs = (stats.compare_all(by_seed(runs, "test_metric", [*pair]), sign=metric.sign, exclude=lost) for pair in twice)
    return Race(
        metric,
        order,
        tuple(stats.compare_all(by_seed(runs, "test_metric", arms), sign=metric.sign, exclude=lost)),
        tuple(stats.compare_all(by_seed(runs, "test_loss", arms), sign=-1, exclude=without_loss)),
        tuple(pair for (pair,) in pairs),
    )


@remembered
def standings(frames: Frames) -> tuple[Standing, ...]:
    """Return the arms of the race in order: fewest lost runs, then best mean.

    Args:
        frames: Prepared frames of one part of a study.

    Returns:
        One an arm.

    Raises:
        ValueError: If the runs are of several workloads or cases, which no mean may mix.
    """
    runs, sign = race_runs(frames), metric_of(frames).sign
    mixed = runs[["workload", "case"]].drop_duplicates()
    if len(mixed) > 1:
        raise ValueError(f"a race has one workload and one case, but got {mixed.to_numpy().tolist()}")
    found = [_standing(str(arm), group) for arm, group in runs.groupby("arm")]
    return tuple(sorted(found, key=lambda s: (s.num_lost, -sign * s.metric.mean if s.metric.n else math.inf)))


def by_seed(runs: pd.DataFrame, column: str, arms: list[str]) -> pd.DataFrame:
    """Return a column of the race runs, a row a seed and a column an arm; lost and missing runs are NaN."""
    if runs.empty:
        return pd.DataFrame(columns=arms, dtype="float64")
    table = runs.pivot_table(index="seed", columns="arm", values=column, aggfunc="mean", dropna=False)
    return table.reindex(columns=arms)


def _without_loss(runs: pd.DataFrame) -> list[str]:
    """Return the arms of which a run has a finite metric and no finite loss, while other runs have one."""
    is_missing = ~runs["is_lost"] & ~np.isfinite(runs["test_loss"])
    return sorted({str(arm) for arm in runs.loc[is_missing, "arm"]}) if np.isfinite(runs["test_loss"]).any() else []


def _standing(arm: str, runs: pd.DataFrame) -> Standing:
    """Return the standing of one arm's race runs."""
    return Standing(
        arm,
        stats.estimate(runs["test_metric"]),
        stats.estimate([] if _without_loss(runs) else runs["test_loss"]),
        stats.estimate(runs["time_to_target_s"]),
        num_runs=len(runs),
        num_lost=int(runs["is_lost"].sum()),
        num_reached=int(np.isfinite(runs["time_to_target_s"]).sum()),
        source=next(iter(runs["source"].dropna()), None),
        num_tuning_trials=float(runs["num_tuning_trials"].max()),
        tuning_time_s=float(runs["tuning_time_s"].max()),
    )
