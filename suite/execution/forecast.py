"""What a study would cost on a GPU, and which data it needs: told without either."""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from suite import workloads
from suite.config import Run
from suite.errors import UsageError
from suite.workloads import WorkloadSpec

STEPS = "gpu_steps.csv"  # measured by `make bench ARGS=gpu`
MIN_HOURS = 0.1  # less is not told in figures
MOST_NAMED = 4  # of what is not known
SAME_NETWORK = (("cifar100_", "cifar10_"), ("_cutout", ""), ("_pretrained", ""), ("ptb_", "wikitext2_"))  # same steps


def gpu_cost(runs: Sequence[Run]) -> str:
    """Say what the training of runs would take on the GPU whose step times are known.

    Args:
        runs: Planned; calibrations and profiles are seconds each, and not counted.

    Returns:
        A line: GPU-hours, on what, and for which arms and workloads they are not known.
    """
    hours = 0.0
    unknown: dict[str, None] = {}
    device, _ = step_times()
    arms = {run.arm.name: run.arm.optimizer for run in runs if run.source != "placebo"}
    for run in runs:
        if run.purpose in {"calibrate", "profile"}:
            continue
        seconds = training_seconds(run, arms)
        if seconds is None:
            unknown[f"{run.arm.optimizer} on {run.workload}"] = None
        else:
            hours += seconds * run.num_workers * run.gpus_per_worker / 3600
    if not device:
        return "GPU-hours: not known, as no step times were measured"
    amount = f"about {hours:,.1f}" if hours >= MIN_HOURS else f"less than {MIN_HOURS}"
    text = f"{amount} GPU-hours of training on {device}" if hours else f"GPU-hours on {device}: not known"
    named = [*list(unknown)[:MOST_NAMED], *([f"{len(unknown) - MOST_NAMED} more"] if len(unknown) > MOST_NAMED else [])]
    return text + (f", without {', '.join(named)}, whose step times are not known" if unknown else "")


def training_seconds(run: Run, arms: Mapping[str, str]) -> float | None:
    """Return the training time of a run on the GPU whose step times are known.

    Args:
        run: The plan.
        arms: The optimizer of each arm of the study, by its name: of the reference of a budget.

    Returns:
        Seconds on each of its GPUs; ``None`` where they are not known.
    """
    budget = run.budget
    if budget.kind == "wall_clock":
        return budget.amount
    step_s = step_seconds(run, run.arm.optimizer if budget.reference is None else arms[budget.reference])
    if step_s is None:
        return None
    if budget.kind == "steps":
        return budget.amount * step_s
    num_train = workloads.find(run.workload).num_train_with(run.splits)
    return None if num_train is None else budget.amount * (num_train // run.batch_size) * step_s


def step_seconds(run: Run, optimizer: str) -> float | None:
    """Return what a step costs: as measured, in proportion to the samples of a worker.

    Args:
        run: The plan.
        optimizer: Whose step.

    Returns:
        Seconds; ``None`` where it was not measured.
    """
    _, times = step_times()
    network = run.workload
    for variant, measured in SAME_NETWORK:
        network = network.replace(variant, measured)
    found = times.get((network, optimizer))
    if found is None:
        return None
    batch_size, step_s = found
    return step_s * run.batch_size / run.num_workers / batch_size


@cache
def step_times() -> tuple[str, Mapping[tuple[str, str], tuple[int, float]]]:
    """Return the measured step times of a GPU.

    Returns:
        Its name, and by workload and optimizer the batch size and the seconds a step.
    """
    rows = list(csv.DictReader(files("suite.execution").joinpath(STEPS).read_text().splitlines()))
    measured = [row for row in rows if row["step_s"]]
    times = {(row["workload"], row["optimizer"]): (int(row["batch_size"]), float(row["step_s"])) for row in measured}
    return (measured[0]["device"] if measured else ""), times


def data_needed(runs: Sequence[Run]) -> list[str]:
    """Say which data runs need, and whether they are here.

    Args:
        runs: Planned.

    Returns:
        A line for each workload.
    """
    return [_data_of(workloads.find(name)) for name in dict.fromkeys(run.workload for run in runs)]


def _data_of(spec: WorkloadSpec) -> str:
    try:
        spec.load()
    except UsageError as error:
        return f"data of {spec.name}: missing: {error}"
    return f"data of {spec.name}: here"
