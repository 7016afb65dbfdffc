"""Do a sweep: calibrations, then trials with the points that are proposed for them, then its extensions."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from suite.config import Run
from suite.execution.group import run_queue, run_queues
from suite.execution.job import job_of
from suite.execution.measure import stored_by_place
from suite.execution.points import Points
from suite.execution.pruning import start_judge
from suite.execution.selection import due, num_extensions
from suite.execution.trials import measure_alone, run_trials
from suite.plan import calibrations, place_of, tuning_runs
from suite.results import Store
from suite.study import Study, Tuning

Say = Callable[[str], None]


def sweep(study: Study, store: Store, scratch: Path, say: Say, retry: Collection[str] = ()) -> Iterator[int]:
    """Do the trials that a study still lacks, and those by which it extends itself.

    Args:
        study: With a sweep.
        store: Its results.
        scratch: For what Ray writes.
        say: Prints a line of progress.
        retry: Statuses of trials that are to be done again.

    Yields:
        The number of each extension, before its trials.
    """
    assert study.tune is not None
    number = num_extensions(study, store.finished())
    while True:
        trials = tuning_runs(study, number)
        if due(trials, store.finished(), retry):
            _calibrate(trials, store, scratch, say, retry)
            _run(study.tune, trials, store, scratch, say, retry)
        if num_extensions(study, store.finished()) <= number:
            return
        number, retry = number + 1, ()
        say(f"extending the sweep: the best trial of an arm lies on an edge of its space (extension {number})")
        yield number


def _calibrate(trials: list[Run], store: Store, scratch: Path, say: Say, retry: Collection[str]) -> None:
    """Measure what a step of each arm costs, on one workload after the other."""
    finished = store.finished()
    lacking = due(calibrations(trials), finished, retry)
    for workload in dict.fromkeys(run.workload for run in lacking):
        say(f"calibrating on {workload}: what a step of each arm costs, alone on the machine")
        jobs = [job_of(run, finished) for run in lacking if run.workload == workload]
        if jobs[0].run.num_workers == 1:
            measure_alone(jobs, store)
        else:
            run_queue(jobs, [], store, scratch)


def _run(tune: Tuning, trials: list[Run], store: Store, scratch: Path, say: Say, retry: Collection[str]) -> None:
    finished = store.finished()
    lacking = due(trials, finished, retry)
    kept = {run_id: row for run_id, row in finished.items() if run_id not in {run.run_id for run in lacking}}
    points = Points(tune, trials, kept)
    measured = stored_by_place(calibrations(trials), finished)
    jobs = [
        job_of(run, finished, calibrations=measured.get(place_of(run), {}), space=points.space(run)) for run in lacking
    ]
    judge = start_judge(tune.pruner, trials, kept, store)
    say(f"tuning: {len(jobs)} trials")
    if tune.num_workers == 1:
        run_trials(jobs, points, store, scratch, judge)
    else:
        run_queues(jobs, points, store, scratch, judge)
