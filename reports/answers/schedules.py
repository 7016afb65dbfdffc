"""What the schedule of the learning rate does for each arm (Fig 10)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, by_arm, counts, frame_of, raced, settings, spread, spread_of, text
from reports.answers.paired import compare, difference_columns
from reports.frames import Frames, Part, race_runs
from reports.race import race

USUAL = "cosine"

COLUMNS = (
    text("workload", "case", "schedule", "arm")
    | counts("num_runs", "num_lost")
    | spread("test_metric")
    | text("against_best", "reference_case")
    | difference_columns("difference")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every schedule."""
    found = list(raced(frames))
    workloads = dict.fromkeys(part.workload for part in found)
    groups = ([part for part in found if part.workload == workload] for workload in workloads)
    return frame_of((row for group in groups for row in _rows(group)), COLUMNS)


def _rows(group: list[Part]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a workload."""
    runs = {part.case: race_runs(part.frames) for part in group}
    competing = {case: own[own["source"] != "control"] for case, own in runs.items()}
    usual = next((case for case, own in runs.items() if (own["schedule"] == USUAL).all()), None)
    scores = {
        (case, arm): values for case, own in competing.items() for arm, values in by_arm(own, "test_metric").items()
    }
    asked = [key for key in scores if usual is not None and key[0] != usual and (usual, key[1]) in scores]
    found = dict(zip(asked, compare([(scores[key], scores[str(usual), key[1]]) for key in asked]), strict=True))
    for part in group:
        result = race(part.frames)
        verdicts = result.against_best()
        for standing in result.standings:
            key = (part.case, standing.arm)
            yield {
                **settings(runs[part.case]),
                "arm": standing.arm,
                "num_runs": standing.num_runs,
                "num_lost": standing.num_lost,
                **spread_of("test_metric", standing.metric),
                "against_best": verdicts.get(standing.arm, ""),
                "reference_case": usual,
                **(found[key].cells("difference") if key in found else {}),
            }


ANSWER = Answer(
    name="schedules",
    title="Schedules of the learning rate",
    question="What does each arm reach under each schedule, and what does that differ from cosine by?",
    table=table,
    note="difference: mean over common seeds of the test metric minus that of the same arm under the cosine schedule, "
    "with its 95 % interval; Holm-corrected over the pairs of the workload. against_best ranks the arms within a "
    "schedule, corrected over all pairs of arms there.",
)
