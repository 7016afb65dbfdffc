"""What arms are in a plan: what is searched of them, and their entries in a race."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import optimizers
from optimizers import OptimizerSpec
from optimizers.base import SearchSpace
from suite.config import Arm
from suite.errors import UsageError
from suite.study import Case, Study


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


def entries(study: Study, case: Case) -> Iterator[tuple[Arm, str]]:
    """Yield what races in a case: arms with where their hyperparameters come from."""
    race = study.race
    assert race is not None
    usual = race.sources if study.tune else ("fixed",)
    changes = {arm.name: _changed(study, arm, case) for arm in study.arms}
    reference = (case.budget or race.budget).reference
    if reference is not None and changes.get(reference) is None:
        raise UsageError(
            f"the budget of the case {case.name!r} is the time of {reference!r}, which does not race in it"
        )
    for arm in study.arms:
        changed = changes[arm.name]
        if changed is None:
            continue
        yield from ((_without_space(study, changed, source), source) for source in usual)
        if race.control == arm.name:
            yield _without_space(study, changed, "control"), "control"
        if race.placebos and spec_of(arm).placebo:
            if study.tune and changed is not arm:
                raise UsageError(f"the case {case.name!r} changes arm {arm.name!r}, whose placebo follows its sweep")
            yield _placebo(study, changed), "placebo"


def _changed(study: Study, arm: Arm, case: Case) -> Arm | None:
    """Return an arm as it races in a case; ``None`` if it does not, or lacks a hyperparameter of the case."""
    if case.arms is not None and arm.name not in case.arms:
        return None
    given = {**case.hyperparameters, **(case.arms or {}).get(arm.name, {})}
    names = {*given, *case.multiplied}
    if not names:
        return arm
    searched = names & set(resolve_search_space(arm, study.tune.space)) if study.tune else set()
    if searched:
        raise UsageError(f"the case {case.name!r} sets {', '.join(sorted(searched))}, which arm {arm.name!r} searches")
    own = asdict(_configured(arm))
    if not names <= set(own):
        return None
    for name in case.multiplied:
        if type(own[name]) not in {int, float}:
            raise UsageError(f"the case {case.name!r} multiplies {name} of arm {arm.name!r}, which is {own[name]!r}")
    multiplied = {name: own[name] * factor for name, factor in case.multiplied.items()}
    changed = replace(arm, fixed={**arm.fixed, **given, **multiplied})
    _configured(changed)
    return changed


def _without_space(study: Study, arm: Arm, source: str) -> Arm:
    """Return an arm as it races: of what was searched it keeps the options that change what a step costs."""
    space = {}
    if study.tune and source in {"winner", "transferred", "control"}:
        cost_fields = spec_of(arm).cost_fields
        searched = resolve_search_space(arm, study.tune.space)
        space = {name: atom for name, atom in searched.items() if name in cost_fields}
    return replace(arm, search_space=space or None)


def _placebo(study: Study, arm: Arm) -> Arm:
    """Return the placebo of an arm; in a study that tunes, its hyperparameters come with the winner's."""
    placebo = spec_of(arm).placebo
    assert placebo is not None
    fixed = {} if study.tune else placebo_point(arm)
    return Arm(name=arm.name, optimizer=placebo.optimizer, fixed=fixed)


def placebo_point(arm: Arm, point: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the hyperparameters of an arm's placebo.

    Args:
        arm: One whose optimizer has a placebo.
        point: Hyperparameters over the arm's own, such as a sweep's winner.

    Returns:
        Those of the optimizer that the placebo is.

    Raises:
        UsageError: If a hyperparameter is unknown or out of range, or there is no placebo for these.
    """
    placebo = spec_of(arm).placebo
    assert placebo is not None
    try:
        return placebo.hyperparameters(_configured(arm, point))
    except ValueError as error:
        raise UsageError(f"the placebo of arm {arm.name!r}: {error}") from error


def _configured(arm: Arm, point: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
    """Return the configuration of an arm's optimizer."""
    try:
        return spec_of(arm).configure(**{**arm.fixed, **(point or {})})
    except ValueError as error:
        raise UsageError(f"arm {arm.name!r}: {error}") from error


def spec_of(arm: Arm) -> OptimizerSpec:
    """Return the specification of an arm's optimizer, or say which arm names none."""
    try:
        return optimizers.find(arm.optimizer)
    except ValueError as error:
        raise UsageError(f"arm {arm.name!r}: {error}") from error
