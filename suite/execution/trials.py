"""One-worker trials in Ray Tune: actors are reused, Optuna proposes, the store remembers."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from suite import workloads
from suite.execution.execute import Job, execute, execute_calibrations, record_failure
from suite.execution.sampling import Proposer, objective
from suite.execution.session import largest_node_cpus, num_cpus, num_gpus
from suite.results import Store
from suite.training.calibration import Calibration
from suite.training.workers import Workers

LOST_TRIALS = 2  # times that a trial whose process died is started again


def calibrate_alone(jobs: Sequence[Job], store: Store) -> dict[str, Calibration]:
    """Measure step times in a process that has all of a node's CPUs to itself.

    Args:
        jobs: Calibrations that are due, one an arm; at least one.
        store: Where the rows go.

    Returns:
        By arm.
    """
    measure = ray.remote(num_cpus=largest_node_cpus(), num_gpus=min(1, num_gpus()), max_retries=LOST_TRIALS)(_calibrate)
    measured: dict[str, Calibration] = ray.get(measure.remote(list(jobs), store.uri))
    return measured


def _calibrate(jobs: Sequence[Job], uri: str) -> dict[str, Calibration]:
    return execute_calibrations(jobs, Store(uri), Workers())


def run_trials(jobs: Sequence[Job], proposers: Mapping[str, Proposer], store: Store, scratch: Path) -> None:
    """Do the trials that are due, as many at once as there are CPUs for.

    Args:
        jobs: In the order in which they start; their hyperparameters are still to be proposed.
        proposers: By arm.
        store: Where the rows go.
        scratch: For Tune's own files, which nobody reads.
    """
    threads = max(job.run.num_threads for job in jobs)
    gpus = min(1, num_gpus())
    resources = {"cpu": threads, "gpu": gpus}
    trainable = tune.with_resources(tune.with_parameters(_trial, jobs=list(jobs), uri=store.uri), resources)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="index",
            mode="max",
            search_alg=PlannedSearch(jobs, proposers, store),
            num_samples=len(jobs),
            max_concurrent_trials=max(1, min(num_cpus() // threads, num_gpus() or len(jobs))),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch / "tune"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_TRIALS),
        ),
    )
    tuner.fit()


def _trial(config: dict[str, Any], jobs: list[Job], uri: str) -> None:
    """Do one trial in a reused actor; everything that it leaves behind is its row."""
    job = replace(jobs[config["index"]], hyperparameters=config["hyperparameters"])
    store = Store(uri)
    if not store.has(job.run.run_id, job.attempt):  # else its process died between its row and its report
        execute(job, store, Workers())
    row = store.read_run(job.run.run_id, job.attempt)
    tune.report({"index": config["index"], "objective": objective(row, workloads.find(job.run.workload))})


class PlannedSearch(Searcher):  # type: ignore[misc]
    """Gives Tune the planned trials in order, each with the point that its arm's proposer says.

    Args:
        jobs: The plan.
        proposers: By arm.
        store: Where a trial whose process was lost for good is recorded.
    """

    def __init__(self, jobs: Sequence[Job], proposers: Mapping[str, Proposer], store: Store) -> None:
        super().__init__()
        self._store = store
        self._jobs = jobs
        self._proposers = proposers
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
        if index >= len(self._jobs):
            return str(Searcher.FINISHED)
        run = self._jobs[index].run
        assert run.trial is not None
        point = self._proposers[run.arm.name].propose(run.trial)
        self._under_way[trial_id] = replace(self._jobs[index], hyperparameters=point)
        return {"index": index, "hyperparameters": point}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the arm's proposer.

        Args:
            trial_id: Of Tune.
            result: What the trial reported last.
            error: Whether its process was lost for good.
        """
        job = self._under_way.pop(trial_id)
        run = job.run
        assert run.trial is not None
        if error and not self._store.has(run.run_id, job.attempt):
            record_failure(job, self._store, f"its process died {LOST_TRIALS + 1} times")
        value = None if error or result is None else result.get("objective")
        self._proposers[run.arm.name].observe(run.trial, value)

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
