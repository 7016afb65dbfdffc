"""What a workload is: data, model, loss, metric, target."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from torch import Tensor, nn

from suite.errors import UsageError

Metric = Callable[[Tensor, Tensor], Tensor]


class Split(ABC):
    """The samples of one split, wherever they are.

    Attributes:
        num_draws: Random numbers that a sample's augmentation takes; 0 without one.
        is_decoded: Whether a sample costs so much to make that the next batch is best made ahead.
    """

    num_draws: int = 0
    is_decoded: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, picked: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return samples as the model takes them.

        Args:
            picked: Their indices, shape ``[n]``.
            draws: Uniform in [0, 1), shape ``[n, num_draws]``: what their augmentation is made of. ``None``: not
                augmented, as in evaluations.

        Returns:
            Inputs and targets, each of shape ``[n, ...]``.
        """

    @abstractmethod
    def join(self, other: Self) -> Self:
        """Return these samples and those of another split of the same kind.

        Args:
            other: Comes after these.

        Returns:
            A split that treats all of them as this one does.
        """

    def to(self, device: torch.device) -> "Split":
        """Return the split with its samples on a device, where it holds them.

        Args:
            device: Where they are wanted.

        Returns:
            The split; itself where it holds no tensors.
        """
        del device
        return self


@dataclass(frozen=True, slots=True)
class TensorSplit(Split):
    """Samples that lie whole in memory, mapped from a file (and so shared by all workers of a machine) or not.

    Args:
        inputs: Shape ``[n, ...]``.
        targets: Shape ``[n, ...]``.
        transform: Makes the model's inputs of stored ones; ``None``: they are stored as the model takes them.

    Raises:
        UsageError: If there are not as many targets as inputs.
    """

    inputs: Tensor
    targets: Tensor
    transform: "Transform | None" = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise UsageError(f"each input needs a target, but got {len(self.inputs)} and {len(self.targets)}")

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        """Random numbers that a sample's augmentation takes."""
        return self.transform.num_draws if self.transform else 0

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, picked: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return samples as the model takes them.

        Args:
            picked: Their indices, shape ``[n]``.
            draws: Uniform in [0, 1), shape ``[n, num_draws]``; ``None``: not augmented.

        Returns:
            Inputs and targets, each of shape ``[n, ...]``, on the device of the stored ones.
        """
        picked = picked.to(self.inputs.device)
        inputs = self.inputs[picked]
        if self.transform:
            inputs = self.transform(inputs, None if draws is None else draws.to(inputs.device))
        return inputs, self.targets[picked]

    def join(self, other: Self) -> Self:
        """Return these samples and those of another split; the transform is this one's.

        Args:
            other: Comes after these.

        Returns:
            A copy of both.
        """
        inputs, targets = torch.cat([self.inputs, other.inputs]), torch.cat([self.targets, other.targets])
        return type(self)(inputs, targets, self.transform)

    def to(self, device: torch.device) -> "TensorSplit":
        """Return the split with its samples on a device.

        On an accelerator only if they take at most a quarter of its memory: else each batch is sent by itself. Of all
        its memory: by what is free just then, the arms of a study would be treated differently.

        Args:
            device: Where they are wanted.

        Returns:
            The split.
        """
        if device.type == "cuda":
            size = self.inputs.nbytes + self.targets.nbytes
            if size > torch.cuda.get_device_properties(device).total_memory // 4:
                return self
        return TensorSplit(self.inputs.to(device), self.targets.to(device), self.transform)


class Transform(ABC):
    """Makes the model's inputs of stored ones; the same draws make the same inputs.

    Attributes:
        num_draws: Random numbers that it takes a sample.
    """

    num_draws: int = 0

    @abstractmethod
    def __call__(self, stored: Tensor, draws: Tensor | None) -> Tensor:
        """Transform a batch.

        Args:
            stored: Shape ``[n, ...]``.
            draws: Uniform in [0, 1), shape ``[n, num_draws]``; ``None``: nothing random is done.

        Returns:
            Shape ``[n, ...]``.
        """


@dataclass(frozen=True, slots=True)
class Data:
    """The three splits; validation selects, test reports.

    Args:
        train: Trained on.
        val: Selects hyperparameters and epochs; ``None`` with the splits of the paper.
        test: Reports.

    Raises:
        UsageError: If a split is empty.
    """

    train: Split
    val: Split | None
    test: Split

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            split = getattr(self, name)
            if split is not None and not len(split):
                raise UsageError(f"the {name} split has no samples")

    def with_splits(self, splits: str) -> "Data":
        """Return the data as a protocol wants them.

        Args:
            splits: ``standard``, or ``paper``: train on training and validation data, with no validation split.

        Returns:
            The splits.
        """
        if splits == "standard" or self.val is None:
            return self
        return Data(self.train.join(self.val), None, self.test)


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """A workload as the registry knows it; its functions are module-level, so that it can be pickled.

    Args:
        name: The name users type, lower case.
        load: Returns the three splits; the same in every process. A ``UsageError`` says what is missing.
        build_model: Returns a freshly initialized model; draws from torch's global generator.
        loss: ``loss(outputs, targets)``: mean over the samples, a scalar.
        metric: ``metric(outputs, targets)``: of each sample, shape ``[n]``; its mean is reported.
        metric_name: Name of the metric, e.g. ``accuracy``.
        metric_goal: Whether more or less is better.
        of_mean: What is reported of the mean, as perplexity is the exponential of a mean; ``None``: the mean itself.
        more_metrics: By name: further metrics, reported beside the first, as their means.
        worst_metric: What a run that learned nothing scores; stands for a diverged run where a number is needed.
        target: Validation metric that counts as solved, for the time to target.
        target_set_by: Which runs set the target, one line.
        batch_size: The usual one, over all workers.
        eval_batch_size: Samples a worker scores at once.
        example: ``example(n)``: a made-up batch of ``n`` inputs and targets, of the smallest size that the model
            takes; ``None``: the first samples of the data.
        full_example: The same of the size that the data have, where ``example`` is smaller.
        data_version: Returns what tells these data from others of the same name, e.g. a checksum, where they differ
            from machine to machine; part of a run's identity.
        num_train: Training samples (of a text: windows) of the standard splits, so that what a run costs can be told
            without its data; ``None``: unknown until they are loaded. Where samples depend on the machine, as those of
            texts do on tokenizer and Python, an estimate.
        num_train_paper: The same of the paper's splits, validation samples included.
        reference: Where data and model come from, one line.
    """

    name: str
    load: Callable[[], Data]
    build_model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Metric
    metric_name: str
    metric_goal: Literal["maximize", "minimize"] = "maximize"
    of_mean: Callable[[float], float] | None = None
    more_metrics: Mapping[str, Metric] = field(default_factory=dict)
    worst_metric: float = 0.0
    target: float
    target_set_by: str = ""
    batch_size: int
    eval_batch_size: int = 512
    example: Callable[[int], tuple[Tensor, Tensor]] | None = None
    full_example: Callable[[int], tuple[Tensor, Tensor]] | None = None
    data_version: Callable[[], str] | None = None
    num_train: int | None = None
    num_train_paper: int | None = None
    reference: str

    def num_train_with(self, splits: str) -> int | None:
        """Return how many training samples there are, as told without loading them.

        Args:
            splits: As of :meth:`Data.with_splits`.

        Returns:
            Their number; ``None`` where it is not told.
        """
        return self.num_train if splits == "standard" else self.num_train_paper

    def make_example(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Return a small batch that the model takes, made up if the workload can, else of its data.

        Args:
            num_samples: >= 1.

        Returns:
            Inputs and targets.
        """
        if self.example is not None:
            return self.example(num_samples)
        return self.load().train.take(torch.arange(num_samples))

    def make_full_example(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Return a batch of the size that the data have, made up where the workload can.

        Args:
            num_samples: >= 1.

        Returns:
            Inputs and targets.
        """
        return self.make_example(num_samples) if self.full_example is None else self.full_example(num_samples)

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
