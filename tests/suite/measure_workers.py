"""How far 2 workers with batch b are from 1 worker with batch 2b where they must differ: prints, tests nothing.

Run it from the root: ``python -m tests.suite.measure_workers``. The figures are in ``docs/measurements.md``.
"""

import tempfile
from pathlib import Path

import torch

from suite.training.assembly import Assembly
from suite.training.batches import Batches
from suite.training.workers import Workers
from suite.workloads import digits
from tests import gloo
from tests.suite import tiny
from tests.suite.test_distributed import CNN

BATCH_SIZE, NUM_STEPS = 64, 20
CASES = {
    "sgd, BatchNorm": (digits.SPEC, "sgd", {"lr": 0.05}),
    "adam, BatchNorm": (digits.SPEC, "adam", {"lr": 1e-3}),
    "adafisher, BatchNorm": (digits.SPEC, "adafisher", {"lr": 1e-3}),
    "adafisher, LayerNorm, float64": (CNN, "adafisher", {"lr": 1e-3}),
    "adafisher released, LayerNorm, float64": (CNN, "adafisher_released", {"lr": 1e-3}),
}


def train(case, num_workers, workers):
    """Return the first gradient and the parameters after some steps, each as one vector."""
    workload, optimizer, hyperparameters = CASES[case]
    task = tiny.task(optimizer, workload, hyperparameters, batch_size=BATCH_SIZE, num_workers=num_workers)
    assembly = Assembly(task, workers)
    batches = Batches(task.data.train, seed=0, batch_size=BATCH_SIZE, workers=workers, device=task.device)
    assembly.step(0, batches.at(0), 1.0)
    gradient = torch.cat([p.grad.flatten() for p in assembly.model.parameters()])
    for step in range(1, NUM_STEPS):
        assembly.step(step, batches.at(step), 1.0)
    return gradient, torch.cat([p.detach().flatten() for p in assembly.model.parameters()])


def work(rank, folder):
    workers = Workers.join()
    results = {case: train(case, 2, workers) for case in CASES}
    if rank == 0:
        torch.save(results, Path(folder, "two.pt"))


def main():
    with tempfile.TemporaryDirectory() as folder:
        gloo.spawn(work, folder)
        two = torch.load(Path(folder, "two.pt"))
    for case, found in two.items():
        expected = train(case, 1, Workers())
        gradient, parameters = ((a - b).norm() / b.norm() for a, b in zip(found, expected, strict=True))
        print(f"{case:<40} first gradient {gradient:.1e}, parameters after {NUM_STEPS} steps {parameters:.1e}")


if __name__ == "__main__":
    main()
