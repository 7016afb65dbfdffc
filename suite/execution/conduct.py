"""Conduct a study: what is planned, minus what the store holds, is done.

The store is the only durable truth. Whatever kills this process, the same command goes on where the store stands.
"""

import fcntl
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from optimizers import Categorical
from suite import workloads
from suite.config import Run
from suite.errors import UsageError
from suite.execution.execute import (
    FAILURES,
    Job,
    configure,
    execute,
    execute_calibrations,
    look_up,
    record_failure,
    stored_calibrations,
)
from suite.results import Store
from suite.study import STAGES, Study, calibrations, expand, race_runs, tuning_runs
from suite.training.workers import Workers

Rows = Mapping[str, Mapping[str, Any]]
Say = Callable[[str], None]

COMPLETED = ("completed", "target_reached")


def check(study: Study) -> None:
    """Refuse a study that cannot be done, before anything starts.

    Args:
        study: The study.

    Raises:
        UsageError: If a workload, an optimizer or a hyperparameter is unknown, or a search space leaves its range.
    """  # noqa: DOC502
    for run in {run.arm.name: run for run in expand(study)}.values():
        check_run(run)
    for run in tuning_runs(study)[: len(study.arms)]:
        space = run.arm.search_space or {}
        for name, atom in space.items():
            for value in atom.choices if isinstance(atom, Categorical) else (atom.low, atom.high):
                spec, _ = configure(run, {name: value})
        costly = sorted(spec.cost_fields & set(space))
        if costly and calibrations([run]):
            what = ", ".join(costly)
            raise UsageError(
                f"arm {run.arm.name!r}: {what} changes what a step costs; search it with a budget in steps or epochs"
            )


def check_run(run: Run) -> None:
    """Refuse a run that cannot be done, before anything starts.

    Args:
        run: The plan.

    Raises:
        UsageError: If something that it names is unknown or out of range, if its workload's data cannot be loaded or
            its model cannot be built, or if its batch exceeds the training data.
    """  # noqa: DOC502
    reference = run.budget.reference
    if run.purpose == "single" and reference not in {None, run.arm.name}:
        raise UsageError(f"one training has one arm, {run.arm.name!r}: its budget cannot be the time of {reference!r}")
    if run.sync_batchnorm and run.num_workers > 1 and not torch.cuda.is_available():
        raise UsageError("sync_batchnorm needs CUDA, where torch has it; set sync_batchnorm=false")
    num_samples = len(look_up(Job(run=run, hyperparameters={}, calibrations={})).data.train)
    if run.batch_size > num_samples:
        raise UsageError(f"batch_size must be <= the {num_samples} training samples, but got {run.batch_size}")
    _check_model(run.workload)


_check_model = cache(workloads.check_model)  # once for all arms of a study


def due(runs: Sequence[Run], finished: Rows) -> list[Run]:
    """Return what is planned, minus what is done.

    Args:
        runs: Planned.
        finished: Rows by run id.

    Returns:
        In the order of the plan.
    """
    return [run for run in runs if run.run_id not in finished]


def conduct(study: Study, store: Store, say: Say, *, stages: Collection[str] = STAGES) -> bool:
    """Do what a study still lacks; Ray starts only if something is due.

    Args:
        study: The study.
        store: Its results.
        say: Prints a line of progress.
        stages: ``tune``, ``race`` or both.

    Returns:
        Whether there are runs in the store that were not there, or not folded, before.

    Raises:
        UsageError: If another process works on the same results, or a race has no winners to run.
    """  # noqa: DOC502
    if "tune" not in stages:
        winners(study, store.finished())  # says what is missing before anything is written or started
    store.create()
    with _exclusive(store):
        run_ids = [run.run_id for run in expand(study)]
        store.write_plan({"question": study.question, "run_ids": run_ids, "study": asdict(study)})
        planned, finished = expand(study, stages), store.finished()
        missing = [*due(planned, finished), *outdated(study, planned, finished)]
        if not [run for run in missing if run.purpose != "calibrate"]:
            say(f"all {len(planned) - len(missing)} runs are done")
        else:
            say(f"{len(planned) - len(missing)} of {len(planned)} runs are done; starting Ray")
            _do(study, stages, store, say)
        return _tidy(study, store)


