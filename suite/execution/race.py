"""Do a race: pretrainings, then what is measured of steps, then its runs, those of one shape together."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from suite.config import Run
from suite.execution.failures import record_failure
from suite.execution.group import run_queue
from suite.execution.job import Job, job_of
from suite.execution.measure import stored_by_place
from suite.execution.selection import Rows, due, outdated, winners
from suite.execution.trials import measure_alone, run_in_processes, run_trials
from suite.plan import calibrations, place_of, pretrainings, profiles, race_runs
from suite.results import Store
from suite.study import Study

Say = Callable[[str], None]
Shape = tuple[int, int, float]  # workers, threads and share of a GPU of each


def race(study: Study, store: Store, scratch: Path, say: Say, retry: Collection[str] = ()) -> None:
    """Do the runs of a race that a study still lacks.

    Args:
        study: With a race.
        store: Its results.
        scratch: For what Ray writes.
        say: Prints a line of progress.
        retry: Statuses of runs that are to be done again.
    """
    _pretrain(study, store, scratch, say, retry)
    finished, races = store.finished(), race_runs(study)
    jobs = _jobs(study, races, store, finished, retry)
    measurements = _measurements(study, races, finished, retry)
    for shape in dict.fromkeys(_shape(job.run) for job in [*measurements, *jobs]):
        first = [job for job in measurements if _shape(job.run) == shape]
        then = [job for job in jobs if _shape(job.run) == shape]
        say(f"racing: {len(then)} runs on {shape[0]} worker(s) x {shape[1]} thread(s), which start now")
        if shape[0] > 1:
            run_queue(first, then, store, scratch)
        else:
            _race_alone(study, first, then, store, scratch)


def _shape(run: Run) -> Shape:
    return run.num_workers, run.num_threads, run.gpus_per_worker


def _pretrain(study: Study, store: Store, scratch: Path, say: Say, retry: Collection[str]) -> None:
    finished = store.finished()
    jobs = [job_of(run, finished) for run in due(pretrainings(study), finished, retry)]
    if jobs:
        say(f"pretraining: {len(jobs)} runs")
        _run_alike(jobs, store, scratch)


def _jobs(study: Study, races: Sequence[Run], store: Store, finished: Rows, retry: Collection[str]) -> list[Job]:
    """Return the races that are due, with what they race with; one without a winner is recorded as failed."""
    lacking = {run.run_id: run for run in [*due(races, finished, retry), *outdated(study, races, finished)]}
    chosen = winners(study, finished) if lacking else {}
    costs = stored_by_place(calibrations(races), finished)
    jobs = []
    for run in lacking.values():
        winner = chosen[run.arm.name, run.source]
        job = job_of(
            run,
            finished,
            hyperparameters=winner.point or {},
            calibrations=costs.get(place_of(run), {}),
            tuning=winner.cost,
        )
        if winner.point is None:
            record_failure(job, store, "no trial of the sweep completed: there is no winner to race")
        else:
            jobs.append(job)
    return jobs


def _measurements(study: Study, races: Sequence[Run], finished: Rows, retry: Collection[str]) -> list[Job]:
    """Return the calibrations and profiles that are due; profiles are of the arms as they race."""
    jobs = [job_of(run, finished) for run in due(calibrations(races), finished, retry)]
    lacking = due(profiles(study, races), finished, retry)
    chosen = winners(study, finished) if lacking else {}
    points = {run.run_id: chosen[run.arm.name, run.source].point or {} for run in lacking}
    return [*jobs, *(job_of(run, finished, hyperparameters=points[run.run_id]) for run in lacking)]


def _race_alone(study: Study, measurements: Sequence[Job], jobs: Sequence[Job], store: Store, scratch: Path) -> None:
    """Measure, and do the runs of one worker."""
    if measurements:
        measure_alone(measurements, store)
    costs = stored_by_place(calibrations(race_runs(study)), store.finished())
    _run_alike([replace(job, calibrations=costs.get(place_of(job.run), {})) for job in jobs], store, scratch)


def _run_alike(jobs: Sequence[Job], store: Store, scratch: Path) -> None:
    """Do runs of one worker, those of one isolation and kind of clock together."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.run.isolation, job.run.budget.mode), []).append(job)
    for (isolation, _), group in groups.items():
        if isolation == "process":
            run_in_processes(group, store)
        else:
            run_trials(group, None, store, scratch)
