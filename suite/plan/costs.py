"""What has to be measured of a step before a race: what it costs, and where its time goes."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optimizers import Categorical
from suite.config import Budget, Run, Schedule
from suite.errors import UsageError
from suite.plan.arms import spec_of
from suite.study import Study


def calibrations(runs: Sequence[Run]) -> list[Run]:
    """Return the calibrations that the budgets of these runs need, each once.

    Args:
        runs: Planned runs of one stage.

    Returns:
        For each arm whose budget is a calibrated time one run for each of its costs; of the reference arm alone where
        its time is a live budget.

    Raises:
        UsageError: If an arm has two costs in one place, as where cases fix an interval of its refreshes differently.
    """
    needed = [run for run in runs if run.budget.is_calibrated or run.arm.name == run.budget.reference]
    costs = [calibration_of(run, options) for run in needed for options in _cost_options(run)]
    found = {cost.run_id: cost for cost in costs}
    keys = Counter((place_of(cost), cost.arm.name) for cost in found.values())
    for (_, name), number in keys.items():
        if number > 1:
            raise UsageError(
                f"arm {name!r} has {number} costs under the same conditions, as cases fix what changes the cost of its "
                "steps; make arms of them, or give them budgets in steps or epochs"
            )
    return list(found.values())


def calibration_of(run: Run, options: Mapping[str, Any] | None = None) -> Run:
    """Return the calibration that says what a step of this run costs.

    Args:
        run: A planned run.
        options: Searched hyperparameters that change the cost.

    Returns:
        A run that keeps only what a step's cost depends on: not lr, damping, γ, decay, schedule or seed. The name of
        its arm is the run's :func:`cost_key`.
    """
    spec = spec_of(run.arm)
    fixed = {name: value for name, value in run.arm.fixed.items() if name in spec.cost_fields}
    arm = replace(run.arm, name=cost_key(run, options or {}), fixed={**fixed, **(options or {})}, search_space=None)
    return replace(_bare(run), arm=arm, purpose="calibrate", source="fixed")


def cost_key(run: Run, point: Mapping[str, Any]) -> str:
    """Return what tells the calibrations of a stage apart.

    Args:
        run: A planned run.
        point: Its hyperparameters.

    Returns:
        The name of its arm, with the searched options that change what a step costs behind it.
    """
    name = run.label if run.source == "placebo" else run.arm.name  # other entries of an arm cost what it costs
    return " ".join([name, *(f"{name}={point[name]}" for name in searched_costs(run))])


def searched_costs(run: Run) -> list[str]:
    """Return the hyperparameters that are searched and change what a step costs, by name."""
    return sorted(spec_of(run.arm).cost_fields & set(run.arm.search_space or {}))


def profiles(study: Study, races: Sequence[Run]) -> list[Run]:
    """Return the runs that time the parts of a step.

    Args:
        study: A study.
        races: Its race.

    Returns:
        For each entry one in each place, of the first case there; empty unless the race asks for them.
    """
    if study.race is None or not study.race.profile:
        return []
    first = {(place_of(run), run.label): run for run in reversed(races)}
    return [replace(_bare(run), purpose="profile", case=run.case) for run in reversed(first.values())]


def place_of(run: Run) -> tuple[Any, ...]:
    """Return what runs have in common whose steps can be timed in turn.

    Args:
        run: A planned run.

    Returns:
        Workload and data, batch size, workers, threads and what else is the same for all arms.
    """
    names = ("workload", "splits", "batch_size", "num_workers", "num_threads", "gpus_per_worker", "sync_batchnorm")
    return tuple(getattr(run, name) for name in names)


def _bare(run: Run) -> Run:
    """Return a run without what the cost of its steps does not depend on."""
    return replace(
        run,
        budget=Budget(kind="steps", amount=1),
        seed=0,
        trial=None,
        sampler=None,
        pruner=None,
        schedule=Schedule(),
        stop_at_target=False,
        case="",
        initial_weights=None,
        isolation="shared",
        diagnostics=(),
    )


def _cost_options(run: Run) -> Iterator[dict[str, Any]]:
    """Yield each combination of the searched options that change what a step costs."""
    names = searched_costs(run)
    atoms = [(run.arm.search_space or {})[name] for name in names]
    choices = [atom.choices if isinstance(atom, Categorical) else (atom.low,) for atom in atoms]
    yield from (dict(zip(names, values, strict=True)) for values in itertools.product(*choices))
