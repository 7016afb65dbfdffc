"""Each part of an optimizer on and off (Fig 12)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, by_arm, counts, frame_of, raced, reference_of, spread, spread_of, text
from reports.answers.paired import compare, difference_columns
from reports.frames import Frames, Part, race_runs
from reports.race import race

WHOLE = "adafisher"  # the arm that nothing was taken from

COLUMNS = (
    text("workload", "case", "arm", "reference")
    | counts("num_runs", "num_lost")
    | spread("test_metric")
    | difference_columns("difference")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every case."""
    return frame_of((row for part in raced(frames) for row in _rows(part)), COLUMNS)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case, the reference first."""
    runs, result = race_runs(part.frames), race(part.frames)
    reference = str(reference_of(runs, WHOLE))
    scores = by_arm(runs, "test_metric")
    others = [s.arm for s in result.competitors if s.arm != reference and {s.arm, reference} <= {*scores}]
    found = dict(zip(others, compare([(scores[arm], scores[reference]) for arm in others]), strict=True))
    for standing in sorted(result.standings, key=lambda standing: standing.arm != reference):
        yield {
            "workload": part.workload,
            "case": part.case,
            "arm": standing.arm,
            "reference": reference,
            "num_runs": standing.num_runs,
            "num_lost": standing.num_lost,
            **spread_of("test_metric", standing.metric),
            **(found[standing.arm].cells("difference") if standing.arm in found else {}),
        }


ANSWER = Answer(
    name="ablations",
    title="Ablations",
    question="What does each part of the optimizer contribute?",
    table=table,
    note="difference: mean over common seeds of the arm's test metric minus that of the reference, with its 95 % "
    "interval; Holm-corrected over the pairs of the case. The reference is AdaFisher as the paper defines it, else the "
    "arm that started first.",
)
