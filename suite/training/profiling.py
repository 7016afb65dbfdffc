"""Where the time of a step goes, and what its workers tell each other: measured alone on the machine, the arms in turn.

As in the calibration all arms take a few steps each, round after round, with levels of refresh timed apart, and with a
learning rate of 0. They do so twice, each time freshly built: undisturbed, for the percentiles of a step, and watched,
for its parts and its collectives.

A watched step is a row of marks, each of which says what begins there, so that the parts of a step add up to it:

- data: waiting for the batch;
- forward: the network and its loss, less what hooks of the optimizer do meanwhile;
- backward: the gradients, less hooks and waiting; where a method differentiates twice, with what its graph costs;
- factors: what the optimizer computes for curvature: its hooks, its refresh, roots and inverses wherever they are;
- step: the rest of the optimizer (preconditioning, momentum, the update, clearing gradients), and seeding;
- communication: what the step waits for collectives. DistributedDataParallel reduces some gradients while others are
  still being computed; that is hidden, and only what is left after the last gradient counts.

On CUDA the marks are events, read after a synchronization at the end of each watched step.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from optimizers import Refreshing, level_shares
from suite.training import memory
from suite.training.assembly import Assembly, Task, batches_of
from suite.training.calibration import MAX_ROUNDS, MIN_ROUNDS, PLAIN_STEPS, REFRESH_STEPS, blame
from suite.training.clock import TrainClock
from suite.training.timeline import PARTS, Record, Timeline, watching
from suite.training.workers import Workers

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_ROUND_OFF = 1e-9  # of summed shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What a step of an arm is made of; seconds, mean over the workers unless said otherwise.

    Args:
        step: Percentiles of the undisturbed steps of all levels, combined by frequency, by name; of the slowest worker.
        plain: Those of plain steps; empty if every step refreshes.
        refresh: Those of refresh steps, of all levels combined by frequency; empty if there are none.
        parts: Mean of each of :data:`PARTS`, all levels combined by frequency.
        plain_parts: Those of plain steps; empty as ``plain`` is.
        refresh_parts: Those of refresh steps; empty as ``refresh`` is.
        watched_step_s: Mean of a watched step, by a clock of its own.
        collectives_per_step: That a worker takes part in, mean over the steps.
        bytes_per_step: That a worker hands to them, mean over the steps.
        num_steps: Undisturbed steps timed.
        num_watched_steps: Watched ones.
    """

    step: Mapping[str, float]
    plain: Mapping[str, float]
    refresh: Mapping[str, float]
    parts: Mapping[str, float]
    plain_parts: Mapping[str, float]
    refresh_parts: Mapping[str, float]
    watched_step_s: float
    collectives_per_step: float
    bytes_per_step: float
    num_steps: int
    num_watched_steps: int

    def as_metrics(self) -> dict[str, float]:
        """Return the values by their names in the table ``metrics``."""
        named = {"step": self.step, "plain": self.plain, "refresh": self.refresh}
        parts = {"": self.parts, "plain/": self.plain_parts, "refresh/": self.refresh_parts}
        return {
            **{f"profile/{kind}{part}_s": value for kind, own in parts.items() for part, value in own.items()},
            **{f"profile/{kind}_{name}_s": value for kind, own in named.items() for name, value in own.items()},
            "profile/watched_step_s": self.watched_step_s,
            "profile/collectives_per_step": self.collectives_per_step,
            "profile/bytes_per_step": self.bytes_per_step,
        }


