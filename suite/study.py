"""A study: a set of runs that answers one question, and its pure expansion into those runs."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args

import optimizers
from suite.config import Arm, Budget, Purpose, Run, Schedule
from suite.errors import UsageError, known
from suite.workloads import data_version

Sampler = Literal["sobol", "tpe", "gp"]
STAGES = ("tune", "race")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The sweep of a study: every arm gets the same trials and the same budget.

    Args:
        budget: Of each trial.
        num_trials: Trials of each arm; >= 1.
        sampler: ``sobol`` (quasi-random: point k depends on seed and k alone), ``tpe`` or ``gp``.
        seed: Of the sampler and of every trial's training.
        num_threads: CPU threads of a trial.

    Raises:
        UsageError: If a field breaks its rule.
    """

    budget: Budget
    num_trials: int = 12
    sampler: Sampler = "sobol"
    seed: int = 0
    num_threads: int = 1

    def __post_init__(self) -> None:
        if self.num_trials < 1:
            raise UsageError(f"num_trials must be >= 1, but got {self.num_trials}")
        if self.sampler not in get_args(Sampler):
            raise UsageError(known("sampler", self.sampler, get_args(Sampler)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """The race of a study: each arm once for each seed, all with the same budget.

    Args:
        budget: Of each run.
        seeds: Fresh ones, that took no part in tuning; the same for every arm.
        num_workers: Data-parallel workers of each run.
        num_threads: CPU threads of each worker.

    Raises:
        UsageError: If there are no seeds, or one comes twice.
    """

    budget: Budget
    seeds: tuple[int, ...] = (1, 2, 3)
    num_workers: int = 1
    num_threads: int = 1

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"a race needs at least one seed and each once, but got {self.seeds}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Runs that answer one question.

    Args:
        name: Also the name of its results directory.
        question: What it answers, one sentence.
        workload: Name of the workload, or ``package.module:SPEC``.
        arms: The optimizer configurations compared; the names differ.
        batch_size: Samples a step over all workers.
        tune: The sweep; ``None``: hyperparameters are fixed by the arms.
        race: The race; ``None``: the study ends with the sweep.
        schedule: Of the learning rate.
        splits: As in :class:`~suite.config.Run`.
        sync_batchnorm: As in :class:`~suite.config.Run`.
        stop_at_target: As in :class:`~suite.config.Run`.
        paper: Fields that differ at scale ``paper``; ``None``: there is no such scale.

    Raises:
        UsageError: If a field breaks its rule.
    """

    name: str
    question: str
    workload: str
    arms: tuple[Arm, ...]
    batch_size: int
    tune: Tuning | None = None
    race: Race | None = None
    schedule: Schedule = Schedule()
    splits: Literal["standard", "paper"] = "standard"
    sync_batchnorm: bool = False
    stop_at_target: bool = False
    paper: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise UsageError(f"the name of a study is made of letters, digits, '_' and '-', but got {self.name!r}")
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"a study needs at least one arm and different names, but got {names}")
        if self.tune is None and self.race is None:
            raise UsageError(f"the study {self.name!r} has neither a sweep nor a race")
        if self.tune and self.splits == "paper":
            raise UsageError("a sweep selects on the validation split, so it needs splits='standard', but got 'paper'")
        if self.tune and self.race and self.tune.seed in self.race.seeds:
            raise UsageError(f"race seeds must be fresh, but {self.tune.seed} is the seed of the sweep")
        for budget in [part.budget for part in (self.tune, self.race) if part]:
            if budget.reference is not None and budget.reference not in names:
                raise UsageError(known("reference arm", budget.reference, names))

    def at_scale(self, scale: str) -> "Study":
        """Return the study at a scale.

        Args:
            scale: ``quick`` (as declared) or ``paper`` (the published protocol).

        Returns:
            The study with that scale's fields.

        Raises:
            UsageError: If the study has no such scale.
        """
        if scale == "quick":
            return self
        if scale == "paper" and self.paper is not None:
            return replace(self, **self.paper)
        scales = ["quick"] if self.paper is None else ["quick", "paper"]
        raise UsageError(known(f"scale of the study {self.name!r}:", scale, scales))


def resolve_search_space(arm: Arm) -> Mapping[str, optimizers.Float | optimizers.Categorical]:
    """Return what a sweep of this arm searches.

    Args:
        arm: An arm.

    Returns:
        Its own space, else its optimizer's, less the hyperparameters that the arm fixes.

    Raises:
        UsageError: If the optimizer is unknown, has no such hyperparameter, or nothing is left to search.
    """
    try:
        spec = optimizers.find(arm.optimizer)
        spec.configure(**arm.fixed)
        for name in arm.search_space or {}:
            spec.check_field(name)
    except ValueError as error:
        raise UsageError(f"arm {arm.name!r}: {error}") from error
    space = spec.search_space if arm.search_space is None else arm.search_space
    left = {name: atom for name, atom in space.items() if name not in arm.fixed}
    if not left:
        raise UsageError(
            f"arm {arm.name!r} has nothing to search: all of {', '.join(space) or 'an empty space'} is fixed"
        )
    return left


def expand(study: Study, stages: Collection[str] = STAGES) -> list[Run]:
    """Return every run of a study, each once, in the order in which they are done.

    Calibrations come before the runs whose budgets they turn into steps. Trials alternate over the arms, races over the
    seeds, so that slow drift of the machine falls on all arms alike.

    Args:
        study: A study.
        stages: Only these, ``tune`` or ``race``.

    Returns:
        Its runs; a pure function of the study.
    """
    trials = tuning_runs(study) if "tune" in stages else []
    races = race_runs(study) if "race" in stages else []
    return list({run.run_id: run for run in [*calibrations(trials), *trials, *calibrations(races), *races]}.values())


def tuning_runs(study: Study) -> list[Run]:
    """Return the trials of the sweep.

    Args:
        study: A study.

    Returns:
        Trial by trial, in each trial arm by arm; empty without a sweep.
    """
    if study.tune is None:
        return []
    arms = [replace(arm, search_space=dict(resolve_search_space(arm))) for arm in study.arms]
    rest = {"sampler": study.tune.sampler, "seed": study.tune.seed, "num_threads": study.tune.num_threads}
    return [
        _run(study, arm, "tune", study.tune.budget, source="sampled", trial=trial, **rest)
        for trial in range(study.tune.num_trials)
        for arm in arms
    ]


def race_runs(study: Study) -> list[Run]:
    """Return the runs of the race.

    Args:
        study: A study.

    Returns:
        Seed by seed, in each seed arm by arm; empty without a race.
    """
    if study.race is None:
        return []
    rest = {"num_workers": study.race.num_workers, "num_threads": study.race.num_threads}
    source = "winner" if study.tune else "fixed"
    arms = [replace(arm, search_space=None) for arm in study.arms]
    return [
        _run(study, arm, "race", study.race.budget, source=source, seed=seed, **rest)
        for seed in study.race.seeds
        for arm in arms
    ]


def calibrations(runs: Sequence[Run]) -> list[Run]:
    """Return the calibrations that the budgets of these runs need, each once.

    Args:
        runs: Planned runs of one stage.

    Returns:
        One run an arm whose budget is a calibrated time; of the reference arm alone where its time is a live budget.
    """
    needed = [calibration_of(run) for run in runs if run.budget.is_calibrated or run.arm.name == run.budget.reference]
    return list({run.run_id: run for run in needed}.values())


def calibration_of(run: Run) -> Run:
    """Return the calibration that says what a step of this run costs.

    Args:
        run: A planned run.

    Returns:
        A run that keeps only what a step's cost depends on: not lr, damping, γ, decay, schedule or seed.
    """
    spec = optimizers.find(run.arm.optimizer)
    fixed = {name: value for name, value in run.arm.fixed.items() if name in spec.cost_fields}
    return replace(
        run,
        arm=replace(run.arm, fixed=fixed, search_space=None),
        purpose="calibrate",
        budget=Budget(kind="steps", amount=1),
        seed=0,
        source="fixed",
        trial=None,
        sampler=None,
        schedule=Schedule(),
        stop_at_target=False,
    )


def _run(study: Study, arm: Arm, purpose: Purpose, budget: Budget, **rest: Any) -> Run:  # noqa: ANN401
    return Run(
        study=study.name,
        workload=study.workload,
        arm=arm,
        purpose=purpose,
        budget=budget,
        batch_size=study.batch_size,
        schedule=study.schedule,
        splits=study.splits,
        sync_batchnorm=study.sync_batchnorm,
        stop_at_target=study.stop_at_target,
        data_version=data_version(study.workload),
        **rest,
    )


def override(value: Any, assignment: str) -> Any:  # noqa: ANN401
    """Return a copy of a study, or of a part of it, with one field set from text.

    Args:
        value: A study, or any dataclass in it.
        assignment: ``field=value``; a field of a part is written ``race.seeds=1,2,3``.

    Returns:
        The copy.

    Raises:
        UsageError: If there is no such field, or the value is none of its kind.
    """
    path, equals, text = assignment.partition("=")
    name, _, rest = path.partition(".")
    names = [f.name for f in fields(value) if f.name not in {"name", "paper"}]
    if not equals or name not in names:
        raise UsageError(f"{known('field', path, names)}; write --set field=value")
    current = getattr(value, name)
    if rest:
        if not is_dataclass(current):
            raise UsageError(f"the field {name!r} has no parts, but got {path!r}")
        return replace(value, **{name: override(current, f"{rest}={text}")})
    return replace(value, **{name: _parse(name, current, text)})


def _parse(name: str, current: Any, text: str) -> Any:  # noqa: ANN401
    """Read ``text`` as the kind of value that ``current`` is."""
    try:
        if name == "arms":
            return tuple(_arm(current, part.strip()) for part in text.split(","))
        if name == "seeds":
            return tuple(int(part) for part in text.split(","))
        if isinstance(current, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(current, Budget):
            return Budget.parse(text)
        if isinstance(current, int | float | str):
            return type(current)(text)
    except (ValueError, KeyError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the field {name!r} is a {type(current).__name__}, but got {text!r}") from error
    raise UsageError(f"the field {name!r} cannot be set as a whole; set one of its parts, e.g. {name}.…=…")


def _arm(arms: tuple[Arm, ...], name: str) -> Arm:
    """Return the study's arm of this name, else the registered optimizer of this name as an arm."""
    for arm in arms:
        if arm.name == name:
            return arm
    if name in optimizers.REGISTRY:
        return Arm(name=name, optimizer=name)
    raise UsageError(known("arm", name, {*(a.name for a in arms), *optimizers.REGISTRY}))
