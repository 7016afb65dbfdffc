"""One planned run, executed in this process, with or without a process group, and written to the store.

Whatever happens in a run ends here as a row with a status.
"""

import json
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

import optimizers
from optimizers import Categorical, Float
from suite import workloads
from suite.config import Run
from suite.diagnostics import fallbacks, preconditioner_spread
from suite.errors import UsageError
from suite.execution import provenance
from suite.execution.quiet import wait_until_quiet
from suite.plan import cost_key
from suite.results import SCHEMA_VERSION, Store
from suite.training.assembly import Task
from suite.training.batches import steps_per_epoch
from suite.training.calibration import Calibration, CalibrationError, calibrate
from suite.training.clock import TrainClock
from suite.training.limits import Limit, LiveLimit, StepLimit
from suite.training.loop import Outcome, Watch, train
from suite.training.workers import Workers
from suite.workloads import Data

PROBES = (preconditioner_spread, fallbacks)
FAILURES = ("failed", "out_of_memory")
_PLANNED = (  # columns that say of a run what its plan says
    *("study", "workload", "data_version", "purpose", "source", "sampler", "pruner", "trial", "seed", "splits"),
    *("num_workers", "num_threads", "batch_size", "sync_batchnorm"),
)
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is due, with all that it needs from runs before it.

    Args:
        run: The plan.
        hyperparameters: Sampled, won or fixed; over the optimizer's defaults.
        calibrations: By cost key: what a step costs, where the budget is a time.
        attempt: Number of this try.
        space: What is searched, where the hyperparameters are sampled.
        tuning: Columns that say what the sweep behind the hyperparameters cost.
    """

    run: Run
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    attempt: int = 1
    space: Mapping[str, Float | Categorical] | None = None
    tuning: Mapping[str, Any] = field(default_factory=dict)


def job_of(run: Run, finished: Rows, **rest: Any) -> Job:  # noqa: ANN401
    """Return a run that is due as the next attempt at it.

    Args:
        run: The plan.
        finished: Rows by run id.
        **rest: Further fields of the job.

    Returns:
        The job.
    """
    return Job(run=run, attempt=1 + finished.get(run.run_id, {"attempt": 0})["attempt"], **rest)


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
        outcome = _train(job, workers, checkpoint, watch)
    except Exception as error:
        if is_lost_peer(error):
            raise  # no failure of this run: the group starts again and goes on from the checkpoint
        outcome = Outcome(status=failure_status(error), columns={"error": traceback.format_exc()})
    has_failed = outcome.status in FAILURES
    if has_failed or workers.rank == 0:
        row = _row(job, outcome) | {"started_at": started_at, "load_before": load, "finished_at": datetime.now(UTC)}
        store.write(row, {"epochs": outcome.epochs, "steps": outcome.steps, "metrics": outcome.metrics})
        checkpoint.remove()
    if has_failed and workers.num_workers > 1:
        raise RuntimeError(f"run {job.run.run_id} ended as {outcome.status} on worker {workers.rank}")
    return outcome.status


def execute_calibrations(jobs: Sequence[Job], store: Store, workers: Workers) -> dict[str, Calibration]:
    """Measure what a step of each arm costs, all arms in turn, and write a row for each; a collective call.

    An arm that cannot take a step is a row with the status ``failed``, and the others are measured without it.

    Args:
        jobs: One an arm, all of one workload, batch size, workers and threads.
        store: Where rank 0 writes the rows.
        workers: The workers that measure.

    Returns:
        By cost key.

    Raises:
        CalibrationError: If another worker was lost.
        RuntimeError: If an arm failed on this worker while others may wait for it: their group cannot go on.
    """
    left = list(jobs)
    is_quiet = wait_until_quiet() if left else None
    while left:
        torch.set_num_threads(left[0].run.num_threads)
        times = {"started_at": datetime.now(UTC), "load_before": provenance.load_average()}
        try:
            measured = calibrate([look_up(job) for job in left], workers)
        except CalibrationError as error:
            if is_lost_peer(error.__cause__ or error):
                raise
            failed = next(job for job in left if job.run.arm.name == error.arm)
            left.remove(failed)
            reason = "".join(traceback.format_exception(error.__cause__))
            record_failure(failed, store, reason, failure_status(error.__cause__))
            if workers.num_workers > 1:
                raise RuntimeError(str(error)) from error
            continue
        if workers.rank == 0:
            for job, calibration in zip(left, measured, strict=True):
                row = _row(job, Outcome(columns={**asdict(calibration), "is_quiet": is_quiet}))
                store.write(row | times | {"finished_at": datetime.now(UTC)}, {})
        return {job.run.arm.name: calibration for job, calibration in zip(left, measured, strict=True)}
    return {}


def stored_calibrations(runs: Sequence[Run], finished: Rows) -> dict[str, Calibration]:
    """Return the calibrations that the store holds.

    Args:
        runs: Calibrations, planned.
        finished: Rows by run id.

    Returns:
        By cost key, which is the name of their arm; without those that failed.
    """
    names = [f.name for f in fields(Calibration)]
    rows = {run.arm.name: finished[run.run_id] for run in runs if run.run_id in finished}
    measured = {arm: row for arm, row in rows.items() if row["status"] == "completed"}
    return {arm: Calibration(**{name: row[name] for name in names}) for arm, row in measured.items()}


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
    store.write(_row(job, outcome) | {"started_at": now, "finished_at": now}, {})


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


def look_up(job: Job) -> Task:
    """Look up everything that a job names.

    Args:
        job: What is due.

    Returns:
        The task to train.

    Raises:
        UsageError: If an optimizer, a workload or a hyperparameter is unknown or out of range.
    """  # noqa: DOC502
    run = job.run
    workload = workloads.find(run.workload)
    spec, config = configure(run, job.hyperparameters)
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return Task(
        run=run, workload=workload, spec=spec, config=config, data=_data(run.workload, run.splits), device=device
    )


def configure(run: Run, hyperparameters: Mapping[str, Any]) -> tuple[optimizers.OptimizerSpec, Any]:
    """Return a run's optimizer and its configuration.

    Args:
        run: The plan.
        hyperparameters: Over what the arm fixes.

    Returns:
        The optimizer's spec and an instance of its ``config``.

    Raises:
        UsageError: If the optimizer or a hyperparameter is unknown, or a value is out of range.
    """
    try:
        spec = optimizers.find(run.arm.optimizer)
        return spec, spec.configure(**{**run.arm.fixed, **hyperparameters})
    except ValueError as error:
        raise UsageError(f"arm {run.arm.name!r}: {error}") from error
    except TypeError as error:
        given = {**run.arm.fixed, **hyperparameters}
        raise UsageError(f"arm {run.arm.name!r}: not all of {given} are of the kinds that it takes: {error}") from error


def _cost_key(job: Job) -> str:
    return cost_key(job.run, job.hyperparameters)


def _uncalibrated(job: Job) -> str | None:
    """Return the key of a calibration that the job needs and does not have."""
    budget = job.run.budget
    needed = [_cost_key(job)] if budget.is_calibrated else []
    needed += [budget.reference] if budget.reference else []
    return next((arm for arm in needed if arm not in job.calibrations), None)


def seconds_of(run: Run, calibrations: Mapping[str, Calibration], epoch_steps: int) -> float | None:
    """Return the training time that a budget asks for.

    Args:
        run: The plan.
        calibrations: By cost key; must hold the reference of ``wall_clock_of``.
        epoch_steps: Steps in an epoch of the workload at the run's batch size.

    Returns:
        Seconds, or ``None`` for a budget in epochs or steps.
    """
    budget = run.budget
    if budget.kind == "wall_clock_of":
        assert budget.reference is not None
        return budget.amount * epoch_steps * calibrations[budget.reference].step_s
    return budget.amount if budget.kind == "wall_clock" else None


@cache
def _data(workload: str, splits: str) -> Data:
    return workloads.load(workload).with_splits(splits)


def _train(job: Job, workers: Workers, checkpoint: _StoredCheckpoint, watch: Watch | None) -> Outcome:
    task, run = look_up(job), job.run
    num_steps = steps_per_epoch(task.data.train, run.batch_size)
    seconds = seconds_of(run, job.calibrations, num_steps)
    clock = TrainClock(task.device)
    calibration = job.calibrations[_cost_key(job)] if run.budget.is_calibrated else None
    limit = _limit(run, seconds, calibration, num_steps, clock, workers)
    outcome = train(
        task,
        limit=limit,
        clock=clock,
        workers=workers,
        step_s=calibration.step_s if calibration else None,
        checkpoints=checkpoint,
        probes=PROBES,
        watch=watch,
    )
    used = outcome.columns["budget_time_s"]
    outcome.columns["budget_seconds"] = seconds
    outcome.columns["overshoot_s"] = used - seconds if seconds is not None and outcome.status == "completed" else None
    outcome.columns |= asdict(calibration) if calibration else {}
    return outcome


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


def _row(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Return the row of the table ``runs``, less its times."""
    run = job.run
    values, workload = _described(job)
    plan = {name: getattr(run, name) for name in _PLANNED}
    return {
        "run_id": run.run_id,
        "attempt": job.attempt,
        "schema_version": SCHEMA_VERSION,
        **plan,
        "arm": run.label,
        "optimizer": run.arm.optimizer,
        "budget": str(run.budget) if run.purpose != "calibrate" else None,
        "schedule": str(run.schedule),
        **{name: values.get(name) for name in ("lr", "damping", "gamma", "weight_decay")},
        "hyperparameters": json.dumps(values),
        "search_space": json.dumps({name: asdict(atom) for name, atom in job.space.items()}) if job.space else None,
        **job.tuning,
        "status": outcome.status,
        **workload,
        **outcome.columns,
        "hostname": socket.gethostname(),
        "hardware": provenance.hardware(),
        "environment": provenance.environment(),
    }


def _described(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job's hyperparameters and what its row says of the workload, as far as both can be looked up."""
    try:
        spec = workloads.find(job.run.workload)
        _, config = configure(job.run, job.hyperparameters)
    except UsageError:
        return {**job.run.arm.fixed, **job.hyperparameters}, {}
    return asdict(config), {"metric_name": spec.metric_name, "metric_goal": spec.metric_goal, "target": spec.target}
