"""Optuna proposes hyperparameters; the results store remembers them.

No Optuna storage is kept while a sweep runs: the points of a quasi-random sweep are a pure function of the seed and the
trial's number, and the model-based samplers learn from the store's finished trials each time they start.
"""

import json
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from optimizers import Categorical, Float
from suite.config import Run
from suite.training.seeding import derive
from suite.workloads import WorkloadSpec

optuna.logging.set_verbosity(optuna.logging.ERROR)

Space = Mapping[str, Float | Categorical]
Point = dict[str, Any]


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

    def observe(self, trial: int, value: float | None) -> None:
        """Take note of what a proposed trial came to.

        Args:
            trial: Its number.
            value: Its objective; ``None`` if it failed.
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


def sobol_points(space: Space, seed: int, num: int) -> list[Point]:
    """Return the first points of a scrambled Sobol sequence over a space.

    Args:
        space: What is searched.
        seed: Of the scrambling.
        num: How many.

    Returns:
        Points; the k-th depends on ``space``, ``seed`` and k alone.
    """
    spread = distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # unchanged since Optuna 3.0
        sampler = optuna.samplers.QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)
    # QMCSampler spaces its points over what an earlier trial shows to be the space: show it one.
    study.add_trial(optuna.trial.create_trial(params=_corner(space), distributions=spread, value=0.0))
    return [study.ask(spread).params for _ in range(num)]


def _corner(space: Space) -> Point:
    return {name: atom.low if isinstance(atom, Float) else atom.choices[0] for name, atom in space.items()}


class SobolProposer:
    """Quasi-random points, planned in advance.

    Args:
        space: What is searched.
        seed: Of the scrambling.
        num_trials: Trials planned.
    """

    def __init__(self, space: Space, seed: int, num_trials: int) -> None:
        self._points = sobol_points(space, seed, num_trials)

    def propose(self, trial: int) -> Point:
        """Return the point of a trial.

        Args:
            trial: Its number.

        Returns:
            The point.
        """
        return self._points[trial]

    def observe(self, trial: int, value: float | None) -> None:
        """Learn nothing.

        Args:
            trial: Not used.
            value: Not used.
        """


class ModelProposer:
    """Points from a sampler that learns from finished trials.

    Args:
        space: What is searched.
        sampler: Of Optuna.
        direction: ``maximize`` or ``minimize``.
        finished: Trials done in earlier starts.
    """

    def __init__(
        self,
        space: Space,
        sampler: optuna.samplers.BaseSampler,
        direction: Literal["maximize", "minimize"],
        finished: Iterable[FrozenTrial],
    ) -> None:
        self._distributions = distributions(space)
        self._study = optuna.create_study(sampler=sampler, direction=direction)
        self._study.add_trials(list(finished))
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

    def observe(self, trial: int, value: float | None) -> None:
        """Tell the sampler.

        Args:
            trial: A number that was proposed for.
            value: Its objective; ``None`` if it failed.
        """
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._study.tell(self._asked.pop(trial), value, state)


def proposer(trials: list[Run], workload: WorkloadSpec, rows: Iterable[Mapping[str, Any]]) -> Proposer:
    """Return what proposes the points of one arm's sweep.

    Args:
        trials: All planned trials of the arm.
        workload: Its workload.
        rows: Its finished trials, from the table ``runs``.

    Returns:
        The proposer.
    """
    first = trials[0]
    space = first.arm.search_space
    assert space is not None
    seed = derive(first.seed, "sampler", first.arm.name) % 2**32
    if first.sampler == "sobol":
        return SobolProposer(space, seed, len(trials))
    rows = list(rows)
    # A sampler that starts again from n trials must not repeat the random draws of its first start.
    seed = derive(seed, "start", len(rows)) % 2**32
    sampler = _model_sampler(first.sampler or "", seed)
    return ModelProposer(space, sampler, workload.metric_goal, [frozen_trial(row, space, workload) for row in rows])


def _model_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return optuna.samplers.GPSampler(seed=seed)


def objective(row: Mapping[str, Any], workload: WorkloadSpec) -> float | None:
    """Return what a sampler is told of a finished trial.

    Args:
        row: Of the table ``runs``.
        workload: Its workload.

    Returns:
        The validation metric at the end, or the workload's worst one where that is better; the worst one for a diverged
        run, which so loses; ``None`` for a failed one.
    """
    if row["status"] == "diverged":
        return workload.worst_metric
    value = row["val_metric"]
    if row["status"] not in {"completed", "target_reached", "pruned"} or value is None:
        return None
    return float(value) if workload.is_better(value, workload.worst_metric) else workload.worst_metric


def frozen_trial(row: Mapping[str, Any], space: Space, workload: WorkloadSpec) -> FrozenTrial:
    """Return a finished trial as Optuna stores it.

    Args:
        row: Of the table ``runs``.
        space: What was searched.
        workload: Its workload.

    Returns:
        A trial in a final state; never one that runs.
    """
    values = json.loads(row["hyperparameters"])
    value = objective(row, workload)
    state = (
        TrialState.PRUNED if row["status"] == "pruned" else TrialState.FAIL if value is None else TrialState.COMPLETE
    )
    trial = optuna.trial.create_trial(
        state=state,
        value=value,
        params={name: values[name] for name in space},
        distributions=distributions(space),
        user_attrs={"run_id": row["run_id"], "trial": row["trial"], "status": row["status"]},
    )
    trial.datetime_start, trial.datetime_complete = (
        row[name].replace(tzinfo=None) for name in ("started_at", "finished_at")
    )
    return trial
