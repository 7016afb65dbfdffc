"""What a step costs with the same method from another package, beside ours: pytorch_optimizer, and asdfghjkl (ASDL)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

from torch import nn

from optimizers import REGISTRY, find, level_shares
from tests.benchmarks.optimizers import BATCH_SIZE
from tests.benchmarks.pairs import combined, often, ratios
from tests.benchmarks.training import Trainer, resnet18

LR = 1e-6  # of all rows: numbers stay what they are at the start, however many steps are timed
PACKAGES = ("pytorch_optimizer", "asdfghjkl")  # what `pip install 'fisherbench[peers]'` brings


class Counted(Trainer):
    """A class of pytorch_optimizer: what a step refreshes is decided by the step's number, which its groups count."""

    def __init__(self, path: str, numbers: Mapping[int, int], *, device: str, **hyperparameters: object) -> None:
        super().__init__(resnet18, find(path), batch_size=BATCH_SIZE, device=device, lr=LR, **hyperparameters)
        self.numbers = numbers

    def step(self, level: int | None = None) -> None:
        for group in self.optimizer.param_groups:
            group["step"] = self.numbers[level or 0]
        super().step()


class Asdl(Trainer):
    """A gradient maker of ASDL: it does forward and backward, and leaves its gradients to SGD."""

    def __init__(self, name: str, numbers: Mapping[int, int], *, device: str, **options: Any) -> None:
        import asdl

        super().__init__(resnet18, REGISTRY["sgd"], batch_size=BATCH_SIZE, device=device, lr=LR)
        config = asdl.PreconditioningConfig(data_size=BATCH_SIZE, **options)
        self.maker = getattr(asdl, name)(self.model, config)
        self.numbers = numbers

    def step(self, level: int | None = None) -> None:
        self.maker.state["step"] = self.numbers[level or 0]
        self.optimizer.zero_grad()
        outputs = self.maker.setup_model_call(self.model, self.inputs)
        self.maker.setup_loss_call(nn.functional.cross_entropy, outputs, self.targets)
        self.maker.forward_and_backward()
        self.optimizer.step()


@dataclass(frozen=True)
class Row:
    """A method of ours, or a peer of it; ``numbers`` are numbers of steps of each level."""

    method: str  # in our registry
    label: str
    intervals: tuple[int, ...]
    build: Callable[..., Trainer]


def ours(method: str, intervals: tuple[int, ...], **hyperparameters: object) -> Row:
    build = partial(Trainer, resnet18, REGISTRY[method], batch_size=BATCH_SIZE, lr=LR, **hyperparameters)
    return Row(method, f"{method} (ours)", intervals, build)


def counted(method: str, name: str, intervals: tuple[int, ...], numbers: Mapping[int, int], **options: object) -> Row:
    path = f"pytorch_optimizer.{name}"
    return Row(method, path, intervals, partial(Counted, path, numbers, **options))


def asdl_row(method: str, name: str, intervals: tuple[int, ...], numbers: Mapping[int, int], **options: object) -> Row:
    return Row(method, f"asdl.{name}", intervals, partial(Asdl, name, numbers, **options))


# pytorch_optimizer's Shampoo refreshes where the number that a step begins with, plus 1, is a multiple of 50; its
# AdaHessian and ASDL where the number itself is one of their interval. ASDL averages its factors, as ours does.
AFTER, AT = {0: 50, 1: 99}, {0: 101, 1: 100}
EVERY_50 = {"preconditioning_compute_steps": 50}  # the roots; statistics are taken at every step by all
ASDL_EVERY_50 = {"preconditioner_upd_interval": 50, "curvature_upd_interval": 1}
KFAC = {"damping": 1e-3, "ema_decay": 0.05, "curvature_upd_interval": 10}

ROWS = [
    ours("shampoo", (50,), update_interval=50),
    counted("shampoo", "Shampoo", (50,), AFTER, **EVERY_50),
    counted("shampoo", "ScalableShampoo", (50,), AFTER, **EVERY_50),
    asdl_row("shampoo", "ShampooGradientMaker", (50,), AT, damping=1e-5, **ASDL_EVERY_50),
    ours("adahessian", (1,), update_interval=1),
    ours("adahessian", (10,), update_interval=10),
    counted("adahessian", "AdaHessian", (1,), AT, update_period=1),
    counted("adahessian", "AdaHessian", (10,), AT, update_period=10),
    ours("kfac", (10, 10), factor_interval=10, inverse_interval=10),
    ours("kfac", (10, 100), factor_interval=10, inverse_interval=100),
    asdl_row("kfac", "KfacGradientMaker", (10, 10), {0: 101, 2: 100}, **KFAC, preconditioner_upd_interval=10),
    asdl_row("kfac", "KfacGradientMaker", (10, 100), {0: 101, 1: 110, 2: 100}, **KFAC, preconditioner_upd_interval=100),
]


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print the table: our methods of these names, all if there are none, each with its peers behind it."""
    reference = Trainer(resnet18, REGISTRY["sgd"], batch_size=BATCH_SIZE, device=device, lr=LR)
    print(f"ResNet-18, CIFAR form and shapes, {BATCH_SIZE} images, 100 classes; {num_pairs} pairs a row")
    print(", ".join(map(_version, PACKAGES)))
    print("| method | refresh | step over SGD's, median (95 % interval) |\n|---|---|---|")
    for method in dict.fromkeys(row.method for row in ROWS):
        if method in (names or REGISTRY):
            rows = [row for row in ROWS if row.method == method]  # those of one method at a time: memory
            for row, result in zip(rows, _measure(rows, reference, num_pairs, device), strict=True):
                print(f"| {row.label} | {often(row.intervals)} | {result} |", flush=True)


def _measure(rows: Sequence[Row], reference: Trainer, num_pairs: int, device: str) -> list[str]:
    """Return what a step costs over the reference's, or why it cannot be said, row by row."""
    trainers, results = {}, {}
    for number, row in enumerate(rows):
        try:
            trainers[number] = _ready(row, device)
        except Exception as error:  # a peer may fail in any way
            results[number] = f"does not run: {type(error).__name__}: {' '.join(str(error).split())}"
    subjects = {
        (number, level): partial(trainer.step, level)
        for number, trainer in trainers.items()
        for level in level_shares(rows[number].intervals)
    }
    found, _ = ratios(subjects, reference.step, num_pairs, device)
    for number in trainers:
        intervals = rows[number].intervals
        results[number] = str(combined({level: found[number, level] for level in level_shares(intervals)}, intervals))
    return [results[number] for number in range(len(rows))]


def _ready(row: Row, device: str) -> Trainer:
    """Build what a row times, and let it take a step of each level, those first that the others need."""
    trainer = row.build(device=device)
    for level in sorted(level_shares(row.intervals), reverse=True):
        trainer.step(level)
    if not all(param.isfinite().all() for param in trainer.model.parameters()):
        raise ArithmeticError("its parameters are not finite after these steps")
    return trainer


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} is not installed (pip install 'fisherbench[peers]')"
