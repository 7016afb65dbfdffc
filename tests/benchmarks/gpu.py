"""What a step takes on a CUDA device with the paper's networks at their real sizes, and what memory it peaks at.

Batches are made up on the device, so that no data are needed; the step is the suite's own, in float32 with torch's
default settings. Steps of each level that an optimizer refreshes at are timed apart, each by itself and with the queue
kept full, as the training loop does; their medians are combined by how often each comes. A row is written as soon as it
is known; what cannot be measured is a row that says why.
"""

import copy
import csv
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from optimizers import REGISTRY, Refreshing, level_shares
from suite.config import Arm, Budget, Run
from suite.training.assembly import Assembly, Task
from suite.training.clock import TrainClock
from suite.training.workers import Workers
from suite.workloads import Data, TensorSplit, WorkloadSpec, find

WARM_UP_STEPS = 3  # of the most frequent level, after one of each: memory is allocated, kernels are chosen
FREQUENT_STEPS, RARE_STEPS = 10, 3  # timed, of the most frequent level and of the others
ARM_SECONDS = 15.0  # an arm that has taken longer times one step of each further level, not three

Batch = tuple[Tensor, Tensor]
Example = Callable[[int], Batch]


# The workloads whose steps stand for those of all that share a network, the most important first
BATCHES: dict[str, Example] = {
    name: find(name).make_full_example
    for name in (
        "cifar10_resnet18",
        "cifar10_resnet50",
        "wikitext2_gpt",
        "cifar10_swin_t",
        "tiny_imagenet_resnet50",
        "cifar10_mobilenetv3",
        "cifar10_densenet121",
        "cifar10_cct_2_3x2",
        "cifar10_focalnet",
        "cifar10_resnet101",
        "imagenet_resnet50",
        "tiny_imagenet_swin_b",
        "mnist_cnn",
        "iris",
    )
}
# The arms, by importance: those of the first tier on all networks come before those of the second
TIERS = (
    ("sgd", "adam", "adamw", "adafisher", "adafisherw", "kfac", "shampoo"),
    ("adahessian", "eva", "adafactor", "adafisher_released"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the table; without seconds, ``reason`` says why."""

    workload: str
    optimizer: str
    batch_size: int
    step_s: float | None = None
    peak_bytes: int | None = None
    device: str
    reason: str = ""


def run(num_pairs: int, device: str, names: list[str], *, seconds: float, out: Path, workloads: Sequence[str]) -> None:
    """Print the table, and write it to a file, row by row.

    Args:
        num_pairs: Not used: nothing is timed in pairs.
        device: ``cuda``, or ``cpu`` to try it out.
        names: The arms; empty: all of them, in two tiers.
        seconds: No step is begun later than this.
        out: The CSV file.
        workloads: Keys of :data:`BATCHES`; empty: all.
    """
    del num_pairs
    for name in workloads:
        if name not in BATCHES:
            raise SystemExit(f"no workload {name!r}; known: {', '.join(BATCHES)}")
    tiers = (names,) if names else TIERS
    wanted = {name: BATCHES[name] for name in workloads or BATCHES}
    deadline = time.monotonic() + seconds
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        print("| workload | optimizer | batch | step, ms | peak, GiB | |\n|---|---|---|---|---|---|")
        for row in rows(wanted, tiers, torch.device(device), deadline=deadline):
            writer.writerow(asdict(row))
            file.flush()
            print(_line(row), flush=True)


def rows(
    batches: dict[str, Example],
    tiers: Sequence[Sequence[str]],
    device: torch.device,
    *,
    deadline: float,
    batch_size: int | None = None,
) -> Iterator[Row]:
    """Yield a row for each arm on each workload, the workloads in their order within each tier of arms.

    Args:
        batches: How a batch of each workload is made up.
        tiers: Names of optimizers.
        device: Where to train.
        deadline: When ``time.monotonic()`` ends the measurements; rows that are left say so.
        batch_size: ``None``: the workloads' own.
    """
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    made: dict[str, tuple[WorkloadSpec, Batch]] = {}
    for tier in tiers:
        for name, example in batches.items():
            for optimizer in tier:
                size = batch_size or find(name).batch_size
                row = Row(workload=name, optimizer=optimizer, batch_size=size, device=on)
                step_s, peak_bytes, reason = None, None, ""
                try:
                    _check_time(deadline)
                    if name not in made:
                        made[name] = build_once(find(name)), example(size)
                    with _clean(device):
                        step_s = measure(task_of(*made[name], optimizer, device), deadline)
                        peak_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
                except Exception as error:  # whatever one arm meets, the others go on
                    reason = why(error)
                yield replace(row, step_s=step_s, peak_bytes=peak_bytes, reason=reason)


def build_once(workload: WorkloadSpec) -> WorkloadSpec:
    """Return a workload whose models are copies of one, as large ones are slow to initialize."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random embeddings cost what pretrained ones do
        model = workload.build_model()
    return replace(workload, build_model=partial(copy.deepcopy, model))


def task_of(workload: WorkloadSpec, batch: Batch, optimizer: str, device: torch.device) -> Task:
    """Return a task whose data are one batch, on the device."""
    split = TensorSplit(*(part.to(device) for part in batch))
    spec = REGISTRY[optimizer]
    plan = Run(
        study="benchmark",
        workload=workload.name,
        arm=Arm(name=optimizer, optimizer=optimizer),
        purpose="single",
        seed=0,
        budget=Budget(kind="steps", amount=1),
        batch_size=len(split),
    )
    data = Data(split, split, split)
    return Task(run=plan, workload=workload, spec=spec, config=spec.configure(), data=data, device=device)


def measure(task: Task, deadline: float) -> float:
    """Return the seconds of a step, those of all levels combined by how often each comes.

    Args:
        task: Whose data are one batch.
        deadline: See :func:`rows`.
    """
    started = time.monotonic()
    steps = Steps(task, deadline)
    levels = sorted(steps.shares, reverse=True)  # those first that the others need
    frequent = levels[-1]
    for level in [*levels, *[frequent] * WARM_UP_STEPS]:
        steps.take(level, 1)
    medians = {}
    for level in reversed(levels):
        is_late = time.monotonic() - started > ARM_SECONDS
        num_steps = FREQUENT_STEPS if level == frequent else 1 if is_late else RARE_STEPS
        medians[level] = statistics.median(steps.take(level, num_steps))
    return sum(share * medians[level] for level, share in steps.shares.items())


class Steps:
    """Training steps of the levels that are asked for, timed one by one.

    Args:
        task: Whose data are one batch.
        deadline: See :func:`rows`.
    """

    def __init__(self, task: Task, deadline: float) -> None:
        self._assembly = Assembly(task, Workers())
        self._batch = task.data.train.take(torch.arange(task.run.batch_size))
        self._clock = TrainClock(task.device)
        self._deadline = deadline
        self._step = 0
        optimizer = self._assembly.optimizer
        self._refreshing = optimizer if isinstance(optimizer, Refreshing) else None
        self.shares = level_shares(self._refreshing.refresh_intervals if self._refreshing else ())

    def take(self, level: int, num_steps: int) -> list[float]:
        """Take steps of a level, and return the seconds of each."""
        found = []
        self._clock.resume()
        for _ in range(num_steps):
            _check_time(self._deadline)
            if self._refreshing:
                self._refreshing.schedule_refresh(level)
            self._assembly.step(self._step, self._batch, 0.0)  # without moving, so that no arm diverges
            self._step += 1
            found += self._clock.lap()
        found += self._clock.pause()
        return [seconds for _, seconds in found]


def why(error: Exception) -> str:
    """Return in a line why there is no figure."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("the time of the benchmark is up")


@contextmanager
def _clean(device: torch.device) -> Iterator[None]:
    """Forget what arms before have left, and what torch warns of at every one."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _line(row: Row) -> str:
    step_ms = "" if row.step_s is None else f"{1e3 * row.step_s:.1f}"
    peak_gib = "" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f}"
    return f"| {row.workload} | {row.optimizer} | {row.batch_size} | {step_ms} | {peak_gib} | {row.reason} |"
