"""Benchmarks: they print tables and judge targets, and test nothing. ``make bench``, or one by name.

Every figure is a ratio of two times measured in turn in one process, so that a machine's drift cancels; on one thread
where nothing else is said.
"""

import argparse
import platform

import torch

from optimizers import REGISTRY
from tests.benchmarks import growth, loop, optimizers, peers, sweep

BENCHMARKS = {
    "optimizers": optimizers.run,
    "peers": peers.run,
    "growth": growth.run,
    "loop": loop.run,
    "sweep": sweep.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--arms", default="", help="optimizers of the table, separated by commas; default: all")
    parser.add_argument("--pairs", type=int, default=30, help="interleaved pairs a figure, at least 30 to be quoted")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    if options.pairs < 1:
        parser.error(f"pairs must be >= 1, but got {options.pairs}")
    arms = [arm for arm in options.arms.split(",") if arm]
    for arm in arms:
        if arm not in REGISTRY:
            parser.error(f"no optimizer {arm!r}; known: {', '.join(REGISTRY)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device")
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    print(f"torch {torch.__version__} on {device}, one thread where nothing else is said\n")
    for name in options.names or BENCHMARKS:
        BENCHMARKS[name](options.pairs, options.device, arms)
        print()


if __name__ == "__main__":
    main()
