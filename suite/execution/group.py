"""Runs of several workers in Ray Train: one worker group trains a queue of runs, one after another."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from suite.execution.execute import Job, execute, execute_calibrations, record_failure, stored_calibrations
from suite.execution.session import num_gpus
from suite.results import Store
from suite.training.workers import COLLECTIVE_TIMEOUT_S, Workers

LOST_WORKERS = 2  # times that a run whose worker died is started again


def run_queue(calibrations: Sequence[Job], jobs: Sequence[Job], store: Store, scratch: Path) -> None:
    """Do runs of the same shape on one worker group, which goes on at the first unfinished one when it is restarted.

    Args:
        calibrations: Due before the runs.
        jobs: Due, in order; all of the same number of workers and threads.
        store: Where the rows go.
        scratch: For Train's own files, which nobody reads.

    Raises:
        KeyboardInterrupt: If the person at the keyboard says so.
    """
    run = jobs[0].run
    use_gpu = num_gpus() > 0
    trainer = TorchTrainer(
        train_queue,
        train_loop_config={"calibrations": list(calibrations), "jobs": list(jobs), "uri": store.uri},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=run.num_workers, use_gpu=use_gpu, resources_per_worker={"CPU": run.num_threads}
        ),
        run_config=RunConfig(
            name=f"queue-{uuid.uuid4().hex}",  # Train resumes by name; we resume by the store
            storage_path=str(scratch / "train"),
            failure_config=FailureConfig(
                max_failures=(len(jobs) + len(calibrations)) * (LOST_WORKERS + 1), controller_failure_limit=LOST_WORKERS
            ),
        ),
    )
    try:
        trainer.fit()
    except SystemExit as error:  # how Train ends when it is interrupted
        raise KeyboardInterrupt from error


def train_queue(config: dict[str, Any]) -> None:
    """Work through the queue on one worker; a collective call.

    Args:
        config: ``calibrations`` and ``jobs`` that were due when the group was planned, and the store's ``uri``.
    """
    workers, store = Workers.join(), Store(config["uri"])
    attempts = workers.share({run_id: row["attempt"] for run_id, row in store.finished().items()})
    due = [job for job in config["calibrations"] if job.run.run_id not in attempts]
    measured = execute_calibrations(due, store, workers)
    if len(due) < len(config["calibrations"]):  # the group was restarted after they were measured
        measured |= workers.share(stored_calibrations([job.run for job in config["calibrations"]], store.finished()))
    for job in config["jobs"]:
        if attempts.get(job.run.run_id, 0) < job.attempt and _may_start(job, store, workers):
            execute(replace(job, calibrations={**job.calibrations, **measured}), store, workers)


def _may_start(job: Job, store: Store, workers: Workers) -> bool:
    """Count the starts of a run, and give up on one that has taken its worker's process down again and again."""
    name = f"checkpoints/{job.run.run_id}.starts"
    num_starts = 0
    if workers.rank == 0:
        num_starts = int(store.folder.read(name)) if store.folder.has(name) else 0
        store.folder.write(name, str(num_starts + 1).encode())
        if num_starts > LOST_WORKERS:
            record_failure(job, store, f"its worker died {num_starts} times")
    return workers.share(num_starts) <= LOST_WORKERS
