"""Optuna proposes hyperparameters; the results store remembers them.

No Optuna storage is kept while a sweep runs: the points of a quasi-random, random or grid sweep are a pure function of
the seed and the trial's number, and the model-based samplers learn from the store's finished trials each time they
start.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from optimizers import Categorical, Float
from suite.config import Budget, Run
from suite.errors import UsageError
from suite.training.seeding import derive
from suite.workloads import WorkloadSpec

optuna.logging.set_verbosity(optuna.logging.ERROR)

Space = Mapping[str, Float | Categorical]
Point = dict[str, Any]

LEARNING = ("tpe", "gp")


class Proposer(Protocol):
    """Proposes the points of one arm's sweep."""

    def propose(self, trial: int) -> Point:
        """Return the hyperparameters of a trial.

        Args:
            trial: Its number.

        Returns:
            A value for each dimension of the space.
        """
        ...

    def observe(self, trial: int, row: Mapping[str, Any] | None) -> None:
        """Take note of what a proposed trial came to.

        Args:
            trial: Its number.
            row: Of the table ``runs``; ``None`` if there is none.
        """
        ...


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Translate a search space.

    Args:
        space: Atoms by hyperparameter.

    Returns:
        Optuna's distributions.
    """
    return {
        name: FloatDistribution(atom.low, atom.high, log=atom.log)
        if isinstance(atom, Float)
        else CategoricalDistribution(atom.choices)
        for name, atom in space.items()
    }


def planned_points(sampler: str, space: Space, seed: int, num: int) -> list[Point]:
    """Return the first points of a sweep that does not learn.

    Args:
        sampler: ``sobol``, a scrambled Sobol sequence; ``random``; or ``grid``, all combinations of choices in a random
            order.
        space: What is searched.
        seed: Of the scrambling, the draws, or the order.
        num: How many; on a grid at most as many as it has.

    Returns:
        Points; the k-th depends on ``sampler``, ``space``, ``seed`` and k alone.
    """
    spread = distributions(space)
    study = optuna.create_study(sampler=_planned_sampler(sampler, space, seed))
    if sampler == "sobol":
        # QMCSampler spaces its points over what an earlier trial shows to be the space: show it one.
        study.add_trial(optuna.trial.create_trial(params=_corner(space), distributions=spread, value=0.0))
    return [study.ask(spread).params for _ in range(num)]


def _planned_sampler(name: str, space: Space, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "grid":
        choices = {name: list(atom.choices) for name, atom in space.items() if isinstance(atom, Categorical)}
        return optuna.samplers.GridSampler(choices, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # unchanged since Optuna 3.0
        return optuna.samplers.QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)


def check_sampler(sampler: str, space: Space, num_trials: int) -> None:
    """Refuse a space that a sampler cannot do.

    Args:
        sampler: Its name.
        space: What is searched.
        num_trials: How many points are wanted.

    Raises:
        UsageError: If a grid has a range in it, or fewer points than are wanted.
    """
    if sampler != "grid":
        return
    ranges = [name for name, atom in space.items() if isinstance(atom, Float)]
    if ranges:
        raise UsageError(
            f"the sampler 'grid' needs a set of choices for each hyperparameter, but {', '.join(ranges)} is a range; "
            "set tune.space to one of the paper's grids, or tune.sampler=sobol"
        )
    size = math.prod(len(atom.choices) for atom in space.values() if isinstance(atom, Categorical))
    if size < num_trials:
        raise UsageError(f"the grid of {', '.join(space)} has {size} points, but {num_trials} trials are planned")


def _corner(space: Space) -> Point:
    return {name: atom.low if isinstance(atom, Float) else atom.choices[0] for name, atom in space.items()}


class PlannedProposer:
    """Points that are planned in advance.

    Args:
        points: By number of the trial.
    """

    def __init__(self, points: Mapping[int, Point]) -> None:
        self._points = points

    def propose(self, trial: int) -> Point:
        """Return the point of a trial.

        Args:
            trial: Its number.

        Returns:
            The point.
        """
        return self._points[trial]

    def observe(self, trial: int, row: Mapping[str, Any] | None) -> None:
        """Learn nothing.

        Args:
            trial: Not used.
            row: Not used.
        """


class ModelProposer:
    """Points from a sampler that learns from finished trials.

    Args:
        space: What is searched.
        sampler: Of Optuna.
        workload: That the trials train.
        rows: Trials done in earlier starts.
    """

    def __init__(
        self,
        space: Space,
        sampler: optuna.samplers.BaseSampler,
        workload: WorkloadSpec,
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        self._distributions, self._workload = distributions(space), workload
        self._study = optuna.create_study(sampler=sampler, direction=workload.metric_goal)
        self._study.add_trials([frozen_trial(row, space, workload) for row in rows])
        self._asked: dict[int, Trial] = {}

    def propose(self, trial: int) -> Point:
        """Ask the sampler.

        Args:
            trial: Number that the proposal is for.

        Returns:
            The point.
        """
        self._asked[trial] = self._study.ask(self._distributions)
        return dict(self._asked[trial].params)

    def observe(self, trial: int, row: Mapping[str, Any] | None) -> None:
        """Tell the sampler.

        Args:
            trial: A number that was proposed for.
            row: What it came to; ``None`` if nothing is known of it.
        """
        asked = self._asked.pop(trial)
        state, value = outcome(row, self._workload) if row else (TrialState.FAIL, None)
        if state == TrialState.PRUNED and value is not None:
            asked.report(value, percent_used(row or {}))  # a pruned trial is worth what it last reported
            value = None
        self._study.tell(asked, value, state)


def proposer(runs: Sequence[Run], space: Space, workload: WorkloadSpec, rows: Iterable[Mapping[str, Any]]) -> Proposer:
    """Return what proposes the points of one arm's sweep, or of one of its extensions.

    Args:
        runs: All planned trials of the arm, in it.
        space: What is searched.
        workload: Its workload.
        rows: The arm's finished trials, from the table ``runs``.

    Returns:
        The proposer.
    """
    first = runs[0]
    assert first.trial is not None
    seed = derive(first.seed, "sampler", first.arm.name) % 2**32
    if first.trial > 0:
        seed = derive(seed, "extension", first.trial) % 2**32
    name = first.sampler or ""
    if name in LEARNING:
        rows = list(rows)
        # A sampler that starts again from n trials must not repeat the random draws of its first start.
        seed = derive(seed, "start", len(rows)) % 2**32
        return ModelProposer(space, _model_sampler(name, seed), workload, rows)
    points = planned_points(name, space, seed, len(runs))
    return PlannedProposer({first.trial + k: point for k, point in enumerate(points)})


def _model_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return optuna.samplers.GPSampler(seed=seed)


def outcome(row: Mapping[str, Any], workload: WorkloadSpec) -> tuple[TrialState, float | None]:
    """Return what a sampler is told of a finished trial.

    Args:
        row: Of the table ``runs``.
        workload: Its workload.

    Returns:
        State and value. A completed trial has its validation metric at the end, or the workload's worst one where that
        is better; a diverged one is complete with the worst, so that the sampler keeps away from there; a pruned one is
        pruned with its last metric; a failed one failed, without a value.
    """
    if row["status"] == "diverged":
        return TrialState.COMPLETE, workload.worst_metric
    value = row["val_metric"]
    if row["status"] not in {"completed", "target_reached", "pruned"} or value is None:
        return TrialState.FAIL, None
    state = TrialState.PRUNED if row["status"] == "pruned" else TrialState.COMPLETE
    return state, float(value) if workload.is_better(value, workload.worst_metric) else workload.worst_metric


def percent_used(row: Mapping[str, Any]) -> int:
    """Return how much of its budget a run has used.

    Args:
        row: Of the table ``runs``.

    Returns:
        Whole per cent: what samplers and pruners take for a step, as the steps of trials differ.
    """
    budget = Budget.parse(row["budget"])
    used = {"epochs": row["num_epochs"], "steps": row["num_steps"]}.get(budget.kind, row["budget_time_s"])
    return int(round(100 * used / (row["budget_seconds"] if budget.is_time else budget.amount)))


def frozen_trial(row: Mapping[str, Any], space: Space, workload: WorkloadSpec) -> FrozenTrial:
    """Return a finished trial as Optuna stores it.

    Args:
        row: Of the table ``runs``.
        space: What was searched, all extensions together.
        workload: Its workload.

    Returns:
        A trial in a final state; never one that runs.
    """
    values = json.loads(row["hyperparameters"])
    state, value = outcome(row, workload)
    trial = optuna.trial.create_trial(
        state=state,
        value=value,
        params={name: values[name] for name in space},
        distributions=distributions(space),
        intermediate_values={percent_used(row): value} if state == TrialState.PRUNED and value is not None else {},
        user_attrs={"run_id": row["run_id"], "trial": row["trial"], "status": row["status"]},
    )
    trial.datetime_start, trial.datetime_complete = (
        row[name].replace(tzinfo=None) for name in ("started_at", "finished_at")
    )
    return trial
