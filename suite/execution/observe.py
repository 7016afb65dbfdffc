"""What the diagnostics of a run are given, and what is measured of its memory once it has trained."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from suite.diagnostics import ALWAYS, MEMORY, REGISTRY, Diagnostic, Moment
from suite.training.assembly import Task
from suite.training.outcome import Outcome, Probe
from suite.training.seeding import derive

NUM_OBSERVED = 256  # training samples that a diagnostic sees


def probes_of(task: Task) -> list[Probe]:
    """Return the probes of a run: what is always measured, and what it asks for.

    Args:
        task: What is trained.

    Returns:
        In the order of the registry.
    """
    names = {*ALWAYS, *task.run.diagnostics} - {MEMORY}
    wanted = [diagnostic for name, diagnostic in REGISTRY.items() if name in names]
    batch = _observed(task) if task.run.diagnostics else (torch.empty(0), torch.empty(0))
    return [_Observer(diagnostic, task, batch) for diagnostic in wanted]


def _observed(task: Task) -> tuple[Tensor, Tensor]:
    """Return the samples that diagnostics see: the same for all arms."""
    train = task.data.train
    generator = torch.Generator().manual_seed(derive(task.run.seed, "observed"))
    inputs, targets = train.take(torch.randperm(len(train), generator=generator)[:NUM_OBSERVED])
    return inputs.to(task.device), targets.to(task.device)


class _Observer:
    """Calls a diagnostic when it is due."""

    def __init__(self, diagnostic: Diagnostic, task: Task, batch: tuple[Tensor, Tensor]) -> None:
        self._diagnostic, self._task, self._batch = diagnostic, task, batch

    def __call__(
        self, model: nn.Module, optimizer: Optimizer, *, step: int, frac: float, frac_before: float
    ) -> tuple[Mapping[str, float], Mapping[str, Tensor]]:
        at = self._diagnostic.at
        if at is not None and not any(frac_before < due <= frac for due in at):
            return {}, {}
        inputs, targets = self._batch
        moment = Moment(
            model=model,
            optimizer=optimizer,
            loss=self._task.workload.loss,
            inputs=inputs,
            targets=targets,
            seed=self._task.run.seed,
            step=step,
            frac=frac,
        )
        finding = self._diagnostic.measure(moment)
        return finding.values, finding.arrays


def after_training(task: Task, outcome: Outcome, before_bytes: int | None) -> list[dict[str, Any]]:
    """Return what a run's memory went to, where it asks for that.

    Args:
        task: What was trained.
        outcome: What the training came to.
        before_bytes: Resident memory before it.

    Returns:
        Rows of the table ``metrics``; empty for a run that does not ask.
    """
    if MEMORY not in task.run.diagnostics or outcome.status not in {"completed", "target_reached"}:
        return []
    from suite.execution.ledgers import ledger_metrics

    peak = outcome.columns["peak_rss_bytes"]
    values = {"memory/peak_rss_bytes": float(peak), **ledger_metrics(task)}
    if before_bytes is not None:
        values["memory/rss_before_bytes"] = float(before_bytes)
    return [{"step": outcome.columns["num_steps"], "name": name, "value": value} for name, value in values.items()]
