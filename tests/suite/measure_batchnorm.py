"""How far 2 workers with batch b are from 1 worker with batch 2b on a net with BatchNorm: prints, tests nothing.

Run it from the root: ``python -m tests.suite.measure_batchnorm``. The figures are in ``docs/measurements.md``.
"""

import tempfile
from pathlib import Path

import torch

from suite.training.assembly import Assembly
from suite.training.batches import Batches
from suite.training.workers import Workers
from suite.workloads import digits
from tests.suite import gloo, tiny

BATCH_SIZE, NUM_STEPS = 64, 20
OPTIMIZERS = {"sgd": 0.05, "adam": 1e-3, "adafisher": 1e-3}


def train(optimizer, num_workers, workers):
    """Return the first gradient and the parameters after some steps, each as one vector."""
    task = tiny.task(
        optimizer, digits.SPEC, {"lr": OPTIMIZERS[optimizer]}, batch_size=BATCH_SIZE, num_workers=num_workers
    )
    assembly = Assembly(task, workers)
    batches = Batches(task.data.train, seed=0, batch_size=BATCH_SIZE, workers=workers, device=task.device)
    gradient = None
    for step in range(NUM_STEPS):
        assembly.step(step, batches.at(step), 1.0)
        if gradient is None:
            gradient = torch.cat([p.grad.flatten() for p in assembly.model.parameters()])
    return gradient, torch.cat([p.detach().flatten() for p in assembly.model.parameters()])


def work(rank, folder):
    workers = Workers.join()
    results = {o: train(o, 2, workers) for o in OPTIMIZERS}
    if rank == 0:
        torch.save(results, Path(folder, "two.pt"))


def main():
    with tempfile.TemporaryDirectory() as folder:
        gloo.spawn(work, folder)
        two = torch.load(Path(folder, "two.pt"))
    for optimizer, found in two.items():
        expected = train(optimizer, 1, Workers())
        gradient, parameters = ((a - b).norm() / b.norm() for a, b in zip(found, expected, strict=True))
        print(f"{optimizer:<12} first gradient {gradient:.1%}, parameters after {NUM_STEPS} steps {parameters:.1%}")


if __name__ == "__main__":
    main()
