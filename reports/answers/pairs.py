"""Every pair of arms: by how much they differ, and whether that is resolved."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, raced, settings, text
from reports.frames import Frames, Part, race_runs
from reports.race import race, verdict

COLUMNS = (
    text("workload", "case", "quantity", "first", "second")
    | counts("num_seeds")
    | numbers("difference", "p_value", "p_holm")
    | text("verdict")
    | numbers("detectable_difference")
    | counts("seeds_needed")
    | numbers("p_first_is_better")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row a pair of competing arms, quantity and case, then the controls against their arms."""
    return frame_of((row for part in raced(frames) for row in _rows(part)), COLUMNS)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case."""
    result = race(part.frames)
    place = settings(race_runs(part.frames))
    for quantity, pairs in (
        (f"test {result.metric.name}", (*result.comparisons, *result.controls)),
        ("test loss", result.loss_comparisons),
    ):
        for pair in pairs:
            yield {
                "workload": place["workload"],
                "case": place["case"],
                "quantity": quantity,
                "first": pair.first,
                "second": pair.second,
                "num_seeds": pair.n,
                "difference": pair.difference,
                "p_value": pair.p_value,
                "p_holm": pair.p_holm,
                "verdict": verdict(pair),
                "detectable_difference": pair.detectable,
                "seeds_needed": pair.seeds_needed,
                "p_first_is_better": pair.p_improvement,
            }


ANSWER = Answer(
    name="pairs",
    title="Pairs of arms",
    question="By how much does each arm differ from each other, and could noise explain it?",
    table=table,
    note="difference: mean of first minus second over their common seeds. Two-sided paired t-test, Holm-corrected over "
    "the pairs of a case and quantity; resolved below 0.05. detectable_difference: the smallest that had an 80 % "
    "chance to be resolved here; seeds_needed: for an 80 % chance to resolve the seen difference, null above 10,000. "
    "p_first_is_better: over all pairs of seeds; it decides nothing. A control is tested against its own arm alone.",
)
