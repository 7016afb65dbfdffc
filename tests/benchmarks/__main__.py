"""Benchmarks: they print tables and judge targets, and test nothing. ``make bench``, or one by name.

Every figure, but for those of ``gpu``, is a ratio of two times measured in turn in one process, so that a machine's
drift cancels; on one thread where nothing else is said.
"""

import argparse
import importlib
import platform
from pathlib import Path

import torch

from optimizers import REGISTRY

BENCHMARKS = (
    "optimizers",
    "peers",
    "growth",
    "loop",
    "sweep",
    "reports",
)  # modules beside this one, loaded where they run
BY_NAME = ("gpu",)  # these run only if they are asked for
KNOWN = (*BENCHMARKS, *BY_NAME)
OWN_OPTIONS = {"gpu": ("seconds", "out", "workloads")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    which = f"of {', '.join(KNOWN)}; default: all but {', '.join(BY_NAME)}"
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=which)
    parser.add_argument("--arms", type=_names, default=[], help="of the table, separated by commas; default: all")
    parser.add_argument("--pairs", type=int, default=30, help="interleaved pairs a figure, at least 30 to be quoted")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cpu, but cuda for gpu")
    parser.add_argument("--seconds", type=float, default=600, help="gpu: when it ends; default: 600")
    parser.add_argument("--out", type=Path, default=Path("gpu_steps.csv"), help="gpu: the file of the table")
    parser.add_argument("--workloads", type=_names, default=[], help="gpu: of the table, separated by commas")
    options = parser.parse_args()
    for name in options.names:
        if name not in KNOWN:
            parser.error(f"no benchmark {name!r}; known: {', '.join(KNOWN)}")
    if options.pairs < 1:
        parser.error(f"pairs must be >= 1, but got {options.pairs}")
    for arm in options.arms:
        if arm not in REGISTRY:
            parser.error(f"no optimizer {arm!r}; known: {', '.join(REGISTRY)}")
    device = options.device or ("cuda" if options.names == ["gpu"] else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device")
    torch.set_num_threads(1)
    machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(f"torch {torch.__version__} on {machine}, one thread where nothing else is said\n")
    for name in options.names or BENCHMARKS:
        benchmark = importlib.import_module(f"tests.benchmarks.{name}")
        own = {option: getattr(options, option) for option in OWN_OPTIONS.get(name, ())}
        benchmark.run(options.pairs, device, options.arms, **own)
        print()


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    main()
