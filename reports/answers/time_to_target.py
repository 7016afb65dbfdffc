"""How soon the runs of each arm reach the validation target, those counted that never do."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports import stats
from reports.answers.base import Answer, counts, frame_of, numbers, raced, settings, spread, spread_of, text
from reports.answers.paired import Difference, difference_columns
from reports.frames import Frames, Part, base_arm, race_runs
from reports.race import outcome
from reports.targets import Reached, Watch, watch

COLUMNS = (
    text("workload", "case", "budget", "arm", "source", "metric")
    | numbers("target", "end_s")
    | counts("num_runs", "num_reached", "num_lost")
    | numbers("median_time_to_target_s")
    | spread("restricted_time_s")
    | difference_columns("slower_than_best_s")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every case whose workload has a target, the soonest first."""
    return frame_of((row for part in raced(frames) for row in _rows(part)), COLUMNS)


def against_best(found: Watch) -> dict[str, Difference]:
    """Return by arm by how much it is slower than the best one, of restricted times over common seeds.

    Which arm is best was read off the same runs, so that the correction is over all pairs of the case, not over those
    with the best alone. A control is tested against its own arm, uncorrected.

    Args:
        found: Of one part of a study.

    Returns:
        Nothing for the best arm; empty where no run reached the target by the end.
    """
    values = found.runs.pivot_table(index="seed", columns="arm", values="restricted_s", aggfunc="mean", dropna=False)
    competitors = [arm.arm for arm in found.arms if arm.source != "control"]
    if not (values[competitors].to_numpy() < found.end_s).any():
        return {}
    failed = {str(arm) for arm in found.runs.loc[found.runs["has_failed"], "arm"]}
    rules: dict[str, Any] = {"exclude": failed, "grains": found.grains}
    tests = stats.paired_tests(values[competitors], **rules)
    pairs = {test.second: test for test in tests if test.first == competitors[0]}
    for arm in found.arms:
        if arm.source == "control" and base_arm(arm.arm) in competitors:
            [pairs[arm.arm]] = stats.paired_tests(values[[base_arm(arm.arm), arm.arm]], **rules)
    return {
        arm: Difference(stats.estimate(-test.differences), test.p_holm, outcome(test.p_holm, excluded=test.excluded))
        for arm, test in pairs.items()
    }


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case."""
    found, runs = watch(part.frames), race_runs(part.frames)
    differences = against_best(found)
    for arm in found.arms:
        difference = differences.get(arm.arm)
        yield {
            **settings(runs[runs["arm"] == arm.arm]),
            "arm": arm.arm,
            "source": arm.source,
            "metric": found.metric.name,
            "target": found.metric.target,
            "end_s": found.end_s,
            "num_runs": len(arm.runs),
            "num_reached": arm.num_reached,
            "num_lost": arm.num_lost,
            "median_time_to_target_s": arm.median_s,
            **spread_of("restricted_time_s", arm.restricted),
            **(difference.cells("slower_than_best_s") if difference else {}),
            "slower_than_best_s_verdict": _verdict(arm, differences),
        }


def _verdict(arm: Reached, differences: dict[str, Difference]) -> str:
    """Return how an arm compares with the best one, in words."""
    if not differences:
        return ""
    if arm.arm not in differences:
        return "best mean"
    verdict = differences[arm.arm].verdict
    return f"control of {base_arm(arm.arm)}: {verdict}" if arm.source == "control" else verdict


ANSWER = Answer(
    name="time_to_target",
    title="Time to the target",
    question="How soon do the runs of each arm reach the validation target, those counted that never do?",
    table=table,
    note="The target is looked at at each evaluation. median: the first time by which half of the runs had reached it "
    "(Kaplan-Meier); null where fewer than half did. restricted_time_s: the time to the target or end_s, "
    "whichever is sooner, and end_s where it was not reached or the run was lost; mean, standard deviation and 95 "
    "% interval, cut to 0 … end_s, over all runs. end_s is the budget; of budgets without seconds the shortest "
    "that a run completed, so that all are watched until then. slower_than_best_s: mean paired difference of the "
    "restricted times over common seeds; since the best arm was read off the same runs, it is Holm-corrected over "
    "all pairs of the case. Times are known to an evaluation: differences that lie within the longest gap between "
    "two are equal, and are tested by their signs alone, or zero. An arm with a run that failed is not tested; "
    "one that diverged is, since it would never have reached the target. A control is compared with its own arm.",
)
