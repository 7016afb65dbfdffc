"""The memory of a step: the exact ledger of a run beside what is predicted for it without the hardware."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor

from suite import workloads
from suite.config import Arm
from suite.diagnostics import ledger
from suite.diagnostics.prediction import Prediction, largest_batch, predict
from suite.errors import UsageError, known
from suite.execution.job import configure_arm
from suite.training.assembly import Assembly, Task, batches_of
from suite.training.workers import Workers

CARD = re.compile(r"(?P<amount>\d+(?:\.\d*)?)\s*(?P<unit>[MG]i?B)")
UNITS = {"MB": 1e6, "GB": 1e9, "MiB": 2.0**20, "GiB": 2.0**30}
STEP = 32  # samples by which the batches that are tried differ
DEVICES = ("cuda", "cpu")


def ledger_metrics(task: Task) -> dict[str, float]:
    """Return the memory of a run's steps by the names of the table ``metrics``, measured and predicted.

    Args:
        task: What was trained; steps are taken on a throw-away copy.

    Returns:
        ``memory/<category>_bytes`` and ``predicted_memory/<category>_bytes``.
    """
    workers = Workers()
    assembly = Assembly(task, workers)
    batch = batches_of(task, workers).at(0)
    found = ledger.measure(
        assembly.model, assembly.optimizer, lambda: assembly.step(0, batch, 0.0), levels=None, batch=batch
    )
    return {**found.as_metrics(), **_predicted(task, *batch).as_metrics()}


def _predicted(task: Task, inputs: Tensor, targets: Tensor) -> Prediction:
    workload, spec = task.workload, task.spec
    return predict(
        workload.build_model,
        lambda model: spec.build(model, task.config),
        workload.loss,
        inputs,
        targets,
        needs_graph=spec.needs_graph,
        device="cuda" if task.device.type == "cuda" else "cpu",
    )


def foresee(
    workload: str, optimizer: str, given: Mapping[str, Any], batch_size: int | None, device: str, card: str | None
) -> list[str]:
    """Say what a training step would need on a device that need not be here.

    Args:
        workload: Its name; its data need not be here where it can make up a batch.
        optimizer: Its name.
        given: Hyperparameters.
        batch_size: Samples a step; ``None``: as usual.
        device: ``cuda`` or ``cpu``.
        card: Memory of a card, e.g. ``80GiB``; ``None``: no largest batch is looked for.

    Returns:
        Lines: bytes by category, and the largest batch that fits.

    Raises:
        UsageError: If something is unknown, or cannot be predicted.
    """
    spec = workloads.find(workload)
    method, config = configure_arm(Arm(name=optimizer, optimizer=optimizer, fixed=dict(given)))
    if device not in DEVICES:
        raise UsageError(known("device", device, DEVICES))
    capacity = _bytes(card) if card else None
    on: Literal["cpu", "cuda"] = "cuda" if device == "cuda" else "cpu"
    [inputs, targets] = (part[:1] for part in spec.make_full_example(1))

    def at(size: int) -> Prediction:
        batch = (torch.empty(size, *part.shape[1:], dtype=part.dtype, device="meta") for part in (inputs, targets))
        return predict(
            spec.build_model,
            lambda model: method.build(model, config),
            spec.loss,
            *batch,
            needs_graph=method.needs_graph,
            device=on,
        )

    size = spec.batch_size if batch_size is None else batch_size
    if size < 1:
        raise UsageError(f"batch_size must be >= 1, but got {size}")
    try:
        found = at(size)
        lines = [f"{spec.name} with {method.name}, batch {size}, on {on}: {_told(found.peak)} at the peak of a step"]
        names = [field.name for field in fields(found) if field.name != "by_level"]
        lines += [f"  {name.replace('_', ' '):<16}{_told(getattr(found, name)):>12}" for name in names]
        if capacity is not None:
            largest = largest_batch(lambda each: at(each).peak, capacity, multiple_of=STEP)
            lines.append(f"largest batch that fits {card}, in steps of {STEP}: {largest}")
    except ValueError as error:
        raise UsageError(f"nothing can be predicted for {optimizer!r} on {workload!r}: {error}") from error
    return [*lines, "without what the driver, libraries' workspaces and gaps between blocks take: docs/memory.md"]


def _bytes(card: str) -> int:
    match = CARD.fullmatch(card.strip())
    if match is None:
        raise UsageError(f"the memory of a card reads like 80GiB or 24GB, but got {card!r}")
    return int(float(match["amount"]) * UNITS[match["unit"]])


def _told(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.2f} MiB"
