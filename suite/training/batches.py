"""Which samples a worker sees in which step: a pure function of (seed, step, rank)."""

import torch
from torch import Tensor

from suite.errors import UsageError
from suite.training.seeding import permutation
from suite.training.workers import Workers
from suite.workloads import Split


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return the number of whole batches in a split.

    Args:
        split: The training split.
        batch_size: Samples a step over all workers.

    Returns:
        At least 1.

    Raises:
        UsageError: If the split holds less than one batch.
    """
    if batch_size > len(split):
        raise UsageError(f"batch_size must be <= the {len(split)} training samples, but got {batch_size}")
    return len(split) // batch_size


class Batches:
    """The training batches of one worker.

    An epoch visits a fresh permutation of the samples; the last, incomplete batch is dropped. Of each batch, worker r
    takes the r-th equal part, so that all workers together see what one worker would.

    Args:
        split: The training split.
        seed: Of the run.
        batch_size: Samples a step over all workers.
        workers: The workers of the run.
        device: Where the batches are wanted.

    Raises:
        UsageError: If the split holds less than one batch.
    """  # noqa: DOC502

    def __init__(self, split: Split, *, seed: int, batch_size: int, workers: Workers, device: torch.device) -> None:
        self.steps_per_epoch = steps_per_epoch(split, batch_size)
        self._inputs, self._targets = split.inputs.to(device), split.targets.to(device)
        self._seed = seed
        self._batch_size = batch_size
        self._shard = batch_size // workers.num_workers
        self._offset = workers.rank * self._shard
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this worker's part of a step's batch.

        Args:
            step: From 0.

        Returns:
            Inputs and targets, each of ``batch_size / num_workers`` samples.
        """
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = permutation(self._seed, epoch, len(self._inputs)).to(self._inputs.device)
            self._epoch = epoch
        start = batch * self._batch_size + self._offset
        picked = self._order[start : start + self._shard]
        return self._inputs[picked], self._targets[picked]
