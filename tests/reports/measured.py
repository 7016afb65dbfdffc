"""Studies of memory and of scaling: what the figures of costs draw."""

from typing import Any

from reports.frames import Frames
from tests.reports.synthetic import case_of, frames_of, metrics_of, run

PARTS = {"parameters": 1, "gradients": 2, "optimizer_state": 3, "factors": 4, "activations": 50, "temporaries": 40}
SPLIT = {"data": 1.0, "forward": 2.0, "backward": 4.0, "factors": 0.5, "step": 2.0, "communication": 0.5}


def ledger(run_id: str, megabytes: float, predicted: float | None = None) -> list[dict[str, Any]]:
    """Return the metrics of a ledger whose categories have fixed shares, and what was predicted in MB."""
    bytes_ = {f"memory/{part}_bytes": 1e4 * share * megabytes for part, share in PARTS.items()}
    found = {**bytes_, "memory/peak_bytes": 1e6 * megabytes} if megabytes else {}
    if predicted is not None:
        found["predicted_memory/peak_bytes"] = 1e6 * predicted
    return metrics_of(run_id, found)


def remembered() -> Frames:
    """Return a study of memory: two arms at batch 64 and 256, where one of them ran out of memory at the larger."""
    runs = case_of("batch 64", {"sgd": [0.9], "adam": [0.9]}, batch_size=64)
    runs += case_of("batch 256", {"sgd": [0.9, 0.9], "adam": [None]}, batch_size=256)
    metrics = ledger("batch 64/sgd0", 10.0, 11.0) + ledger("batch 64/adam0", 20.0)
    metrics += ledger("batch 256/sgd0", 30.0, 30.0) + ledger("batch 256/sgd1", 40.0)
    metrics += ledger("batch 256/adam0", 0.0, 80.0)
    return frames_of(runs=runs, metrics=metrics)


def profiled(run_id: str, parts: dict[str, float], **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a profile: its row, and the metrics of its parts in seconds, with the kind of step before a slash."""
    values = {f"profile/{name}_s": seconds for name, seconds in parts.items()}
    return run(run_id, purpose="profile", **fields), metrics_of(run_id, values)


def scaled(workers: dict[int, list[float]], *, arm: str = "sgd", batch_size: int = 64) -> Frames:
    """Return a study of scaling: by number of workers the seconds of a step of each seed, with what they exchange.

    Args:
        workers: As above; the batch over all of them stays.
        arm: Its name.
        batch_size: Over all workers.

    Returns:
        Frames.
    """
    runs, metrics = [], []
    for count, seconds in workers.items():
        fields = {"num_workers": count, "batch_size": batch_size}
        rows = case_of(str(count), {arm: [0.9] * len(seconds)}, num_steps=100, num_epochs=1.0, **fields)
        runs += [row | {"train_time_s": 100 * each} for row, each in zip(rows, seconds, strict=True)]
        runs.append(run(f"p{count}", arm=arm, purpose="profile", **fields))
        counted = {"profile/collectives_per_step": 1.0, "profile/bytes_per_step": 1e6}
        metrics += metrics_of(f"p{count}", counted if count > 1 else dict.fromkeys(counted, 0.0))
    return frames_of(runs=runs, metrics=metrics)
