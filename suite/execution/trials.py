"""Runs of one worker in Ray Tune: actors are reused, Optuna proposes the points of trials, the store remembers."""

import itertools
import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError, RayError
from ray.tune.search import Searcher

from suite.errors import UsageError
from suite.execution.callbacks import find_callbacks
from suite.execution.execute import execute
from suite.execution.failures import record_failure
from suite.execution.group import raise_first
from suite.execution.job import Job
from suite.execution.measure import by_place, execute_calibrations, execute_profiles
from suite.execution.points import Points
from suite.execution.pruning import watch_for
from suite.execution.session import largest_node_cpus, num_gpus, worker_slots
from suite.execution.storage import storage_of
from suite.results import Store
from suite.training.workers import Workers

_REPORTED = ("arm", "status", "val_metric", "val_loss", "train_time_s")  # to Tune, for callbacks of its users
LOST_TRIALS = 2  # times that a trial whose process died is started again


def measure_alone(jobs: Sequence[Job], store: Store) -> None:
    """Calibrate and profile in a process that has all of a node's CPUs to itself.

    Args:
        jobs: Calibrations and profiles that are due; all of the same number of threads; at least one.
        store: Where the rows go.

    Raises:
        UsageError: If the results cannot be written.
    """  # noqa: DOC502
    measure = ray.remote(num_cpus=largest_node_cpus(), num_gpus=min(1, num_gpus()), max_retries=LOST_TRIALS)(_measure)
    try:
        raise_first([ray.get(measure.remote(list(jobs), store.uri))])
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the process that measures steps has died: {reason}") from error


def _measure(jobs: Sequence[Job], uri: str) -> str | None:
    """Measure, and return why the results cannot be written, if so."""
    try:
        for purpose, execute_all in (("calibrate", execute_calibrations), ("profile", execute_profiles)):
            store = Store(uri)  # holds what a process that died has measured
            due = [job for job in jobs if job.run.purpose == purpose and not store.has(job.run.run_id, job.attempt)]
            for group in by_place(due).values():
                execute_all(group, store, Workers())
    except UsageError as error:
        return str(error)
    return None


def run_in_processes(jobs: Sequence[Job], store: Store) -> None:
    """Do runs each in a process of its own, as many at once as there is room for.

    Args:
        jobs: With their hyperparameters; all of the same number of threads.
        store: Where the rows go.

    Raises:
        UsageError: If the results cannot be written.
    """  # noqa: DOC502
    run = jobs[0].run
    gpus = run.gpus_per_worker if num_gpus() else 0.0
    cpus = largest_node_cpus() if run.budget.mode == "live" else run.num_threads
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_calls": 1, "max_retries": LOST_TRIALS}
    start = ray.remote(**options)(_execute_alone)
    tasks = [start.remote(job, store.uri) for job in jobs]
    problems: list[str | None] = []
    for job, task in zip(jobs, tasks, strict=True):
        try:
            problems.append(ray.get(task))
        except RayError as error:
            status = "out_of_memory" if isinstance(error, OutOfMemoryError) else "failed"
            record_failure(job, store, f"its process died: {error}", status)
    raise_first(problems)


def _execute_alone(job: Job, uri: str) -> str | None:
    """Do a run, unless a process that died has done it, and return why the results cannot be written, if so."""
    try:
        store = Store(uri)
        if not store.has(job.run.run_id, job.attempt):
            execute(job, store, Workers())
    except UsageError as error:
        return str(error)
    return None


