"""A run that is due, and everything that it names, looked up."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

import optimizers
from optimizers import Categorical, Float
from suite import workloads
from suite.config import Arm, Run
from suite.errors import UsageError
from suite.training.assembly import Task
from suite.training.calibration import Calibration
from suite.workloads import Data

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is due, with all that it needs from runs before it.

    Args:
        run: The plan.
        hyperparameters: Sampled, won or fixed; over the optimizer's defaults.
        calibrations: By cost key: what a step costs, where the budget is a time.
        attempt: Number of this try.
        space: What is searched, where the hyperparameters are sampled.
        tuning: Columns that say what the sweep behind the hyperparameters cost.
    """

    run: Run
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    attempt: int = 1
    space: Mapping[str, Float | Categorical] | None = None
    tuning: Mapping[str, Any] = field(default_factory=dict)


def job_of(run: Run, finished: Rows, **rest: Any) -> Job:  # noqa: ANN401
    """Return a run that is due as the next attempt at it.

    Args:
        run: The plan.
        finished: Rows by run id.
        **rest: Further fields of the job.

    Returns:
        The job.
    """
    return Job(run=run, attempt=1 + finished.get(run.run_id, {"attempt": 0})["attempt"], **rest)


def look_up(job: Job) -> Task:
    """Look up everything that a job names.

    Args:
        job: What is due.

    Returns:
        The task to train.

    Raises:
        UsageError: If an optimizer, a workload or a hyperparameter is unknown or out of range.
    """  # noqa: DOC502
    run = job.run
    workload = workloads.find(run.workload)
    spec, config = configure(run, job.hyperparameters)
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return Task(
        run=run, workload=workload, spec=spec, config=config, data=_data(run.workload, run.splits), device=device
    )


def configure(run: Run, hyperparameters: Mapping[str, Any]) -> tuple[optimizers.OptimizerSpec, Any]:
    """Return a run's optimizer and its configuration.

    Args:
        run: The plan.
        hyperparameters: Over what the arm fixes.

    Returns:
        The optimizer's spec and an instance of its ``config``.

    Raises:
        UsageError: If the optimizer or a hyperparameter is unknown, or a value is out of range.
    """  # noqa: DOC502
    return configure_arm(replace(run.arm, fixed={**run.arm.fixed, **hyperparameters}))


def configure_arm(arm: Arm) -> tuple[optimizers.OptimizerSpec, Any]:
    """Return an arm's optimizer and its configuration; errors are those of :func:`configure`."""
    try:
        spec = optimizers.find(arm.optimizer)
        return spec, spec.configure(**arm.fixed)
    except ValueError as error:
        raise UsageError(f"arm {arm.name!r}: {error}") from error
    except TypeError as error:
        kinds = f"not all of {dict(arm.fixed)} are of the kinds that it takes"
        raise UsageError(f"arm {arm.name!r}: {kinds}: {error}") from error


def seconds_of(run: Run, calibrations: Mapping[str, Calibration], epoch_steps: int) -> float | None:
    """Return the training time that a budget asks for.

    Args:
        run: The plan.
        calibrations: By cost key; must hold the reference of ``wall_clock_of``.
        epoch_steps: Steps in an epoch of the workload at the run's batch size.

    Returns:
        Seconds, or ``None`` for a budget in epochs or steps.
    """
    budget = run.budget
    if budget.kind == "wall_clock_of":
        assert budget.reference is not None
        return budget.amount * epoch_steps * calibrations[budget.reference].step_s
    return budget.amount if budget.kind == "wall_clock" else None


@cache
def _data(workload: str, splits: str) -> Data:
    return workloads.load(workload).with_splits(splits)
