"""Conduct a study: what is planned, minus what the store holds, is done.

The store is the only durable truth. Whatever kills this process, the same command goes on where the store stands.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import cache

import torch

from optimizers import Categorical, Float
from suite import workloads
from suite.config import Run
from suite.diagnostics import MEMORY
from suite.diagnostics import REGISTRY as DIAGNOSTICS
from suite.errors import UsageError, known
from suite.execution.callbacks import VARIABLE, find_callbacks
from suite.execution.exclusive import exclusive
from suite.execution.execute import execute
from suite.execution.failures import FAILURES
from suite.execution.job import Job, configure, job_of, look_up
from suite.execution.measure import execute_calibrations, stored_calibrations
from suite.execution.sampling import check_sampler
from suite.execution.selection import due, num_extensions, outdated, winners
from suite.plan import calibrations, expand, searched_costs, tuning_runs
from suite.results import Store
from suite.study import STAGES, Study
from suite.training.workers import Workers

Say = Callable[[str], None]


def check(study: Study, *, needs_data: bool = True) -> None:
    """Refuse a study that cannot be done, before anything starts.

    Args:
        study: The study.
        needs_data: Whether the data, and what the models begin with, have to be here.

    Raises:
        UsageError: If a workload, an optimizer or a hyperparameter is unknown, or a search space leaves its range or is
            none that the sampler can do.
    """  # noqa: DOC502
    for run in {(run.workload, run.arm.name, run.case): run for run in expand(study)}.values():
        check_run(run, needs_data=needs_data)
    for run in {run.arm.name: run for run in tuning_runs(study)}.values():
        _check_space(run, study)


def _check_space(run: Run, study: Study) -> None:
    space = run.arm.search_space or {}
    for name, atom in space.items():
        for value in atom.choices if isinstance(atom, Categorical) else (atom.low, atom.high):
            configure(run, {name: value})
    assert study.tune is not None
    try:
        check_sampler(study.tune.sampler, space, study.tune.num_trials)
    except UsageError as error:
        raise UsageError(f"arm {run.arm.name!r}: {error}") from error
    cases = study.race.cases if study.race else ()
    budgets = [part.budget for part in (study.tune, study.race, *cases) if part and part.budget]
    for name in searched_costs(run):
        if isinstance(space[name], Float) and any(budget.is_calibrated for budget in budgets):
            raise UsageError(
                f"arm {run.arm.name!r}: {name} changes what a step costs; with a calibrated budget it needs a set of "
                "choices, each of which is calibrated"
            )
        if any(budget.reference == run.arm.name for budget in budgets):
            raise UsageError(
                f"arm {run.arm.name!r}: {name} changes what a step costs, so it cannot be searched in the reference arm"
            )


def check_run(run: Run, *, needs_data: bool = True) -> None:
    """Refuse a run that cannot be done, before anything starts.

    Args:
        run: The plan.
        needs_data: Whether its data, and what its model begins with, have to be here.

    Raises:
        UsageError: If something that it names is unknown or out of range, if its workload's data cannot be loaded or
            its model cannot be built, or if its batch exceeds the training data.
    """  # noqa: DOC502
    reference = run.budget.reference
    if run.purpose == "single" and reference not in {None, run.arm.name}:
        raise UsageError(f"one training has one arm, {run.arm.name!r}: its budget cannot be the time of {reference!r}")
    if run.sync_batchnorm and run.num_workers > 1 and not torch.cuda.is_available():
        raise UsageError("sync_batchnorm needs CUDA, where torch has it; set sync_batchnorm=false")
    for name in run.diagnostics:
        if name not in {*DIAGNOSTICS, MEMORY}:
            raise UsageError(known("diagnostic", name, {*DIAGNOSTICS, MEMORY}))
    configure(run, {})
    try:
        num_samples = len(look_up(Job(run=run)).data.train)
    except UsageError:
        if needs_data:
            raise
        return
    if run.batch_size > num_samples:
        raise UsageError(f"batch_size must be <= the {num_samples} training samples, but got {run.batch_size}")
    if needs_data:
        _check_model(run.workload)


_check_model = cache(workloads.check_model)  # once for all arms of a study


def conduct(
    study: Study, store: Store, say: Say, *, stages: Collection[str] = STAGES, retry: Collection[str] = ()
) -> bool:
    """Do what a study still lacks; Ray starts only if something is due.

    Args:
        study: The study.
        store: Its results.
        say: Prints a line of progress.
        stages: ``tune``, ``race`` or both.
        retry: Statuses of runs that are to be done again, as their next attempt.

    Returns:
        Whether there are runs in the store that were not there, or not folded, before.

    Raises:
        UsageError: If another process works on the same results, or a race has no winners to run.
    """  # noqa: DOC502
    find_callbacks()  # says which one is no callback
    if "tune" not in stages:
        winners(study, store.finished())  # says what is missing before anything is written or started
    store.create()
    with exclusive(store):
        finished = store.finished()
        planned = _write_plan(study, store, stages)
        missing = [*due(planned, finished, retry), *outdated(study, planned, finished)]
        if not [run for run in missing if run.purpose not in {"calibrate", "pretrain"}]:
            say(f"all {len(planned) - len(missing)} runs are done")
        else:
            say(f"{len(planned) - len(missing)} of {len(planned)} runs are done; starting Ray")
            _do(study, stages, store, say, retry)
            _write_plan(study, store)
        return _tidy(study, store)


def _write_plan(study: Study, store: Store, stages: Collection[str] = STAGES) -> list[Run]:
    """Write what is planned, the extensions of the sweep with it, and return the runs of some stages."""
    number = num_extensions(study, store.finished())
    runs = {run.run_id: [run.purpose, run.label] for run in expand(study, extensions=number)}
    store.write_plan({"question": study.question, "run_ids": [*runs], "runs": runs, "study": asdict(study)})
    return expand(study, stages, number)


def _do(study: Study, stages: Collection[str], store: Store, say: Say, retry: Collection[str]) -> None:
    from suite.execution.dashboard import Dashboard
    from suite.execution.progress import Progress
    from suite.execution.reach import require_reach
    from suite.execution.session import ray_session, require_room
    from suite.execution.storage import clear_storage
    from suite.execution.vitals import ended_with_ray

    finished = store.finished()
    planned = expand(study, stages, num_extensions(study, finished))
    again = {run.run_id for run in due(planned, finished, retry)}
    kept = {run_id: row for run_id, row in finished.items() if run_id not in again}
    session = ray_session(_modules(*{name for run in planned for name in (run.workload, run.arm.optimizer)}))
    with session as scratch, ended_with_ray(), Progress(planned, kept, store, say) as progress:
        require_room(planned)
        require_reach(store.folder)
        if "tune" in stages and study.tune:
            from suite.execution.sweep import sweep

            with Dashboard(tuning_runs(study), kept, store, progress.say) as dashboard:
                progress.follow(dashboard.add)
                for _ in sweep(study, store, scratch, progress.say, retry):
                    progress.plan(_write_plan(study, store, stages))
        if "race" in stages and study.race:
            from suite.execution.race import race

            race(study, store, scratch, progress.say, retry)
        clear_storage(store)


def _modules(*names: str) -> list[str]:
    """Return the modules that names like ``package.module:SPEC`` or ``package.module.Class`` need, and callbacks."""
    callbacks = os.environ.get(VARIABLE, "").split(",")
    return sorted({
        name.strip().partition(":")[0].partition(".")[0] for name in (*names, *callbacks) if ":" in name or "." in name
    })


def _tidy(study: Study, store: Store) -> bool:
    """Fold the finished runs and write the study for optuna-dashboard; return whether there was anything new."""
    if not store.unfolded():
        return False
    store.fold()
    finished = store.finished()
    trials = tuning_runs(study, num_extensions(study, finished))
    if trials:
        from suite.execution.dashboard import export

        export(trials, finished, store)
    return True


def do_single(run: Run, store: Store, say: Say, retry: Collection[str] = ()) -> str | None:
    """Do one training outside a study: in this process with one worker, else on a worker group.

    Args:
        run: The plan.
        store: Its results.
        say: Prints a line of progress.
        retry: Statuses with which it is done again.

    Returns:
        Why it failed, one line; ``None`` if it did not.
    """
    from suite.execution.progress import describe

    store.create()
    with exclusive(store):
        if due([run], store.finished(), retry):
            _do_single(run, store, say, retry)
            store.fold()
        row = store.finished()[run.run_id]
    say(describe(row))
    return str(row["error"]).strip().splitlines()[-1] if row["status"] in FAILURES else None


def _do_single(run: Run, store: Store, say: Say, retry: Collection[str]) -> None:
    finished, calibration = store.finished(), calibrations([run])
    costs = [job_of(cost, finished) for cost in due(calibration, finished, retry)]
    job = job_of(run, finished)
    if run.num_workers == 1:
        say(f"training {run.workload} with {run.arm.name}: {run.budget}")
        execute_calibrations(costs, store, Workers())
        execute(replace(job, calibrations=stored_calibrations(calibration, store.finished())), store, Workers())
        return
    from suite.execution.group import run_queue
    from suite.execution.reach import require_reach
    from suite.execution.session import ray_session, require_room

    say(f"training {run.workload} with {run.arm.name} on {run.num_workers} Ray Train workers: {run.budget}")
    with ray_session(_modules(run.workload, run.arm.optimizer)) as scratch:
        require_room([run])
        require_reach(store.folder)
        run_queue(costs, [replace(job, calibrations=stored_calibrations(calibration, finished))], store, scratch)
