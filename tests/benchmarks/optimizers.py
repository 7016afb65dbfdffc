"""What a training step costs with each optimizer, against SGD's of the same run, and what it holds in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from optimizers import REGISTRY, Refreshing, level_shares
from tests.benchmarks.pairs import Figure, combined, often, ratios
from tests.benchmarks.training import Trainer, held_bytes, resnet18

BATCH_SIZE = 64


@dataclass(frozen=True)
class Row:
    """An arm of the table; steps of each level are timed apart and combined, for each of its intervals."""

    name: str  # in the registry
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    targets: Mapping[tuple[int, ...], float | None] = field(default_factory=dict)  # by intervals; empty: its own
    memory_target: float | None = None

    @property
    def label(self) -> str:
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.hyperparameters.items())])


ROWS = [
    Row("sgd"),  # against itself: what the method of measurement is worth
    Row("adam"),
    Row("adafactor"),
    Row("adafisher", targets={(1,): 1.05, (10,): 1.02}, memory_target=1.02),
    Row("adahessian", targets={(1,): 3.40, (10,): 1.30}),
    Row("kfac", targets={(10, 100): 1.40, (10, 10): None}),
    Row("kfac", {"fisher": "sampled"}, targets={(10, 100): None}),
    Row("shampoo", targets={(50,): 1.12}),
    Row("eva", targets={(1,): 1.10}),
]


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print the table."""
    reference = Trainer(resnet18, REGISTRY["sgd"], batch_size=BATCH_SIZE, device=device)
    known = {row.label: row for row in ROWS}
    rows = [known.get(name, Row(name)) for name in names or known]
    trainers = {row.label: _trainer(row, device) for row in rows}
    targets = {row.label: row.targets or {_intervals(trainers[row.label]): None} for row in rows}
    subjects = {
        (label, level): partial(trainers[label].step, level)
        for label, by_intervals in targets.items()
        for level in sorted(set().union(*(level_shares(intervals) for intervals in by_intervals)))
    }
    found, reference_s = ratios(subjects, reference.step, num_pairs, device)
    lines = []
    for row in rows:
        held, of_parameters = held_bytes(resnet18, REGISTRY[row.name], **row.hyperparameters)
        memory = verdict(f"{held / of_parameters:.3f}", held / of_parameters, row.memory_target)
        for intervals, target in targets[row.label].items():
            figure = combined({level: found[row.label, level] for level in level_shares(intervals)}, intervals)
            label = row.label + (f", refresh {often(intervals)}" if intervals else "")
            lines.append(f"| {label} | {verdict(str(figure), figure.high, target)} | {memory} |")
    print(f"ResNet-18, CIFAR form and shapes, {BATCH_SIZE} images, 100 classes; {num_pairs} pairs an arm")
    print(f"SGD with momentum: {Figure.of(reference_s)} s a step")
    print("| arm | step over SGD's, median (95 % interval) | held bytes over parameter bytes |\n|---|---|---|")
    print("\n".join(lines))


def _trainer(row: Row, device: str) -> Trainer:
    return Trainer(resnet18, REGISTRY[row.name], batch_size=BATCH_SIZE, device=device, **row.hyperparameters)


def _intervals(trainer: Trainer) -> tuple[int, ...]:
    return trainer.optimizer.refresh_intervals if isinstance(trainer.optimizer, Refreshing) else ()


def verdict(text: str, value: float, target: float | None) -> str:
    """Return a figure with its target and whether it is met; the upper end of an interval decides."""
    return text if target is None else f"{text}; target ≤ {target}: {'met' if value <= target else 'MISSED'}"
