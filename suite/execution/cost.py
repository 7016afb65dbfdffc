"""What a study would run and what it would cost, before anything starts."""

import os
from collections.abc import Sequence

from optimizers import Categorical, Float
from suite import workloads
from suite.config import Run
from suite.execution.forecast import data_needed, gpu_cost
from suite.execution.progress import duration
from suite.execution.provenance import usable_cpus
from suite.plan import calibrations, expand, pretrainings, race_runs, resolve_search_space, tuning_runs
from suite.study import Study

_PROTOCOLS = {"fair": "equal trials and equal time for every arm", "paper": "equal trials and epochs for every arm"}


def estimate(study: Study, stages: Sequence[str], *, on_gpu: bool = False) -> list[str]:
    """Say what a study would run.

    Args:
        study: The study.
        stages: ``tune``, ``race`` or both.
        on_gpu: Whether to say what it would take on a GPU, and which data it needs, rather than on this machine.

    Returns:
        A line for the study, and for each stage its runs, the training time that their budgets add up to, and about how
        long that takes.
    """
    workload = workloads.find(study.workload)
    lines = [
        f"{study.name}: {study.question}",
        f"workload {workload.name}; arms {', '.join(arm.name for arm in study.arms)}",
    ]
    before = pretrainings(study)
    for name, runs in (("tune", tuning_runs(study)), ("race", race_runs(study))):
        if name == "race" and name in stages and before:
            lines += _stage("pretraining", before, on_gpu=on_gpu)
        if name in stages and runs:
            lines += _stage(name, runs, on_gpu=on_gpu)
            lines += _sweep(study) if name == "tune" else []
    if on_gpu:
        lines += [f"      {text}" for text in data_needed(expand(study, stages))]
    return lines


def _stage(name: str, runs: Sequence[Run], *, on_gpu: bool) -> list[str]:
    """Return a line for the runs of a stage, and one for each of its cases."""
    cases: dict[str, list[Run]] = {}
    for run in runs:
        cases.setdefault(run.case, []).append(run)
    if on_gpu:
        lines = [f"{name}: {len(runs)} runs", f"      {gpu_cost(runs)}"]
        told = [f"{len(group)} runs ({_how(group[0])})" for group in cases.values()]
    else:
        lines = [_on_this_machine(name, runs)]
        told = [_how(group[0]) for group in cases.values()]
    return lines + [f"      {case or 'all'}: {text}" for case, text in zip(cases, told, strict=True) if case or on_gpu]


def _how(run: Run) -> str:
    return f"{run.workload}, {run.budget}, batch {run.batch_size}, {_workers(run)}"


def _workers(run: Run) -> str:
    return f"{run.num_workers} worker(s) x {run.num_threads} thread(s)"


def _on_this_machine(name: str, runs: Sequence[Run]) -> str:
    """Return what a stage takes here: exact in budgets that are times, a count where they are not."""
    first = runs[0]
    measured = len(calibrations(runs))
    is_uniform = len({run.case for run in runs}) == 1
    text = f"{name}: {len(runs)} runs" + (f" ({first.budget}) on {_workers(first)}" if is_uniform else "")
    if all(run.budget.kind == "wall_clock" for run in runs):
        training_s = sum(run.budget.amount for run in runs)
        text += f", {duration(training_s)} of training"
        at_once = min(map(_at_once, runs))
        if at_once > 1:
            text += f", {at_once} runs at a time: about {duration(training_s / at_once)}"
    return text + (f", after {measured} calibrations" if measured else "")


def _at_once(run: Run) -> int:
    """Return how many runs this machine holds; 1 where a cluster has to say, or each run wants it for itself."""
    if os.environ.get("RAY_ADDRESS") or run.budget.mode == "live" or run.isolation == "machine":
        return 1
    return max(1, usable_cpus() // (run.num_workers * run.num_threads))


def _sweep(study: Study) -> list[str]:
    """Return how the points are found."""
    tune = study.tune
    assert tune is not None
    protocol = f"protocol {tune.protocol}: {_PROTOCOLS[tune.protocol]}"
    lines = [f"      {protocol}; sampler {tune.sampler}, space {tune.space}"]
    if tune.pruner != "none":
        lines.append(f"      pruner {tune.pruner}: trials may be stopped early")
    if tune.max_extensions:
        lines.append(
            f"      extends itself up to {tune.max_extensions} times, by half of its trials, for a best one on an edge"
        )
    for arm in study.arms:
        space = resolve_search_space(arm, tune.space)
        lines.append(f"      {arm.name}: {', '.join(f'{name} {_told(atom)}' for name, atom in space.items())}")
    return lines


def _told(atom: Float | Categorical) -> str:
    """Return what is searched of one hyperparameter."""
    if isinstance(atom, Float):
        return f"{atom.low:g} to {atom.high:g}{' (log)' if atom.log else ''}"
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in atom.choices]
    return f"of {values[0]} … {values[-1]} ({len(values)})" if len(values) > 4 else f"of {', '.join(values)}"
