"""What a training step costs with each optimizer, against SGD's of the same run, and what it holds in memory."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from optimizers import REGISTRY, Refreshing
from tests.benchmarks.pairs import Figure, ratios
from tests.benchmarks.training import Trainer, held_bytes, resnet18

BATCH_SIZE = 64


@dataclass(frozen=True)
class Row:
    """An arm of the table; with several intervals, its plain and refresh steps are timed apart and combined."""

    name: str  # in the registry
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    intervals: tuple[int, ...] = ()  # empty: the arm's own
    targets: dict[int, float] = field(default_factory=dict)  # by interval
    memory_target: float | None = None


ROWS = [
    Row("sgd"),  # against itself: what the method of measurement is worth
    Row("adam"),
    Row("adafactor"),
    Row("adafisher", intervals=(1, 10), targets={1: 1.05, 10: 1.02}, memory_target=1.02),
]


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print the table."""
    reference = Trainer(resnet18, REGISTRY["sgd"], batch_size=BATCH_SIZE, device=device)
    subjects, lines = {}, []
    known = {row.name: row for row in ROWS}
    rows = [known.get(name, Row(name)) for name in names or known]
    for row in rows:
        trainer = Trainer(resnet18, REGISTRY[row.name], batch_size=BATCH_SIZE, device=device, **row.hyperparameters)
        is_refreshing = isinstance(trainer.optimizer, Refreshing)
        for is_refresh in (True, False) if is_refreshing else (False,):
            subjects[row.name, is_refresh] = partial(trainer.step, is_refresh)
    found, reference_s = ratios(subjects, reference.step, num_pairs, device)
    for row in rows:
        held, of_parameters = held_bytes(resnet18, REGISTRY[row.name], **row.hyperparameters)
        memory = verdict(f"{held / of_parameters:.3f}", held / of_parameters, row.memory_target)
        plain, refresh = found[row.name, False], found.get((row.name, True))
        for interval in row.intervals or (None,):
            share = 1 / interval if interval else 0.0
            values = [(1 - share) * p + share * r for p, r in zip(plain, refresh or plain, strict=True)]
            often = "step" if interval == 1 else f"{interval} steps"
            label = row.name + (f", refresh every {often}" if interval else "")
            figure = Figure.of(values)
            lines.append(f"| {label} | {verdict(str(figure), figure.high, row.targets.get(interval))} | {memory} |")
    print(f"ResNet-18, CIFAR form and shapes, {BATCH_SIZE} images, 100 classes; {num_pairs} pairs an arm")
    print(f"SGD with momentum: {Figure.of(reference_s)} s a step")
    print("| arm | step over SGD's, median (95 % interval) | held bytes over parameter bytes |\n|---|---|---|")
    print("\n".join(lines))


def verdict(text: str, value: float, target: float | None) -> str:
    """Return a figure with its target and whether it is met; the upper end of an interval decides."""
    return text if target is None else f"{text}; target ≤ {target}: {'met' if value <= target else 'MISSED'}"
