"""Loss and metrics of a model on a split, shared out over the workers."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from suite.training.workers import Workers
from suite.workloads import Split, WorkloadSpec


@dataclass(frozen=True, slots=True)
class Score:
    """What a model achieves on a split.

    Args:
        loss: Mean loss over the samples.
        metric: The workload's metric.
        more: Its further metrics, by name.
    """

    loss: float
    metric: float
    more: dict[str, float]


def evaluate(model: nn.Module, split: Split, workload: WorkloadSpec, workers: Workers, device: torch.device) -> Score:
    """Score a model; a collective call.

    Worker r scores the samples r, r + K, r + 2K, …; the sums are added up. Buffers are those of rank 0
    (:func:`take_buffers_of_rank_0`).

    Args:
        model: The bare module; left in training mode.
        split: Not empty.
        workload: Its loss and its metrics.
        workers: The workers of the run.
        device: Where the model lives.

    Returns:
        The score, the same on all workers.
    """
    model.eval()
    metrics = [workload.metric, *workload.more_metrics.values()]
    sums = torch.zeros(1 + len(metrics), dtype=torch.float64, device=device)
    mine = torch.arange(len(split))[workers.rank :: workers.num_workers]
    with torch.no_grad():
        for picked in mine.split(workload.eval_batch_size) if len(mine) else ():
            inputs, targets = (part.to(device) for part in split.take(picked))
            outputs = model(inputs)
            sums[0] += workload.loss(outputs, targets).double() * len(picked)
            for place, metric in enumerate(metrics, start=1):
                sums[place] += metric(outputs, targets).double().sum()
    model.train()
    loss, mean, *more = (workers.mean(sums) * workers.num_workers / len(split)).tolist()
    reported = workload.of_mean(mean) if workload.of_mean else mean
    return Score(loss, reported, dict(zip(workload.more_metrics, more, strict=True)))


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
