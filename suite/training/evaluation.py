"""Loss and metric of a model on a split, shared out over the workers."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from suite.training.workers import Workers
from suite.workloads import Split, WorkloadSpec

EVAL_BATCH_SIZE = 512


@dataclass(frozen=True, slots=True)
class Score:
    """What a model achieves on a split.

    Args:
        loss: Mean loss over the samples.
        metric: Mean of the workload's metric over the samples.
    """

    loss: float
    metric: float


def evaluate(model: nn.Module, split: Split, workload: WorkloadSpec, workers: Workers, device: torch.device) -> Score:
    """Score a model; a collective call.

    Worker r scores the samples r, r + K, r + 2K, …; the sums are added up. Buffers are those of rank 0
    (:func:`take_buffers_of_rank_0`).

    Args:
        model: The bare module; left in training mode.
        split: Not empty.
        workload: Its loss and its metric.
        workers: The workers of the run.
        device: Where the model lives.

    Returns:
        The score, the same on all workers.
    """
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    mine = torch.arange(workers.rank, len(split), workers.num_workers)
    with torch.no_grad():
        for picked in mine.split(EVAL_BATCH_SIZE) if len(mine) else ():
            targets = split.targets[picked].to(device)
            outputs = model(split.inputs[picked].to(device))
            sums[0] += workload.loss(outputs, targets).double() * len(picked)
            sums[1] += workload.metric(outputs, targets).double().sum()
    model.train()
    loss, metric = (workers.mean(sums) * workers.num_workers / len(split)).tolist()
    return Score(loss, metric)


def take_buffers_of_rank_0(model: nn.Module, workers: Workers) -> None:
    """Give all workers the buffers of rank 0, such as BatchNorm's running statistics; a collective call.

    Training never reads them, so they need not agree between evaluations.

    Args:
        model: The bare module.
        workers: The workers of the run.
    """
    if workers.num_workers > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)  # over the default group: a buffer may be on the device