def run_trials(
    jobs: Sequence[Job],
    points: Points | None,
    store: Store,
    scratch: Path,
    judge: Any = None,  # noqa: ANN401
) -> None:
    """Do runs of one worker, as many at once as there is room for; those that need a machine alone, one on a node.

    Args:
        jobs: In the order in which they start; all of the same threads and isolation.
        points: Proposes their hyperparameters; ``None`` if they have them.
        store: Where the rows go.
        scratch: For Tune's own files, which nobody reads.
        judge: Says which trial is pruned; ``None`` if none is.

    Raises:
        UsageError: If the results cannot be written.
    """  # noqa: DOC502
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that fails is a row, not pages
    run = jobs[0].run
    is_exclusive = run.budget.mode == "live" or run.isolation == "machine"
    cpus = largest_node_cpus() if is_exclusive else run.num_threads
    gpus = run.gpus_per_worker if num_gpus() else 0.0
    search = PlannedSearch(jobs, points, store, judge)
    trial = tune.with_parameters(_trial, jobs=list(jobs), uri=store.uri, judge=judge)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            metric="index",
            mode="max",
            search_alg=search,
            num_samples=len(jobs),
            max_concurrent_trials=worker_slots(cpus, gpus),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"{run.purpose}-{uuid.uuid4().hex[:8]}",  # Tune resumes by name; we resume by the store
            **storage_of(store, scratch),
            callbacks=find_callbacks(),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_TRIALS),
        ),
    )
    tuner.fit()
    raise_first([search.problem])


def _trial(config: dict[str, Any], jobs: list[Job], uri: str, judge: Any) -> None:  # noqa: ANN401
    """Do one trial in a reused actor; everything that it leaves behind is its row."""
    job = replace(jobs[config["index"]], hyperparameters=config["hyperparameters"])
    store = Store(uri)
    if not store.has(job.run.run_id, job.attempt):  # else its process died between its row and its report
        try:
            execute(job, store, Workers(), watch_for(judge, job.run))
        except UsageError as error:  # the row cannot be written: the same would befall a second try, and other trials
            tune.report({"index": config["index"], "problem": str(error)})
            return
    row = store.read_run(job.run.run_id, job.attempt)
    tune.report({name: row[name] for name in _REPORTED} | {"index": config["index"]})


class PlannedSearch(Searcher):  # type: ignore[misc]
    """Gives Tune the planned runs in order, trials with the point that their arm's proposer says.

    Args:
        jobs: The plan.
        points: Proposes the points; ``None`` if the jobs have them.
        store: Where finished trials are, and where one is recorded whose process was lost for good.
        judge: Told of finished trials; ``None`` if none is pruned.

    Attributes:
        problem: Why the results cannot be written, which ends the sweep; ``None`` if they can.
    """

    problem: str | None = None

    def __init__(
        self,
        jobs: Sequence[Job],
        points: Points | None,
        store: Store,
        judge: Any = None,  # noqa: ANN401
    ) -> None:
        super().__init__()
        self._jobs, self._points, self._store, self._judge = jobs, points, store, judge
        self._next = itertools.count()
        self._under_way: dict[str, Job] = {}

    def set_search_properties(self, *_: object, **__: object) -> bool:
        """Accept Tune's metric, which plays no part here."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next planned trial.

        Args:
            trial_id: Of Tune.

        Returns:
            Place in the plan and hyperparameters, or that all are given out.
        """
        index = next(self._next)
        if index >= len(self._jobs) or self.problem:
            return str(Searcher.FINISHED)
        job = self._jobs[index]
        point = self._points.propose(job.run) if self._points else dict(job.hyperparameters)
        self._under_way[trial_id] = replace(job, hyperparameters=point)
        return {"index": index, "hyperparameters": point}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the arm's proposer.

        Args:
            trial_id: Of Tune.
            result: What the trial reported last.
            error: Whether its process was lost for good.
        """
        job = self._under_way.pop(trial_id)
        try:
            if error and not self._store.has(job.run.run_id, job.attempt):
                record_failure(job, self._store, f"its process died {LOST_TRIALS + 1} times")
        except UsageError as problem:
            self.problem = str(problem)
        self.problem = self.problem or (result or {}).get("problem")
        if self._store.has(job.run.run_id, job.attempt):
            self._observe(job)

    def _observe(self, job: Job) -> None:
        row = self._store.read_run(job.run.run_id, job.attempt)
        if self._points is not None:
            self._points.observe(job.run, row)
        if self._judge is not None:
            self._judge.finish.remote(job.run.run_id, row)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: what is done is in the store.

        Args:
            checkpoint_path: Not used.
        """

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing.

        Args:
            checkpoint_path: Not used.
        """
