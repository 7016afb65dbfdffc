"""What a workload is: data, model, loss, metric, target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Split:
    """Samples of one split, whole in memory.

    Args:
        inputs: Shape ``[n, ...]``.
        targets: Shape ``[n, ...]``.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Data:
    """The three splits; validation selects, test reports.

    Args:
        train: Trained on.
        val: Selects hyperparameters and epochs; ``None`` with the splits of the paper.
        test: Reports.
    """

    train: Split
    val: Split | None
    test: Split

    def with_splits(self, splits: str) -> "Data":
        """Return the data as a protocol wants them.

        Args:
            splits: ``standard``, or ``paper``: train on training and validation data, with no validation split.

        Returns:
            The splits.
        """
        if splits == "standard" or self.val is None:
            return self
        inputs = torch.cat([self.train.inputs, self.val.inputs])
        return Data(Split(inputs, torch.cat([self.train.targets, self.val.targets])), None, self.test)


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """A workload as the registry knows it; its functions are module-level, so that it can be pickled.

    Args:
        name: The name users type, lower case.
        load: Returns the three splits; the same in every process.
        build_model: Returns a freshly initialized model; draws from torch's global generator.
        loss: ``loss(outputs, targets)``: mean over the samples, a scalar.
        metric: ``metric(outputs, targets)``: the metric of each sample, shape ``[n]``; its mean is reported.
        metric_name: Name of the metric, e.g. ``accuracy``.
        metric_goal: Whether more or less is better.
        worst_metric: What a run that learned nothing scores; stands for a diverged run where a number is needed.
        target: Validation metric that counts as solved, for the time to target.
        batch_size: The usual one, over all workers.
        reference: Where the data come from, one line.
    """

    name: str
    load: Callable[[], Data]
    build_model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor]
    metric_name: str
    metric_goal: Literal["maximize", "minimize"] = "maximize"
    worst_metric: float = 0.0
    target: float
    batch_size: int
    reference: str

    def is_better(self, metric: float, than: float | None) -> bool:
        """Whether a metric beats another one.

        Args:
            metric: The new value.
            than: The value to beat; ``None`` is beaten by all.

        Returns:
            Whether it is strictly better.
        """
        if than is None:
            return True
        return metric > than if self.metric_goal == "maximize" else metric < than

    def reaches(self, metric: float) -> bool:
        """Whether a metric meets the target.

        Args:
            metric: A value of the metric.

        Returns:
            Whether it is at least as good as the target.
        """
        return metric >= self.target if self.metric_goal == "maximize" else metric <= self.target
