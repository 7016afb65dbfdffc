"""The pure expansion of a study into its runs: the same in every process, and after every restart."""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optimizers
from optimizers import Categorical, OptimizerSpec
from optimizers.base import SearchSpace
from suite import workloads
from suite.config import Arm, Budget, Purpose, Run, Schedule
from suite.errors import UsageError
from suite.study import STAGES, Study, Tuning


def resolve_search_space(arm: Arm, space: str = "default") -> SearchSpace:
    """Return what a sweep of this arm searches.

    Args:
        arm: An arm.
        space: Name of one of its optimizer's spaces, for an arm that has none of its own.

    Returns:
        The space, less the hyperparameters that the arm fixes.

    Raises:
        UsageError: If the optimizer is unknown, has no such space or hyperparameter, or nothing is left to search.
    """
    try:
        spec = optimizers.find(arm.optimizer)
        spec.configure(**arm.fixed)
        for name in arm.search_space or {}:
            spec.check_field(name)
        whole = spec.space(space) if arm.search_space is None else arm.search_space
    except ValueError as error:
        raise UsageError(f"arm {arm.name!r}: {error}") from error
    left = {name: atom for name, atom in whole.items() if name not in arm.fixed}
    if not whole and arm.search_space is None:
        raise UsageError(f"arm {arm.name!r} has nothing to search: {spec.name} declares no space; give the arm one")
    if not left:
        raise UsageError(
            f"arm {arm.name!r} has nothing to search: all of {', '.join(whole) or 'an empty space'} is fixed"
        )
    return left


def expand(study: Study, stages: Collection[str] = STAGES, extensions: int = 0) -> list[Run]:
    """Return every run of a study, each once, in the order in which they are done.

    Calibrations come before the runs whose budgets they turn into steps. Trials alternate over the arms, races over the
    seeds, so that slow drift of the machine falls on all arms alike.

    Args:
        study: A study.
        stages: Only these, ``tune`` or ``race``.
        extensions: How often its sweep has extended itself.

    Returns:
        Its runs; a pure function of the arguments.
    """
    trials = tuning_runs(study, extensions) if "tune" in stages else []
    races = race_runs(study) if "race" in stages else []
    return list({run.run_id: run for run in [*calibrations(trials), *trials, *calibrations(races), *races]}.values())


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
        _run(study, arm, "tune", tune.budget, workload=workload, source="sampled", trial=trial, **rest)
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
        Seed by seed, in each seed arm by arm; empty without a race.
    """
    race = study.race
    if race is None:
        return []
    rest = {name: getattr(race, name) for name in ("num_workers", "num_threads", "gpus_per_worker")}
    entries = [(_without_space(study, arm, source), source) for arm in study.arms for source in _sources(study)]
    return [
        _run(study, arm, "race", race.budget, source=source, seed=seed, **rest)
        for seed in race.seeds
        for arm, source in entries
    ]


def _sources(study: Study) -> tuple[str, ...]:
    assert study.race is not None
    return study.race.sources if study.tune else ("fixed",)


def _without_space(study: Study, arm: Arm, source: str) -> Arm:
    """Return an arm as it races: of what was searched it keeps the options that change what a step costs."""
    space = {}
    if study.tune and source in {"winner", "transferred"}:
        cost_fields = _spec_of(arm).cost_fields
        searched = resolve_search_space(arm, study.tune.space)
        space = {name: atom for name, atom in searched.items() if name in cost_fields}
    return replace(arm, search_space=space or None)


def calibrations(runs: Sequence[Run]) -> list[Run]:
    """Return the calibrations that the budgets of these runs need, each once.

    Args:
        runs: Planned runs of one stage.

    Returns:
        For each arm whose budget is a calibrated time one run for each of its costs; of the reference arm alone where
        its time is a live budget.
    """
    needed = [run for run in runs if run.budget.is_calibrated or run.arm.name == run.budget.reference]
    costs = [calibration_of(run, options) for run in needed for options in _cost_options(run)]
    return list({cost.run_id: cost for cost in costs}.values())


def calibration_of(run: Run, options: Mapping[str, Any] | None = None) -> Run:
    """Return the calibration that says what a step of this run costs.

    Args:
        run: A planned run.
        options: Searched hyperparameters that change the cost.

    Returns:
        A run that keeps only what a step's cost depends on: not lr, damping, γ, decay, schedule or seed. The name of
        its arm is the run's :func:`cost_key`.
    """
    spec = _spec_of(run.arm)
    fixed = {name: value for name, value in run.arm.fixed.items() if name in spec.cost_fields}
    return replace(
        run,
        arm=replace(run.arm, name=cost_key(run, options or {}), fixed={**fixed, **(options or {})}, search_space=None),
        purpose="calibrate",
        budget=Budget(kind="steps", amount=1),
        seed=0,
        source="fixed",
        trial=None,
        sampler=None,
        pruner=None,
        schedule=Schedule(),
        stop_at_target=False,
    )


def cost_key(run: Run, point: Mapping[str, Any]) -> str:
    """Return what tells the calibrations of a stage apart.

    Args:
        run: A planned run.
        point: Its hyperparameters.

    Returns:
        The name of its arm, with the searched options that change what a step costs behind it.
    """
    return " ".join([run.arm.name, *(f"{name}={point[name]}" for name in searched_costs(run))])


def searched_costs(run: Run) -> list[str]:
    """Return the hyperparameters that are searched and change what a step costs, by name."""
    return sorted(_spec_of(run.arm).cost_fields & set(run.arm.search_space or {}))


def _spec_of(arm: Arm) -> OptimizerSpec:
    try:
        return optimizers.find(arm.optimizer)
    except ValueError as error:
        raise UsageError(f"arm {arm.name!r}: {error}") from error


def _cost_options(run: Run) -> Iterator[dict[str, Any]]:
    """Yield each combination of the searched options that change what a step costs."""
    names = searched_costs(run)
    atoms = [(run.arm.search_space or {})[name] for name in names]
    choices = [atom.choices if isinstance(atom, Categorical) else (atom.low,) for atom in atoms]
    yield from (dict(zip(names, values, strict=True)) for values in itertools.product(*choices))


def _run(  # noqa: PLR0917
    study: Study,
    arm: Arm,
    purpose: Purpose,
    budget: Budget,
    workload: str | None = None,
    **rest: Any,  # noqa: ANN401
) -> Run:
    name = workload or study.workload
    is_own = name == study.workload
    return Run(
        study=study.name,
        workload=name,
        arm=arm,
        purpose=purpose,
        budget=budget,
        batch_size=study.batch_size if is_own else workloads.find(name).batch_size,
        schedule=study.schedule,
        splits=study.splits,
        sync_batchnorm=study.sync_batchnorm,
        stop_at_target=study.stop_at_target,
        data_version=workloads.data_version(name),
        **rest,
    )
