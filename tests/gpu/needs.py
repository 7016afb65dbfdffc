"""What every test here needs, and the task that most of them train."""

from dataclasses import replace

import pytest
import torch

import optimizers
from suite.config import Budget
from suite.training.assembly import Assembly, Task
from suite.training.workers import Workers
from suite.workloads import Data, TensorSplit, digits
from tests.suite import tiny

BATCH_SIZE = 64

cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    pytest.mark.filterwarnings(r"ignore:Using backward\(\) with create_graph=True"),
]


def task_of(optimizer, device, *, dtype=torch.float32, num_samples=BATCH_SIZE, budget=None, **hyperparameters):
    """Return a task on the first digits, or on all of them, with the digits' network."""
    data, spec = digits.load(), optimizers.REGISTRY[optimizer]
    if num_samples is not None:
        inputs, targets = data.train.take(torch.arange(num_samples))
        split = TensorSplit(inputs.to(dtype), targets).to(device)
        data = Data(split, split, split)
    plan = tiny.plan(
        workload="digits",
        arm=tiny.arm(optimizer),
        batch_size=BATCH_SIZE,
        budget=budget or Budget(kind="steps", amount=1),
    )
    workload = replace(digits.SPEC, build_model=lambda: digits.build_model().to(dtype))
    config = spec.configure(**hyperparameters)
    return Task(run=plan, workload=workload, spec=spec, config=config, data=data, device=device)


def assembled(optimizer, device, **options):
    """Return an assembly, and a function that takes its n-th step and returns the loss before it."""
    task = task_of(optimizer, device, **options)
    assembly = Assembly(task, Workers())
    batch = task.data.train.take(torch.arange(BATCH_SIZE))
    return assembly, lambda number: assembly.step(number, batch, 1.0)
