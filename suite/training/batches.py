"""Which samples a worker sees in which step, and how they are augmented: a pure function of (seed, step, rank)."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from suite.errors import UsageError
from suite.training.seeding import permutation, uniforms
from suite.training.workers import Workers
from suite.workloads import Split

Batch = tuple[Tensor, Tensor]


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
    takes the r-th equal part, so that all workers together see what one worker would. Samples that must be decoded are
    made a step ahead, while the model trains on those before.

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
        self._split = split.to(device)
        self._device = device
        self._seed = seed
        self._batch_size = batch_size
        self._shard = batch_size // workers.num_workers
        self._offset = workers.rank * self._shard
        self._epoch = -1
        self._order = self._draws = torch.empty(0)
        self._maker = ThreadPoolExecutor(max_workers=1) if split.is_decoded else None
        self._ahead: tuple[int, Future[Batch]] | None = None

    def at(self, step: int) -> Batch:
        """Return this worker's part of a step's batch.

        Args:
            step: From 0.

        Returns:
            Inputs and targets, each of ``batch_size / num_workers`` samples.
        """
        inputs, targets = self._make(step) if self._maker is None else self._made_ahead(step, self._maker)
        return inputs.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)

    def _make(self, step: int) -> Batch:
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            size = len(self._split)
            self._order = permutation(self._seed, epoch, size)
            self._draws = uniforms(self._seed, epoch, size, self._split.num_draws)
            self._epoch = epoch
        start = batch * self._batch_size + self._offset
        picked = self._order[start : start + self._shard]
        return self._split.take(picked, self._draws[picked])

    def _made_ahead(self, step: int, maker: ThreadPoolExecutor) -> Batch:
        """Return a batch from the maker's thread, which alone makes them, and have the next one begun."""
        ahead, future = self._ahead or (-1, None)
        batch = future if future and ahead == step else maker.submit(self._make, step)
        self._ahead = (step + 1, maker.submit(self._make, step + 1))
        return batch.result()
