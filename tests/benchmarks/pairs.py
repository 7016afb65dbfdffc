"""How much longer one thing takes than another: interleaved pairs in one process, and the interval of their ratio."""

import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from optimizers import level_shares
from suite.training.calibration import median_interval

WARM_UP = 2  # turns of each subject that are not kept: memory is allocated, kernels are chosen


@dataclass(frozen=True)
class Figure:
    """A median with its 95 % interval (order statistics, no distribution assumed)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        return cls(statistics.median(values), *median_interval(values))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}–{self.high:.3f})"


def combined(found: Mapping[int, Sequence[float]], intervals: Sequence[int]) -> Figure:
    """Return what a step costs on average, from the ratios of steps of each level and how often each comes."""
    shares = level_shares(intervals)
    rounds = zip(*(found[level] for level in shares), strict=True)
    return Figure.of([sum(map(operator.mul, shares.values(), each)) for each in rounds])


def often(intervals: Sequence[int]) -> str:
    """Return intervals as words."""
    return ", ".join("every step" if n == 1 else f"every {n} steps" for n in intervals)


def seconds(work: Callable[[], None], device: str) -> float:
    """Return what a piece of work takes, on CUDA until its last kernel has ended."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratios(
    subjects: Mapping[str, Callable[[], None]],
    reference: Callable[[], None],
    num_pairs: int,
    device: str = "cpu",
) -> tuple[dict[str, list[float]], list[float]]:
    """Return by subject its time over the reference's, one ratio a pair, and the seconds of the reference.

    The two of a pair follow each other at once, each first in every other pair; subjects take turns.
    """
    for work in (reference, *subjects.values()):
        for _ in range(WARM_UP):
            work()
    found: dict[str, list[float]] = {name: [] for name in subjects}
    reference_s = []
    for turn in range(num_pairs):
        for name, work in subjects.items():
            order = (reference, work) if turn % 2 else (work, reference)
            times = {each: seconds(each, device) for each in order}
            found[name].append(times[work] / times[reference])
            reference_s.append(times[reference])
    return found, reference_s
