"""What is measured of steps, all arms in turn: what they cost, and where their time goes."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TypeVar

import torch

from suite.config import Run
from suite.execution import provenance
from suite.execution.failures import failure_status, is_lost_peer, record_failure
from suite.execution.job import Job, Rows, look_up
from suite.execution.quiet import wait_until_quiet
from suite.execution.rows import row_of
from suite.plan import place_of
from suite.results import Store
from suite.training.assembly import Task
from suite.training.calibration import Calibration, CalibrationError, calibrate
from suite.training.outcome import Outcome
from suite.training.profiling import profile
from suite.training.workers import Workers

TIMED_S = 2.0  # of steps that each of the two passes of a profile takes of each arm
T = TypeVar("T")
Place = tuple[object, ...]
Calibrations = dict[str, Calibration]  # by cost key


def execute_calibrations(jobs: Sequence[Job], store: Store, workers: Workers) -> Calibrations:
    """Measure what a step of each arm costs, all arms in turn, and write a row for each; a collective call.

    An arm that cannot take a step is a row with the status ``failed``, and the others are measured without it.

    Args:
        jobs: One a cost, all of one place.
        store: Where rank 0 writes the rows.
        workers: The workers that measure.

    Returns:
        By cost key.

    Raises:
        CalibrationError: If another worker was lost.
        RuntimeError: If an arm failed on this worker while others may wait for it: their group cannot go on.
    """  # noqa: DOC502
    measured = _in_turn(jobs, store, workers, calibrate, lambda found: Outcome(columns=asdict(found)))
    return {job.run.arm.name: calibration for job, calibration in measured}


def execute_profiles(jobs: Sequence[Job], store: Store, workers: Workers) -> None:
    """Time the parts of a step of each arm, all arms in turn, and write a row for each; a collective call.

    Args:
        jobs: One an entry, all of one place.
        store: Where rank 0 writes the rows.
        workers: The workers that measure.

    Raises:
        CalibrationError: If another worker was lost.
        RuntimeError: If an arm failed on this worker while others may wait for it: their group cannot go on.
    """  # noqa: DOC502

    def measure(tasks: Sequence[Task], workers: Workers) -> list[Outcome]:
        found = [each.as_metrics() for each in profile(tasks, workers, TIMED_S)]
        return [
            Outcome(metrics=[{"step": 0, "name": name, "value": value} for name, value in metrics.items()])
            for metrics in found
        ]

    _in_turn(jobs, store, workers, measure, lambda found: found)


def by_place(jobs: Sequence[Job]) -> dict[Place, list[Job]]:
    """Return jobs that can be measured in turn together.

    Args:
        jobs: Any.

    Returns:
        By place, in their order.
    """
    places: dict[Place, list[Job]] = {}
    for job in jobs:
        places.setdefault(place_of(job.run), []).append(job)
    return places


def _in_turn(
    jobs: Sequence[Job],
    store: Store,
    workers: Workers,
    measure: Callable[[Sequence[Task], Workers], list[T]],
    outcome: Callable[[T], Outcome],
) -> list[tuple[Job, T]]:
    """Measure all jobs together, without those that cannot take a step."""
    left = list(jobs)
    is_quiet = wait_until_quiet() if left else None
    while left:
        torch.set_num_threads(left[0].run.num_threads)
        times = {"started_at": datetime.now(UTC), "load_before": provenance.load_average(), "is_quiet": is_quiet}
        try:
            measured = list(zip(left, measure([look_up(job) for job in left], workers), strict=True))
        except CalibrationError as error:
            if is_lost_peer(error.__cause__ or error):
                raise
            failed = next(job for job in left if error.arm == job.run.label)
            left.remove(failed)
            reason = "".join(traceback.format_exception(error.__cause__))
            record_failure(failed, store, reason, failure_status(error.__cause__))
            if workers.num_workers > 1:
                raise RuntimeError(str(error)) from error
            continue
        for job, found in measured if workers.rank == 0 else ():
            result = outcome(found)
            row = row_of(job, result) | times | {"finished_at": datetime.now(UTC)}
            store.write(row, {"metrics": result.metrics})
        return measured
    return []


def stored_calibrations(runs: Sequence[Run], finished: Rows) -> Calibrations:
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


def stored_by_place(runs: Sequence[Run], finished: Rows) -> dict[Place, Calibrations]:
    """Return the calibrations that the store holds.

    Args:
        runs: Calibrations, planned.
        finished: Rows by run id.

    Returns:
        By place; in each by cost key, without those that failed.
    """
    places: dict[Place, list[Run]] = {}
    for run in runs:
        places.setdefault(place_of(run), []).append(run)
    return {place: stored_calibrations(group, finished) for place, group in places.items()}
