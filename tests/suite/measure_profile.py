"""Where the time of a step on digits goes, with one worker and with two: prints rows, tests nothing.

Run it from the root, with nothing else running: ``python -m tests.suite.measure_profile``. The figures are in
``docs/timing.md``.
"""

import tempfile
import warnings

import torch

from suite.training.profiling import Profile, profile
from suite.training.timeline import PARTS
from suite.training.workers import Workers
from suite.workloads import digits
from tests import gloo
from tests.suite import tiny

ARMS = ("sgd", "adam", "adafisher", "adafisher_released", "kfac", "shampoo", "eva", "adahessian", "sgd")
BATCH_SIZE = 64
SECONDS_PER_ARM = 2.0  # in each pass


def measure(workers: Workers) -> None:
    warnings.simplefilter("ignore")  # parameters that take the identity factor
    torch.set_num_threads(1)
    plan = {"batch_size": BATCH_SIZE, "num_workers": workers.num_workers}
    found = profile([tiny.task(arm, digits.SPEC, **plan) for arm in ARMS], workers, SECONDS_PER_ARM)
    if workers.rank == 0:
        print(f"\n{workers.num_workers} worker(s)")
        for arm, each in zip(ARMS, found, strict=True):
            show(arm, each)


def show(arm: str, found: Profile) -> None:
    """Print percentiles and parts in ms, of all steps and of each kind where there are both; then what was counted."""
    kinds = {"all": (found.step, found.parts), "plain": (found.plain, found.plain_parts)}
    kinds["refresh"] = (found.refresh, found.refresh_parts)
    for kind, (percentiles, parts) in kinds.items():
        if kind == "all" or (found.plain and found.refresh):
            cells = [f"{1e3 * percentiles[name]:.2f}" for name in ("p50", "p95", "p99")]
            cells += [f"{1e3 * parts[part]:.2f}" for part in PARTS]
            watched = [f"{1e3 * found.watched_step_s:.2f}"] if kind == "all" else [""]
            counts = (
                [f"{found.collectives_per_step:.2f}", f"{found.bytes_per_step:,.0f}"] if kind == "all" else ["", ""]
            )
            print("| " + " | ".join([arm, kind, *cells, *watched, *counts]) + " |")


def work(rank: int, folder: str) -> None:
    measure(Workers.join())


def main() -> None:
    measure(Workers())
    with tempfile.TemporaryDirectory() as folder:
        gloo.spawn(work, folder)


if __name__ == "__main__":
    main()