def _do(study: Study, stages: Collection[str], store: Store, say: Say) -> None:
    from suite.execution.progress import Progress
    from suite.execution.session import ray_session, require_room

    trials, races = tuning_runs(study), race_runs(study)
    with ray_session() as scratch, Progress(expand(study, stages), store.finished(), store, say):
        require_room(expand(study, stages))
        if "tune" in stages and due(trials, store.finished()):
            _tune(trials, store, scratch, say)
        finished = store.finished()
        if "race" in stages and (due(races, finished) or outdated(study, races, finished)):
            _race(study, races, store, scratch, say)


def _tune(trials: list[Run], store: Store, scratch: Path, say: Say) -> None:
    from suite.execution.sampling import proposer
    from suite.execution.trials import calibrate_alone, run_trials

    finished = store.finished()
    costs = calibrations(trials)
    measure = [Job(run=run, hyperparameters={}, calibrations={}) for run in due(costs, finished)]
    if measure:
        say("calibrating: what a step of each arm costs, alone on the machine")
        calibrate_alone(measure, store)
    measured = stored_calibrations(costs, store.finished())
    by_arm: dict[str, list[Run]] = {}
    for run in trials:
        by_arm.setdefault(run.arm.name, []).append(run)
    proposers = {
        arm: proposer(
            runs, workloads.find(runs[0].workload), [finished[run.run_id] for run in runs if run.run_id in finished]
        )
        for arm, runs in by_arm.items()
    }
    jobs = [Job(run=run, hyperparameters={}, calibrations=measured) for run in due(trials, finished)]
    say(f"tuning: {len(jobs)} trials")
    run_trials(jobs, proposers, store, scratch)


def _race(study: Study, races: list[Run], store: Store, scratch: Path, say: Say) -> None:
    from suite.execution.group import run_queue

    finished = store.finished()
    chosen = winners(study, finished)
    costs = calibrations(races)
    jobs = []
    for run in [*due(races, finished), *outdated(study, races, finished)]:
        point = chosen[run.arm.name]
        job = Job(
            run=run,
            hyperparameters=point or {},
            calibrations=stored_calibrations(costs, finished),
            attempt=1 + finished.get(run.run_id, {"attempt": 0})["attempt"],
        )
        if point is None:
            record_failure(job, store, "no trial of the sweep completed: there is no winner to race")
        else:
            jobs.append(job)
    if jobs:
        say(f"racing: {len(jobs)} runs on {races[0].num_workers} Ray Train workers, which start now")
        measure = [Job(run=run, hyperparameters={}, calibrations={}) for run in due(costs, finished)]
        run_queue(measure, jobs, store, scratch)


def winners(study: Study, finished: Rows) -> dict[str, dict[str, Any] | None]:
    """Return the hyperparameters that each arm races with.

    Args:
        study: The study.
        finished: Rows by run id.

    Returns:
        By arm: those of its best trial (validation metric at the end; of equals the lower validation loss, then the
        earlier trial), ``None`` if no trial completed; nothing beside the arm's own values if the study does not tune.

    Raises:
        UsageError: If an arm's sweep is not finished.
    """
    if study.tune is None:
        return {arm.name: {} for arm in study.arms}
    chosen: dict[str, dict[str, Any] | None] = {}
    for arm in study.arms:
        runs = [run for run in tuning_runs(study) if run.arm.name == arm.name]
        missing = due(runs, finished)
        if missing:
            raise UsageError(
                f"arm {arm.name!r} has no winner yet: {len(missing)} of {len(runs)} trials are missing; "
                f"run `fisherbench sweep {study.name}` first, or give values with --given {arm.name}.lr=…"
            )
        chosen[arm.name] = best_point(runs, finished)
    return chosen


