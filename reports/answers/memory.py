"""What a step of each arm keeps in memory: measured, predicted, and what the process took (Fig 23B).

Where no ledger was kept, what every run records stands alone: the sizes of parameters and optimizer state.
"""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, last_values, numbers, settings, text
from reports.frames import LOST, Frames, remembered

PARTS = tuple(
    f"{name}_bytes"
    for name in ("parameters", "gradients", "optimizer_state", "factors", "activations", "temporaries", "peak")
)
SIZES = {  # what every run records
    "parameters_bytes": "parameter_bytes",
    "optimizer_state_bytes": "optimizer_state_bytes",
    "peak_rss_bytes": "peak_rss_bytes",
}
CUDA = ("peak_cuda_allocated_bytes", "peak_cuda_reserved_bytes")

COLUMNS = (
    text("workload", "case")
    | counts("batch_size")
    | text("arm", "source")
    | counts("num_runs", "num_lost", *PARTS, "predicted_peak_bytes")
    | numbers("prediction_error")
    | counts("rss_before_bytes", "peak_rss_bytes", "rss_beside_ledger_bytes", *CUDA)
)


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm, workload and batch size of every case, if a size is known."""
    measured = last_values(frames, "memory/").add_prefix("memory/")
    predicted = last_values(frames, "predicted_memory/").add_prefix("predicted/")
    runs = frames.runs.set_index("run_id", drop=False)
    is_known = runs.index.isin([*measured.index, *predicted.index]) | (runs["optimizer_state_bytes"] >= 0)
    asked = runs.loc[is_known & runs["purpose"].isin(("race", "single"))]
    keys = ["workload", "case", "batch_size", "arm"]
    known = asked[keys].drop_duplicates()
    group = runs.merge(known, on=keys).set_index("run_id", drop=False).join(measured).join(predicted)
    return frame_of(_rows(group[group["purpose"].isin(("race", "single"))], keys), COLUMNS)


def _rows(runs: pd.DataFrame, keys: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows: of each arm the run with the largest peak, so that its parts add up."""
    for _, own in runs.groupby(keys, dropna=False):
        is_lost = own["status"].isin(LOST)
        kept = own[~is_lost]
        if "memory/peak_bytes" in kept:
            kept = kept.sort_values("memory/peak_bytes", na_position="first")
        top: dict[str, Any] = {} if kept.empty else {str(k): v for k, v in kept.iloc[-1].items()}
        found = {name: top.get(f"memory/{name}", math.nan) for name in (*PARTS, "rss_before_bytes", "peak_rss_bytes")}
        has_ledger = math.isfinite(found["peak_bytes"])
        if not has_ledger:
            found |= {ours: top.get(column, math.nan) for ours, column in SIZES.items()}
        peak, predicted = found["peak_bytes"], _predicted(own)
        yield {
            **settings(own),
            "arm": own["arm"].iloc[0],
            "source": "ledger" if has_ledger else "sizes alone",
            "num_runs": len(own),
            "num_lost": is_lost.sum(),
            **found,
            "predicted_peak_bytes": predicted,
            "prediction_error": predicted / peak - 1 if peak else math.nan,
            "rss_beside_ledger_bytes": found["peak_rss_bytes"] - found["rss_before_bytes"] - peak,
            **{name: top.get(name) for name in CUDA},
        }


def _predicted(runs: pd.DataFrame) -> float:
    """Return the predicted peak, which needs no run to have finished."""
    values = runs["predicted/peak_bytes"].dropna() if "predicted/peak_bytes" in runs else pd.Series(dtype="float64")
    return float(values.max()) if len(values) else math.nan


ANSWER = Answer(
    name="memory",
    title="Memory",
    question="What does a step of each arm hold at its peak, and is that what was predicted without running it?",
    table=table,
    note="source: ledger where the allocator's events were followed; else only the sizes that every run records, where "
    "peak_rss_bytes is of a process that may have done other runs before. Ledger: bytes of each category at the "
    "instant of the peak, of the run with the largest peak; peak_bytes is their sum. prediction_error: predicted over "
    "measured peak, minus 1. rss_beside_ledger_bytes: what the process grew by beyond the ledger's peak: buffers of "
    "libraries, and memory that the allocator keeps or returns. A lost run is counted and gives no number, but what "
    "was predicted for it stands.",
)
