"""Runs that fail: how that is told, and how it is stored."""

from datetime import UTC, datetime

import torch
import torch.distributed as dist

from suite.execution.job import Job
from suite.execution.rows import row_of
from suite.results import Store
from suite.training.outcome import Outcome

FAILURES = ("failed", "out_of_memory")


def record_failure(job: Job, store: Store, reason: str, status: str = "failed") -> None:
    """Write the row of a run that cannot even begin.

    Args:
        job: What was due.
        store: Where the row goes.
        reason: Stored as its error.
        status: ``failed`` or ``out_of_memory``.
    """
    now = datetime.now(UTC)
    outcome = Outcome(status=status, columns={"error": reason})
    store.write(row_of(job, outcome) | {"started_at": now, "finished_at": now}, {})


def is_lost_peer(error: BaseException) -> bool:
    """Tell whether an exception means that another worker has gone, rather than that this run failed.

    Args:
        error: What a run raised.

    Returns:
        Whether it comes from the communication between workers.
    """
    texts = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL error")
    return isinstance(error, dist.DistError) or any(text in str(error) for text in texts)


def failure_status(error: BaseException | None) -> str:
    """Tell whether an exception means that memory ran out.

    Args:
        error: What a run raised.

    Returns:
        ``out_of_memory`` or ``failed``.
    """
    is_cpu_allocator = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or is_cpu_allocator
    return "out_of_memory" if is_memory else "failed"