def profile(tasks: Sequence[Task], workers: Workers, seconds_per_arm: float) -> list[Profile]:
    """Take the steps of each arm apart; a collective call where there are several workers.

    Args:
        tasks: One an arm, all on the same workload, batch size, workers and threads.
        workers: Who trains.
        seconds_per_arm: Rounds go on until an arm had this long in each pass, if its steps are quick.

    Returns:
        In the order of the tasks.

    Raises:
        CalibrationError: If an arm cannot take a step.
    """  # noqa: DOC502
    memory.keep_freed_memory()
    timed = [_Timed(task, workers) for task in tasks]
    _take_turns(timed, workers, seconds_per_arm)
    timings = [subject.result(workers) for subject in timed]
    del timed  # one set of models at a time
    timeline = Timeline(tasks[0].device)
    watched = [_Watched(task, workers, timeline) for task in tasks]
    with watching(timeline, [subject.assembly.optimizer for subject in watched]):
        _take_turns(watched, workers, seconds_per_arm)
    return [Profile(**timing, **subject.result(workers)) for timing, subject in zip(timings, watched, strict=True)]


def _take_turns(subjects: "Sequence[_Subject]", workers: Workers, seconds_per_arm: float) -> None:
    """Let all arms take their turns until each had its time."""
    started = time.perf_counter()
    for subject in subjects:
        subject.take_turn()
        subject.forget()  # a warm-up: DistributedDataParallel arranges its buckets anew after the first step
    [first] = workers.maximum([time.perf_counter() - started])
    for _ in range(max(MIN_ROUNDS, min(MAX_ROUNDS, math.ceil(seconds_per_arm * len(subjects) / first)))):
        for subject in subjects:
            subject.take_turn()


class _Subject:
    """An arm that takes steps; how they are looked at is up to the pass."""

    def __init__(self, task: Task, workers: Workers) -> None:
        self._arm = task.run.label
        with blame(self._arm):
            self.assembly = Assembly(task, workers)
        self._batches = batches_of(task, workers)
        self._clock = TrainClock(task.device)
        self._step = 0
        optimizer = self.assembly.optimizer
        self._refreshing = optimizer if isinstance(optimizer, Refreshing) else None
        self._shares = level_shares(self._refreshing.refresh_intervals if self._refreshing else ())
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._seconds: dict[int, list[float]] = {level: [] for level in self._shares}

    def take_turn(self) -> None:
        """Take a few steps of each level that this arm has."""
        usual = min(self._shares)
        levels = [usual]  # the first finds the caches full of the arm before: not kept
        for level in self._shares:
            levels += [level] * (PLAIN_STEPS if level == usual else REFRESH_STEPS)
        self._clock.resume()
        laps = []
        for number, level in enumerate(levels):
            if self._refreshing:
                self._refreshing.schedule_refresh(level)
            with blame(self._arm):
                self._take_step(level, is_kept=number > 0)
            self._step += 1
            laps += self._clock.lap(level)
        laps += self._clock.pause()
        for level, (_, seconds) in list(zip(levels, laps, strict=True))[1:]:
            self._seconds[level].append(seconds)

    def _take_step(self, level: int, *, is_kept: bool) -> None:
        self.assembly.step(self._step, self._batches.at(self._step), 0.0)

    @property
    def _num_kept(self) -> int:
        return sum(map(len, self._seconds.values()))


class _Timed(_Subject):
    """An arm whose steps are timed and left alone."""

    def result(self, workers: Workers) -> dict[str, Any]:
        """Return the fields of :class:`Profile` that this pass measures."""
        seconds = {level: workers.maximum(own) for level, own in self._seconds.items()}
        return {
            "step": self._percentiles(seconds),
            "plain": self._percentiles({level: own for level, own in seconds.items() if level == 0}),
            "refresh": self._percentiles({level: own for level, own in seconds.items() if level > 0}),
            "num_steps": self._num_kept,
        }

    def _percentiles(self, seconds: Mapping[int, Sequence[float]]) -> dict[str, float]:
        weighted = [(each, self._shares[level] / len(own)) for level, own in seconds.items() for each in own]
        return {name: weighted_quantile(weighted, q) for name, q in QUANTILES.items()} if weighted else {}


