"""Where the time of a step goes (Fig 24), from a separate profiling pass."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, last_values, numbers, settings, text
from reports.frames import Frames, remembered

PARTS = ("data", "forward", "backward", "factors", "step", "communication")
KINDS = {"all": "", "plain": "plain/", "refresh": "refresh/"}  # of steps → prefix of the metrics

COLUMNS = (
    text("workload", "case")
    | counts("batch_size", "num_workers")
    | text("arm", "steps")
    | numbers(*(f"{part}_s" for part in PARTS), "total_s", *(f"{part}_share" for part in PARTS))
)


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return three rows an arm and case that were profiled: all steps, plain ones, refresh ones."""
    found = last_values(frames, "profile/")
    runs = frames.runs[frames.runs["run_id"].isin(found.index) & (frames.runs["purpose"] == "profile")]
    return frame_of(_rows(runs, found), COLUMNS)


def _rows(runs: pd.DataFrame, found: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of each profiled arm; no row for a kind of step that it does not have."""
    for row in runs.to_dict("records"):
        values = found.loc[row["run_id"]]
        for kind, prefix in KINDS.items():
            seconds = {part: values.get(f"{prefix}{part}_s") for part in PARTS}
            known = [value for value in seconds.values() if pd.notna(value)]
            total = sum(known)
            if not known:
                continue
            yield {
                **settings(runs[runs["run_id"] == row["run_id"]]),
                "arm": row["arm"],
                "steps": kind,
                **{f"{part}_s": value for part, value in seconds.items()},
                "total_s": total,
                **{f"{part}_share": value / total for part, value in seconds.items() if value is not None and total},
            }


ANSWER = Answer(
    name="time_split",
    title="Where the time of a step goes",
    question="How much of a step is data, forward, backward, factors, optimizer and communication?",
    table=table,
    note="Mean seconds a step, from a profiling pass with the machine to itself, and each part's share of the step. "
    "steps: all (plain and refresh steps combined by how often each comes), plain, or refresh (those that refresh the "
    "optimizer's factors); an arm without factors has no refresh steps.",
)
