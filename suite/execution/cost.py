"""What a study would run and what it would cost, before anything starts."""

from collections.abc import Sequence

from suite import workloads
from suite.config import Run
from suite.execution.progress import duration
from suite.study import Study, calibrations, race_runs, tuning_runs


def estimate(study: Study, stages: Sequence[str]) -> list[str]:
    """Say what a study would run.

    Args:
        study: The study.
        stages: ``tune``, ``race`` or both.

    Returns:
        A line for the study, and one for each stage: its runs, and the training time that their budgets add up to.
    """
    workload = workloads.find(study.workload)
    lines = [
        f"{study.name}: {study.question}",
        f"workload {workload.name}; arms {', '.join(arm.name for arm in study.arms)}",
    ]
    for name, runs in (("tune", tuning_runs(study)), ("race", race_runs(study))):
        if name in stages and runs:
            lines.append(_stage(name, runs))
    return lines


def _stage(name: str, runs: Sequence[Run]) -> str:
    first = runs[0]
    workers = f"{first.num_workers} worker(s) x {first.num_threads} thread(s)"
    measured = len(calibrations(runs))
    text = f"{name}: {len(runs)} runs ({first.budget}) on {workers}"
    if first.budget.kind == "wall_clock":
        text += f", {duration(first.budget.amount * len(runs))} of training"
    return text + (f", after {measured} calibrations" if measured else "")
