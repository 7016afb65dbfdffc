"""A model, its optimizer and the training step, put together the same way for every arm."""

import inspect
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from optimizers import OptimizerSpec, Refreshing
from suite.config import Run
from suite.training import seeding
from suite.training.batches import Batches
from suite.training.workers import Workers
from suite.workloads import Data, WorkloadSpec

# Buffers need no exchange in a forward: evaluations use rank 0's. torch 2.14 renamed the option that says so.
_OPTION = "forward_sync_buffers"
_IS_RENAMED = _OPTION in inspect.signature(DistributedDataParallel).parameters
_KEEP_BUFFERS: dict[str, Any] = {_OPTION if _IS_RENAMED else "broadcast_buffers": False}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A planned run with everything it names looked up.

    Args:
        run: The plan.
        workload: Its workload.
        spec: Its optimizer.
        config: Its hyperparameters, an instance of ``spec.config``.
        data: The splits that the plan asks for.
        device: Where it trains.
        weights: What the model begins with, wherever names and shapes agree; ``None``: as it is initialized.
    """

    run: Run
    workload: WorkloadSpec
    spec: OptimizerSpec
    config: Any
    data: Data
    device: torch.device
    weights: Mapping[str, Tensor] | None = None


def batches_of(task: Task, workers: Workers) -> Batches:
    """Return one worker's batches of a task.

    Args:
        task: What to train.
        workers: Who trains it.

    Returns:
        The batches of this worker.
    """
    run = task.run
    return Batches(task.data.train, seed=run.seed, batch_size=run.batch_size, workers=workers, device=task.device)


def take_over(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model the weights of another one, wherever names and shapes agree; the rest stays as it is.

    Args:
        model: Changed in place.
        weights: A state dict.

    Raises:
        ValueError: If nothing agrees.
    """
    own = model.state_dict()
    agreeing = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not agreeing:
        raise ValueError("the network has no layer in common with the one whose weights it begins with")
    model.load_state_dict(agreeing, strict=False)


class Assembly:
    """A freshly initialized model with its optimizer; a collective call where there are several workers.

    Args:
        task: What to train.
        workers: Who trains it.
    """

    def __init__(self, task: Task, workers: Workers) -> None:
        run = task.run
        seeding.seed_initialization(run.seed)
        model = task.workload.build_model().to(task.device)
        if task.weights is not None:
            take_over(model, task.weights)
        if run.sync_batchnorm and workers.num_workers > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model.train()
        self.optimizer: Optimizer = task.spec.build(self.model, task.config)
        self._base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self._task = task
        self._rank = workers.rank
        # DDP does not support double backward: such arms average their own gradients, and start from the same
        # parameters, as all workers build the model from the run's seed.
        is_wrapped = workers.num_workers > 1 and not task.spec.create_graph
        if task.spec.create_graph:  # the step breaks the cycle that torch warns of
            warnings.filterwarnings("ignore", r"Using backward\(\) with create_graph=True")
        self._forward = DistributedDataParallel(self.model, **_KEEP_BUFFERS) if is_wrapped else self.model

    @property
    def lr(self) -> float:
        """Learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def has_refreshed(self) -> bool:
        """Whether the last step refreshed the optimizer's factors."""
        return isinstance(self.optimizer, Refreshing) and self.optimizer.refreshed > 0

    @property
    def wrapper(self) -> DistributedDataParallel | None:
        """What averages the gradients over the workers, if it is not the optimizer itself."""
        return self._forward if isinstance(self._forward, DistributedDataParallel) else None

    def step(self, step: int, batch: tuple[Tensor, Tensor], lr_factor: float) -> Tensor:
        """Take one training step.

        Args:
            step: From 0.
            batch: This worker's inputs and targets.
            lr_factor: Learning rate over its peak.

        Returns:
            The loss before the step, a detached scalar on the device.
        """
        for group, lr in zip(self.optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * lr_factor
        seeding.seed_step(self._task.run.seed, step, self._rank, self._task.device)
        inputs, targets = batch
        self.optimizer.zero_grad()
        needs_graph = self._task.spec.needs_graph(self.optimizer)
        # torch's fused attention cannot be differentiated twice
        with sdpa_kernel(SDPBackend.MATH) if needs_graph else nullcontext():
            loss = self._task.workload.loss(self._forward(inputs), targets)
            loss.backward(create_graph=needs_graph)
            self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs of the model and the optimizer.

        Returns:
            Both state dicts.
        """
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint stood.

        Args:
            state: From :meth:`state_dict`.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
