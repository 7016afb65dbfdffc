"""A study: a set of runs that answers one question, as it is declared."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from suite.config import Arm, Budget, Isolation, Schedule
from suite.errors import UsageError, known

Sampler = Literal["sobol", "random", "grid", "tpe", "gp"]
Pruner = Literal["none", "asha", "median"]
RaceSource = Literal["winner", "default", "transferred"]
STAGES = ("tune", "race")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The sweep of a study: every arm gets the same trials and the same budget.

    Args:
        budget: Of each trial. It says which protocol this is: a time gives every arm the same time, epochs the same
            epochs.
        num_trials: Trials of each arm; >= 1.
        sampler: ``sobol`` (quasi-random), ``random`` or ``grid``: point k depends on seed and k alone; ``tpe`` or
            ``gp`` learn from finished trials.
        space: What is searched: ``default``, or another named space of the arms' optimizers; an arm's own space wins.
        pruner: ``none``; ``asha`` or ``median`` stop a trial early that does worse than others at the same part of the
            budget.
        max_extensions: How often the sweep may extend itself, by half of its trials for every arm, when the best trial
            of an arm lies on an edge of its space.
        transfer_from: Another workload that is tuned on as well, so that its winner can race here.
        seed: Of the sampler and of every trial's training.
        num_workers: Data-parallel workers of a trial.
        num_threads: CPU threads of each worker.
        gpus_per_worker: As in :class:`~suite.config.Run`.

    Raises:
        UsageError: If a field breaks its rule.
    """

    budget: Budget
    num_trials: int = 12
    sampler: Sampler = "sobol"
    space: str = "default"
    pruner: Pruner = "none"
    max_extensions: int = 0
    transfer_from: str | None = None
    seed: int = 0
    num_workers: int = 1
    num_threads: int = 1
    gpus_per_worker: float = 1.0

    def __post_init__(self) -> None:
        if self.num_trials < 1:
            raise UsageError(f"num_trials must be >= 1, but got {self.num_trials}")
        if self.max_extensions < 0:
            raise UsageError(f"max_extensions must be >= 0, but got {self.max_extensions}")
        if self.sampler not in get_args(Sampler):
            raise UsageError(known("sampler", self.sampler, get_args(Sampler)))
        if self.pruner not in get_args(Pruner):
            raise UsageError(known("pruner", self.pruner, get_args(Pruner)))

    @property
    def protocol(self) -> str:
        """``fair``: equal trials and equal time for every arm; ``paper``: equal trials and equal epochs."""
        return "fair" if self.budget.is_time else "paper"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """A training whose weights others begin with: one for each seed, wherever names and shapes agree.

    Args:
        workload: Another workload, of a network that has layers in common.
        arm: Trains it.
        budget: In steps or epochs, or a live time.

    Raises:
        UsageError: If the budget is a calibrated time.
    """

    workload: str
    arm: Arm
    budget: Budget

    def __post_init__(self) -> None:
        if self.budget.is_calibrated or self.budget.reference:
            raise UsageError(f"a pretraining's budget is in steps or epochs, but got {str(self.budget)!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Conditions under which all arms race, where a study compares several; what is ``None`` is as in the study.

    Args:
        name: As the tables call it.
        workload: As in :class:`Study`.
        batch_size: As in :class:`Study`; ``None`` with a workload of the case's own: that workload's.
        budget: As in :class:`Race`.
        schedule: As in :class:`Study`.
        num_workers: As in :class:`Race`.
        num_threads: As in :class:`Race`.
        hyperparameters: Set in all arms that have them; the others do not race in this case.
        multiplied: Likewise, by what factor the arm's own are multiplied.
        pretraining: Where the weights come from; ``None``: they are random.
        seeds: As in :class:`Race`.
        arms: Those that race, by name, with the hyperparameters that each sets here; ``None``: all, as they are.
    """

    name: str
    workload: str | None = None
    batch_size: int | None = None
    budget: Budget | None = None
    schedule: Schedule | None = None
    num_workers: int | None = None
    num_threads: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    multiplied: Mapping[str, float] = field(default_factory=dict)
    pretraining: Pretraining | None = None
    seeds: tuple[int, ...] | None = None
    arms: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """The race of a study: each arm once for each seed, all with the same budget.

    Args:
        budget: Of each run.
        seeds: Fresh ones, that took no part in tuning; the same for every arm.
        sources: With which hyperparameters each arm races, where there is a sweep: those of its ``winner``, the
            optimizer's ``default``, and the winner ``transferred`` from the sweep's other workload.
        placebos: Whether an arm whose optimizer has a placebo is joined by it.
        control: Name of an arm that races twice, so that what the race tells apart can be judged: the A/A control.
        cases: Conditions that differ; empty: all runs are alike.
        num_workers: Data-parallel workers of each run.
        num_threads: CPU threads of each worker.
        gpus_per_worker: As in :class:`~suite.config.Run`.
        isolation: As in :class:`~suite.config.Run`.
        diagnostics: As in :class:`~suite.config.Run`.
        profile: Whether the parts of a step of each arm are timed as well, once under all conditions that change its
            cost, alone on the machine.

    Raises:
        UsageError: If there are no seeds or sources, one comes twice, a source is unknown, or two cases have one name.
    """

    budget: Budget
    seeds: tuple[int, ...] = (1, 2, 3)
    sources: tuple[RaceSource, ...] = ("winner",)
    placebos: bool = False
    control: str | None = None
    cases: tuple[Case, ...] = ()
    num_workers: int = 1
    num_threads: int = 1
    gpus_per_worker: float = 1.0
    isolation: Isolation = "shared"
    diagnostics: tuple[str, ...] = ()
    profile: bool = False

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"a race needs at least one seed and each once, but got {self.seeds}")
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise UsageError(f"a race needs at least one source and each once, but got {self.sources}")
        for source in self.sources:
            if source not in get_args(RaceSource):
                raise UsageError(known("source", source, get_args(RaceSource)))
        names = [case.name for case in self.cases]
        if "" in names or len(set(names)) < len(names):
            raise UsageError(f"the cases of a race need different names, but got {names}")
        if self.isolation not in get_args(Isolation):
            raise UsageError(known("isolation", self.isolation, get_args(Isolation)))


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
        answers: Plain tables that answer the question, by name.
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
    answers: tuple[str, ...] = ("standings",)
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
        if self.race and "transferred" in self.race.sources and (self.tune is None or self.tune.transfer_from is None):
            raise UsageError("a winner is transferred from another workload; name it with tune.transfer_from=…")
        if self.race:
            self._check_race(self.race, names)

    def _check_race(self, race: Race, names: list[str]) -> None:
        budgets = [race.budget, *(case.budget for case in race.cases), self.tune and self.tune.budget]
        for reference in [budget.reference for budget in budgets if budget and budget.reference]:
            if reference not in names:
                raise UsageError(known("reference arm", reference, names))
        for name in [
            *([race.control] if race.control else []),
            *(arm for case in race.cases for arm in case.arms or ()),
        ]:
            if name not in names:
                raise UsageError(known("arm", name, names))

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
