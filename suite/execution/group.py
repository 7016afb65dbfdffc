"""Runs of several workers in Ray Train: one worker group trains a queue of runs, one after another."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from suite.errors import UsageError
from suite.execution.execute import execute
from suite.execution.failures import record_failure
from suite.execution.job import Job
from suite.execution.measure import (
    Calibrations,
    Place,
    by_place,
    execute_calibrations,
    execute_profiles,
    stored_by_place,
)
from suite.execution.points import Points
from suite.execution.pruning import watch_for
from suite.execution.sampling import LEARNING
from suite.execution.session import num_gpus, worker_slots
from suite.execution.storage import storage_of
from suite.plan import place_of
from suite.results import Store
from suite.training.workers import COLLECTIVE_TIMEOUT_S, Workers

LOST_WORKERS = 2  # times that a run whose worker died is started again


def run_queues(jobs: Sequence[Job], points: Points, store: Store, scratch: Path, judge: Any = None) -> None:  # noqa: ANN401
    """Do trials of several workers on as many worker groups at once as there is room for.

    Args:
        jobs: In order; their hyperparameters are still to be proposed.
        points: Proposes them.
        store: Where the rows go.
        scratch: For Train's own files, which nobody reads.
        judge: Says which trial is pruned; ``None`` if none is.
    """
    run = jobs[0].run
    slots = worker_slots(run.num_threads, run.gpus_per_worker if num_gpus() else 0)
    num_groups = 1 if run.budget.mode == "live" else max(1, min(slots // run.num_workers, len(jobs)))
    asked: Points | None = points
    if run.sampler not in LEARNING:
        jobs, asked = [replace(job, hyperparameters=points.propose(job.run)) for job in jobs], None
    shares = [jobs[k::num_groups] for k in range(num_groups)]
    if num_groups == 1:
        run_queue([], jobs, store, scratch, asked, judge)
        return
    start = ray.remote(num_cpus=0, max_retries=LOST_WORKERS)(_run_queue)
    problems = ray.get([start.remote([], share, store, scratch, asked, judge) for share in shares])
    raise_first(problems)


def run_queue(  # noqa: PLR0917
    measurements: Sequence[Job],
    jobs: Sequence[Job],
    store: Store,
    scratch: Path,
    points: Points | None = None,
    judge: Any = None,  # noqa: ANN401
) -> None:
    """Do runs of the same shape on one worker group, which goes on at the first unfinished one when it is restarted.

    Args:
        measurements: Calibrations and profiles that are due before the runs.
        jobs: Due, in order; all of the same number of workers and threads.
        store: Where the rows go.
        scratch: For Train's own files, which nobody reads.
        points: Proposes hyperparameters when a run's turn comes; ``None`` if the jobs have them.
        judge: Says which run is pruned; ``None`` if none is.

    Raises:
        UsageError: If the results cannot be written.
    """  # noqa: DOC502
    raise_first([_run_queue(measurements, jobs, store, scratch, points, judge)])


def raise_first(problems: Sequence[str | None]) -> None:
    """Raise what other processes have met.

    Args:
        problems: Messages, ``None`` where all is well.

    Raises:
        UsageError: With the first message.
    """
    for problem in problems:
        if problem:
            raise UsageError(problem)


def _run_queue(  # noqa: PLR0917
    measurements: Sequence[Job],
    jobs: Sequence[Job],
    store: Store,
    scratch: Path,
    points: Points | None,
    judge: Any,  # noqa: ANN401
) -> str | None:
    """Do the queue, and return why the results cannot be written, if so."""
    run = [*jobs, *measurements][0].run
    use_gpu = num_gpus() > 0
    resources = {"CPU": float(run.num_threads)} | ({"GPU": run.gpus_per_worker} if use_gpu else {})
    trainer = TorchTrainer(
        train_queue,
        train_loop_config={
            "measurements": list(measurements),
            "jobs": list(jobs),
            "uri": store.uri,
            "points": points,
            "judge": judge,
        },
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(num_workers=run.num_workers, use_gpu=use_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=f"queue-{uuid.uuid4().hex}",  # Train resumes by name; we resume by the store
            **storage_of(store, scratch),
            failure_config=FailureConfig(
                max_failures=(len(jobs) + len(measurements)) * (LOST_WORKERS + 1), controller_failure_limit=LOST_WORKERS
            ),
        ),
    )
    try:
        problem: str | None = trainer.fit().return_value
    except SystemExit as error:  # how Train ends when it is interrupted
        raise KeyboardInterrupt from error
    except ControllerError as error:  # as where a node has died, and nothing comes for it
        return (
            f"Ray Train gave up on its workers: {str(error).splitlines()[0]}; the same command goes on where it stopped"
        )
    return problem


def train_queue(config: dict[str, Any]) -> str | None:
    """Work through the queue on one worker; a collective call.

    Args:
        config: ``measurements`` and ``jobs`` that were due when the group was planned, the store's ``uri``, and
            ``points`` and ``judge`` as :func:`run_queue` takes them.

    Returns:
        Why the results cannot be written, which ends the queue; ``None`` if they can.
    """
    workers, store = Workers.join(), Store(config["uri"])
    attempts = workers.share({run_id: row["attempt"] for run_id, row in store.finished().items()})

    def is_due(job: Job) -> bool:
        return bool(attempts.get(job.run.run_id, 0) < job.attempt)

    due = [job for job in config["measurements"] if is_due(job)]
    measured, problem = _measure(due, store, workers)
    if problem:
        return problem
    if len(due) < len(config["measurements"]):  # the group was restarted after they were measured
        runs = [job.run for job in config["measurements"] if job.run.purpose == "calibrate"]
        measured |= workers.share(stored_by_place(runs, store.finished()))
    for job in filter(is_due, config["jobs"]):
        calibrated = replace(job, calibrations={**job.calibrations, **measured.get(place_of(job.run), {})})
        if problem := _attempt(calibrated, store, workers, config["points"], config["judge"]):
            return problem
    return None


def _measure(due: Sequence[Job], store: Store, workers: Workers) -> tuple[dict[Place, Calibrations], str | None]:
    """Calibrate and profile, and return why the results cannot be written, if so."""
    measured: dict[Place, Calibrations] = {}
    for place, jobs in by_place(due).items():
        problem = None
        try:
            costs = [job for job in jobs if job.run.purpose == "calibrate"]
            measured[place] = execute_calibrations(costs, store, workers)
            execute_profiles([job for job in jobs if job.run.purpose == "profile"], store, workers)
        except UsageError as error:
            problem = str(error)
        if problem := workers.share(problem):
            return measured, problem
    return measured, None


def _attempt(job: Job, store: Store, workers: Workers, points: Points | None, judge: Any) -> str | None:  # noqa: ANN401
    """Do a run, unless it was tried too often, and return why the results cannot be written, if so."""
    problem = None
    try:
        if _may_start(job, store, workers):
            _execute(job, store, workers, points, judge)
    except UsageError as error:
        problem = str(error)
    return workers.share(problem)


def _execute(job: Job, store: Store, workers: Workers, points: Points | None, judge: Any) -> None:  # noqa: ANN401
    """Do a run, with the point that is proposed for it where one is still to be."""
    if points is not None:
        point = points.propose_alone(job.run, store.finished()) if workers.rank == 0 else {}
        job = replace(job, hyperparameters=workers.share(point))
    execute(job, store, workers, watch_for(judge, job.run))
    if judge is not None and workers.rank == 0:
        judge.finish.remote(job.run.run_id, store.read_run(job.run.run_id, job.attempt))


def _may_start(job: Job, store: Store, workers: Workers) -> bool:
    """Count the starts of a run, and give up on one that has taken its worker's process down again and again."""
    num_starts, problem = 0, None
    if workers.rank == 0:
        try:
            num_starts = _count_start(job, store)
        except UsageError as error:
            problem = str(error)
    num_starts, problem = workers.share((num_starts, problem))
    raise_first([problem])
    return num_starts <= LOST_WORKERS


def _count_start(job: Job, store: Store) -> int:
    """Return how often a run was started before, and take note of one more; of one too many as its end."""
    name = f"checkpoints/{job.run.run_id}.starts"
    num_starts = int(store.folder.read(name)) if store.folder.has(name) else 0
    store.folder.write(name, str(num_starts + 1).encode())
    if num_starts > LOST_WORKERS:
        record_failure(job, store, f"its worker died {num_starts} times")
    return num_starts