class _Watched(_Subject):
    """An arm whose steps are taken apart."""

    def __init__(self, task: Task, workers: Workers, timeline: Timeline) -> None:
        self._timeline = timeline
        loss = timeline.followed_by("backward", task.workload.loss)
        super().__init__(replace(task, workload=replace(task.workload, loss=loss)), workers)
        optimizer, wrapper = self.assembly.optimizer, self.assembly.wrapper
        network = self.assembly.model if wrapper is None else wrapper
        network.register_forward_pre_hook(lambda *_: timeline.turn_to("forward"))
        optimizer.register_step_pre_hook(lambda *_: timeline.turn_to("step"))
        if wrapper is not None:
            wrapper.register_comm_hook((wrapper.process_group, timeline), _reduce)

    def forget(self) -> None:
        super().forget()
        self._records: dict[int, list[Record]] = {level: [] for level in self._shares}

    def _take_step(self, level: int, *, is_kept: bool) -> None:
        self._timeline.begin("data", is_refresh=level > 0)
        batch = self._batches.at(self._step)
        self._timeline.turn_to("step")
        self.assembly.step(self._step, batch, 0.0)
        record = self._timeline.end()
        if is_kept:
            self._records[level].append(record)

    def result(self, workers: Workers) -> dict[str, Any]:
        """Return the fields of :class:`Profile` that this pass measures."""
        means = {level: workers.mean(self._mean(level)) for level in self._shares}
        everything = self._combined(means)
        *_, watched_step_s, num_collectives, num_bytes = everything.tolist()
        kinds = {"parts": everything} | {
            f"{kind}_parts": self._combined({level: own for level, own in means.items() if (level > 0) == is_refresh})
            for kind, is_refresh in (("plain", False), ("refresh", True))
        }
        return {
            **{name: dict(zip(PARTS, own.tolist(), strict=False)) for name, own in kinds.items()},
            "watched_step_s": watched_step_s,
            "collectives_per_step": num_collectives,
            "bytes_per_step": num_bytes,
            "num_watched_steps": self._num_kept,
        }

    def _mean(self, level: int) -> Tensor:
        """Return the mean of each part of the steps of a level, of a step, its collectives and its bytes."""
        records = self._records[level]
        rows = [
            [*(each.seconds.get(part, 0.0) for part in PARTS), each.num_collectives, each.num_bytes] for each in records
        ]
        means = torch.tensor(rows, dtype=torch.float64).mean(0)
        step_s = torch.tensor([sum(self._seconds[level]) / len(records)], dtype=torch.float64)
        return torch.cat([means[: len(PARTS)], step_s, means[len(PARTS) :]])

    def _combined(self, means: Mapping[int, Tensor]) -> Tensor:
        """Return the means of some levels, combined by how often each comes; empty for none."""
        whole = sum(self._shares[level] for level in means)
        weighted = [own * (self._shares[level] / whole) for level, own in means.items()]
        return torch.stack(weighted).sum(0) if weighted else torch.empty(0)


def _reduce(
    state: tuple[dist.ProcessGroup, Timeline],
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[torch.Tensor]:
    """Do with a bucket of gradients what DistributedDataParallel does by itself; keeps no model alive."""
    group, timeline = state
    future: torch.futures.Future[torch.Tensor] = allreduce_hook(group, bucket)
    if bucket.is_last():  # all gradients are there: the rest of the backward pass waits for them
        timeline.turn_to("communication")
    return future


def weighted_quantile(weighted: Sequence[tuple[float, float]], q: float) -> float:
    """Return the smallest value that, with all smaller ones, has at least a share of the weight.

    Args:
        weighted: Values and their weights, > 0; at least one.
        q: The share, in (0, 1].

    Returns:
        One of the values.
    """
    whole = sum(weight for _, weight in weighted)
    reached = 0.0
    for value, weight in sorted(weighted):
        reached += weight / whole
        if reached >= q - _ROUND_OFF:
            return value
    return max(value for value, _ in weighted)
