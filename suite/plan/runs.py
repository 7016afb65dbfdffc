"""The runs of a study: trials of its sweep, races, pretrainings."""

import math
from dataclasses import replace
from typing import Any

from suite import workloads
from suite.config import Arm, Budget, Purpose, Run, Schedule
from suite.errors import UsageError
from suite.plan.arms import entries, resolve_search_space
from suite.study import Case, Pretraining, Race, Study, Tuning


def tuning_runs(study: Study, extensions: int = 0) -> list[Run]:
    """Return the trials of the sweep.

    Args:
        study: A study.
        extensions: How often it has extended itself.

    Returns:
        Workload by workload, trial by trial, in each trial arm by arm; empty without a sweep.
    """
    tune = study.tune
    if tune is None:
        return []
    arms = [replace(arm, search_space=dict(resolve_search_space(arm, tune.space))) for arm in study.arms]
    names = ("sampler", "seed", "num_workers", "num_threads", "gpus_per_worker")
    rest = {name: getattr(tune, name) for name in names} | {"pruner": None if tune.pruner == "none" else tune.pruner}
    return [
        plan_run(study, arm, "tune", tune.budget, workload=workload, source="sampled", trial=trial, **rest)
        for workload in filter(None, (tune.transfer_from, study.workload))
        for trial in range(tune.num_trials + extensions * extension_size(tune))
        for arm in arms
    ]


def extension_size(tune: Tuning) -> int:
    """Return the trials that an extension adds for each arm: half of the sweep's, rounded up."""
    return math.ceil(tune.num_trials / 2)


def extension_of(tune: Tuning, trial: int) -> int:
    """Return the extension that a trial belongs to, from 1; 0 for those planned at first."""
    return max(0, 1 + (trial - tune.num_trials) // extension_size(tune))


def race_runs(study: Study) -> list[Run]:
    """Return the runs of the race.

    Args:
        study: A study.

    Returns:
        Seed by seed, in each seed case by case, in each case arm by arm; empty without a race.
    """
    race = study.race
    if race is None:
        return []
    return [
        _race_run(study, race, case, arm, source=source, seed=seed)
        for seed in _seeds(race)
        for case in race.cases or (Case(name=""),)
        if seed in (case.seeds or race.seeds)
        for arm, source in entries(study, case)
    ]


def _seeds(race: Race) -> list[int]:
    """Return the seeds of the race, and those that a case adds."""
    return list(dict.fromkeys([*race.seeds, *(seed for case in race.cases for seed in case.seeds or ())]))


def _race_run(study: Study, race: Race, case: Case, arm: Arm, *, source: str, seed: int) -> Run:
    rest = {name: getattr(race, name) for name in ("gpus_per_worker", "isolation", "diagnostics")}
    run = plan_run(
        study if case.schedule is None else replace(study, schedule=case.schedule),
        arm,
        "race",
        case.budget or race.budget,
        workload=case.workload,
        batch_size=case.batch_size,
        case=case.name,
        source=source,
        seed=seed,
        num_workers=case.num_workers or race.num_workers,
        num_threads=case.num_threads or race.num_threads,
        **rest,
    )
    if case.pretraining is None:
        return run
    return replace(run, initial_weights=_pretraining(study, case.pretraining, seed).run_id)


def pretrainings(study: Study) -> list[Run]:
    """Return the trainings whose weights races begin with.

    Args:
        study: A study.

    Returns:
        Each once, seed by seed.
    """
    race = study.race
    if race is None:
        return []
    runs = [
        _pretraining(study, case.pretraining, seed)
        for seed in _seeds(race)
        for case in race.cases
        if case.pretraining and seed in (case.seeds or race.seeds)
    ]
    return list({run.run_id: run for run in runs}.values())


def _pretraining(study: Study, pretraining: Pretraining, seed: int) -> Run:
    own = replace(study, schedule=Schedule(), splits="standard", stop_at_target=False)
    name, arm, budget = pretraining.workload, pretraining.arm, pretraining.budget
    return plan_run(own, arm, "pretrain", budget, workload=name, seed=seed)


def plan_run(  # noqa: PLR0917
    study: Study,
    arm: Arm,
    purpose: Purpose,
    budget: Budget,
    workload: str | None = None,
    batch_size: int | None = None,
    **rest: Any,  # noqa: ANN401
) -> Run:
    """Return a run of a study; with that one's batch size on another workload than the study's, unless one is given."""
    name = workload or study.workload
    usual = study.batch_size if workload in {None, study.workload} else workloads.find(name).batch_size
    return Run(
        study=study.name,
        workload=name,
        arm=arm,
        purpose=purpose,
        budget=budget,
        batch_size=batch_size or usual,
        schedule=study.schedule,
        splits=study.splits,
        sync_batchnorm=study.sync_batchnorm,
        stop_at_target=study.stop_at_target,
        data_version=_version(name),
        **rest,
    )


def _version(workload: str) -> str | None:
    """Return the version of a workload's data; ``None`` too where they are missing, which is for a start to refuse."""
    workloads.find(workload)
    try:
        return workloads.data_version(workload)
    except UsageError:
        return None