def outdated(study: Study, runs: Sequence[Run], finished: Rows) -> list[Run]:
    """Return the races that were run with another winner than the sweep has now, as when it was extended.

    Args:
        study: The study.
        runs: Planned; those that race are looked at.
        finished: Rows by run id.

    Returns:
        In the order of the plan; none while the sweep is not finished.
    """
    done = [run for run in runs if run.source == "winner" and run.run_id in finished]
    if not done or due(tuning_runs(study), finished):
        return []
    points = winners(study, finished)
    used = {run.run_id: json.loads(finished[run.run_id]["hyperparameters"]) for run in done}
    return [run for run in done if not (points[run.arm.name] or {}).items() <= used[run.run_id].items()]


def best_point(runs: Sequence[Run], finished: Rows) -> dict[str, Any] | None:
    """Return the hyperparameters of an arm's best trial.

    Args:
        runs: All trials of the arm.
        finished: Their rows by run id.

    Returns:
        The searched hyperparameters of the winner; ``None`` if no trial completed.
    """
    sign = -1 if workloads.find(runs[0].workload).metric_goal == "maximize" else 1
    rows = [finished[run.run_id] for run in runs]
    candidates = [row for row in rows if row["status"] in COMPLETED]
    if not candidates:
        return None
    best = min(candidates, key=lambda row: (sign * row["val_metric"], row["val_loss"], row["trial"]))
    values = json.loads(best["hyperparameters"])
    return {name: values[name] for name in runs[0].arm.search_space or {}}


def _tidy(study: Study, store: Store) -> bool:
    """Fold the finished runs and write the study for optuna-dashboard; return whether there was anything new."""
    if not store.unfolded():
        return False
    store.fold()
    trials = tuning_runs(study)
    if trials:
        from suite.execution.dashboard import export

        export(trials, store.finished(), store)
    return True


@contextmanager
def _exclusive(store: Store) -> Iterator[None]:
    """Keep a second process away from the same results; the lock dies with this process."""
    if not store.folder.is_local:
        yield
        return
    try:
        file = open(store.folder.path("lock"), "w", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise UsageError(f"{store.uri!r} cannot be worked in: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another fisherbench is at work on {store.uri!r}; wait for it, or choose another --results"
            ) from error
        yield


def do_single(run: Run, store: Store, say: Say) -> str | None:
    """Do one training outside a study: in this process with one worker, else on a worker group.

    Args:
        run: The plan.
        store: Its results.
        say: Prints a line of progress.

    Returns:
        Why it failed, one line; ``None`` if it did not.
    """
    from suite.execution.progress import describe

    store.create()
    with _exclusive(store):
        if run.run_id not in store.finished():
            _do_single(run, store, say)
            store.fold()
        row = store.finished()[run.run_id]
    say(describe(row))
    return str(row["error"]).strip().splitlines()[-1] if row["status"] in FAILURES else None


def _do_single(run: Run, store: Store, say: Say) -> None:
    costs = [Job(run=cost, hyperparameters={}, calibrations={}) for cost in due(calibrations([run]), store.finished())]
    job = Job(run=run, hyperparameters={}, calibrations={})
    if run.num_workers == 1:
        say(f"training {run.workload} with {run.arm.name}: {run.budget}")
        execute_calibrations(costs, store, Workers())
        measured = stored_calibrations(calibrations([run]), store.finished())
        execute(replace(job, calibrations=measured), store, Workers())
        return
    from suite.execution.group import run_queue
    from suite.execution.session import ray_session, require_room

    say(f"training {run.workload} with {run.arm.name} on {run.num_workers} Ray Train workers: {run.budget}")
    with ray_session() as scratch:
        require_room([run])
        measured = stored_calibrations(calibrations([run]), store.finished())
        run_queue(costs, [replace(job, calibrations=measured)], store, scratch)
