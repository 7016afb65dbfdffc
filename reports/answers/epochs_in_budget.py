"""How many epochs of each arm fit into the same time, as the paper's Table 8."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, raced, reference_of, settings, text
from reports.frames import FINISHED, Frames, Part, race_runs

COLUMNS = (
    text("workload", "case", "budget")
    | counts("batch_size", "num_workers", "num_threads")
    | text("arm")
    | numbers("step_s", "step_s_low", "step_s_high", "budget_s")
    | counts("num_steps")
    | numbers("num_epochs")
    | text("reference")
    | numbers("epochs_over_reference")
)
_REFERENCE = re.compile(r"epochs of ([^,]+)")


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every case with a budget."""
    return frame_of((row for part in raced(frames) for row in _rows(part)), COLUMNS)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case; entries of one arm cost the same, and a control is its arm."""
    runs = race_runs(part.frames)
    runs = runs[runs["source"] != "control"]
    per_epoch = (runs["num_steps"] / runs["num_epochs"].where(runs["num_epochs"] > 0)).median()
    rows = [_row(str(arm), own, per_epoch) for arm, own in runs.groupby("arm")]
    named = _REFERENCE.search(str(next(iter(runs["budget"].dropna()), "")))
    reference = reference_of(runs, named[1]) if named else reference_of(runs)
    epochs = {row["arm"]: row["num_epochs"] for row in rows}.get(reference, np.nan)
    for row in sorted(rows, key=lambda row: -np.nan_to_num(row["num_epochs"])):
        yield row | {"reference": reference, "epochs_over_reference": row["num_epochs"] / epochs}


def _row(arm: str, runs: pd.DataFrame, per_epoch: float) -> dict[str, Any]:
    """Return what fits into the budget of an arm: as its runs took it, or as its calibration says where none did."""
    seconds = runs["budget_seconds"].median()
    done = runs[runs["status"].isin(FINISHED)]
    steps = done["num_steps"].median()
    if np.isnan(steps):
        steps = np.round(seconds / runs["step_s"].median())
    costs = {name: runs[name].median() for name in ("step_s", "step_s_low", "step_s_high")}
    return {
        **settings(runs),
        "arm": arm,
        **costs,
        "budget_s": seconds,
        "num_steps": np.floor(steps),
        "num_epochs": steps / per_epoch,
    }


ANSWER = Answer(
    name="epochs_in_budget",
    title="Epochs in the budget",
    question="How many steps and epochs of each arm fit into the same time?",
    table=table,
    note="step_s: calibrated seconds of a step, plain and refresh combined by frequency, with its 95 % interval. "
    "epochs_over_reference: epochs over those of the reference arm, the one that the budget names, else SGD. Null "
    "where the budget is no time.",
)
