"""One planned run, executed in this process, with or without a process group, and written to the store.

Whatever happens in a run ends here as a row with a status.
"""

import io
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

import torch
from torch import Tensor, nn

from suite.config import Run
from suite.execution import provenance
from suite.execution.failures import FAILURES, failure_status, is_lost_peer, record_failure
from suite.execution.job import Job, look_up, seconds_of
from suite.execution.observe import after_training, probes_of
from suite.execution.rows import row_of
from suite.plan import cost_key
from suite.results import Store
from suite.training import memory
from suite.training.batches import steps_per_epoch
from suite.training.calibration import Calibration
from suite.training.clock import TrainClock
from suite.training.limits import Limit, LiveLimit, StepLimit
from suite.training.loop import train
from suite.training.outcome import Outcome, Watch
from suite.training.workers import Workers


class _StoredCheckpoint:
    """Keeps a run's checkpoint in the results directory."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store, self._name = store, f"checkpoints/{run.run_id}.pt"

    def read(self) -> bytes | None:
        folder = self._store.folder
        return folder.read(self._name) if folder.has(self._name) else None

    def write(self, content: bytes) -> None:
        self._store.folder.write(self._name, content)

    def remove(self) -> None:
        for suffix in (".pt", ".starts"):
            self._store.folder.remove(self._name.removesuffix(".pt") + suffix)


def execute(job: Job, store: Store, workers: Workers, watch: Watch | None = None) -> str:
    """Do a run and write its row; a collective call where there are several workers.

    Args:
        job: What is due.
        store: Where rank 0 writes the finished run.
        workers: The workers that do it.
        watch: As in :func:`~suite.training.loop.train`.

    Returns:
        Its status.

    Raises:
        RuntimeError: If the run failed on this worker while others may wait for it, or another worker was lost: their
            group cannot go on.
    """
    lacking = _uncalibrated(job)
    if lacking:
        if workers.rank == 0:
            record_failure(job, store, f"what a step of {lacking} costs is not known: its calibration failed")
        return "failed"
    started_at = datetime.now(UTC)
    load = provenance.load_average()
    torch.set_num_threads(job.run.num_threads)
    checkpoint = _StoredCheckpoint(store, job.run)
    try:
        outcome = _train(job, store, workers, checkpoint, watch)
    except Exception as error:
        if is_lost_peer(error):
            raise  # no failure of this run: the group starts again and goes on from the checkpoint
        outcome = Outcome(status=failure_status(error), columns={"error": traceback.format_exc()})
    has_failed = outcome.status in FAILURES
    if has_failed or workers.rank == 0:
        row = row_of(job, outcome) | {"started_at": started_at, "load_before": load, "finished_at": datetime.now(UTC)}
        store.write(row, {name: getattr(outcome, name) for name in ("epochs", "steps", "metrics", "arrays")})
        checkpoint.remove()
    if has_failed and workers.num_workers > 1:
        raise RuntimeError(f"run {job.run.run_id} ended as {outcome.status} on worker {workers.rank}")
    return outcome.status


def _cost_key(job: Job) -> str:
    return cost_key(job.run, job.hyperparameters)


def _uncalibrated(job: Job) -> str | None:
    """Return the key of a calibration that the job needs and does not have."""
    budget = job.run.budget
    needed = [_cost_key(job)] if budget.is_calibrated else []
    needed += [budget.reference] if budget.reference else []
    return next((arm for arm in needed if arm not in job.calibrations), None)


def _train(job: Job, store: Store, workers: Workers, checkpoint: _StoredCheckpoint, watch: Watch | None) -> Outcome:
    run = job.run
    task = replace(look_up(job), weights=_weights(store, run.initial_weights))
    num_steps = steps_per_epoch(task.data.train, run.batch_size)
    seconds = seconds_of(run, job.calibrations, num_steps)
    clock = TrainClock(task.device)
    calibration = job.calibrations[_cost_key(job)] if run.budget.is_calibrated else None
    before = memory.resident_bytes()
    outcome = train(
        task,
        limit=_limit(run, seconds, calibration, num_steps, clock, workers),
        clock=clock,
        workers=workers,
        step_s=calibration.step_s if calibration else None,
        checkpoints=checkpoint,
        probes=probes_of(task),
        watch=watch,
        keep=_keeper(store, run),
    )
    outcome.metrics += after_training(task, outcome, before)
    used = outcome.columns["budget_time_s"]
    outcome.columns["budget_seconds"] = seconds
    outcome.columns["overshoot_s"] = used - seconds if seconds is not None and outcome.status == "completed" else None
    outcome.columns |= asdict(calibration) if calibration else {}
    return outcome


def _keeper(store: Store, run: Run) -> Callable[[nn.Module], None] | None:
    """Return what stores the weights of a pretraining, for the runs that begin with them."""

    def keep(model: nn.Module) -> None:
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        store.folder.write(f"weights/{run.run_id}.pt", buffer.getvalue())

    return keep if run.purpose == "pretrain" else None


def _weights(store: Store, run_id: str | None) -> dict[str, Tensor] | None:
    """Return the weights that a pretraining has left."""
    if run_id is None:
        return None
    name = f"weights/{run_id}.pt"
    if not store.folder.has(name):
        raise RuntimeError(f"there are no weights to begin with: the pretraining {run_id} did not end well")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(store.folder.read(name)), map_location="cpu", weights_only=True)
    return weights


def _limit(
    run: Run,
    seconds: float | None,
    calibration: Calibration | None,
    epoch_steps: int,
    clock: TrainClock,
    workers: Workers,
) -> Limit:
    if seconds is None:
        steps = run.budget.amount * (epoch_steps if run.budget.kind == "epochs" else 1)
        return StepLimit(max(1, round(steps)))
    if calibration is None:
        return LiveLimit(seconds, clock, workers)
    return StepLimit(max(1, round(seconds / calibration.step_s)))
