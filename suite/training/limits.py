"""When a run stops, and how much of its budget is used: the same answer on every worker at every step."""

from typing import Protocol

import torch
import torch.distributed as dist

from suite.training.clock import TrainClock
from suite.training.workers import Workers


class Limit(Protocol):
    """Decides before each step whether there is one more."""

    def frac_used(self, step: int) -> float | None:
        """Return the fraction of the budget used, or ``None`` to stop.

        Args:
            step: Steps taken so far.

        Returns:
            In [0, 1], or ``None`` when the budget is spent.
        """
        ...


class StepLimit:
    """A number of steps: no clock, hence nothing to agree on.

    Args:
        num_steps: >= 1.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps

    def frac_used(self, step: int) -> float | None:
        """Return the fraction of the steps taken, or ``None`` when all are.

        Args:
            step: Steps taken so far.

        Returns:
            In [0, 1), or ``None``.
        """
        return step / self.num_steps if step < self.num_steps else None


class LiveLimit:
    """Seconds on rank 0's running clock.

    With one worker the clock is read before each step: at most one step too many. With more, what rank 0 reads before
    step t goes to all in one asynchronous broadcast that every worker applies before step t+1: all use the same
    learning rate and stop together, at most two steps late.

    Args:
        seconds: Of training time.
        clock: The training clock of this worker.
        workers: The workers of the run.
    """

    def __init__(self, seconds: float, clock: TrainClock, workers: Workers) -> None:
        self.seconds = seconds
        self._clock = clock
        self._workers = workers
        self._reading = torch.zeros(1, dtype=torch.float64)
        self._work: dist.Work | None = None

    def frac_used(self, step: int) -> float | None:
        """Return the fraction of the time used, or ``None`` when it is over.

        Args:
            step: Not needed; part of the protocol.

        Returns:
            In [0, 1), or ``None``; the same on all workers.
        """
        del step
        if self._workers.num_workers == 1:
            frac = self._clock.train_s / self.seconds
            return frac if frac < 1 else None
        if self._work is None:
            frac = self._clock.train_s / self.seconds  # the same on all: 0, or where the checkpoint stood
        else:
            self._work.wait()
            frac = float(self._reading)
        if frac >= 1:
            return None
        self._reading.fill_(self._clock.train_s / self.seconds)
        self._work = self._workers.start_broadcast(self._reading)
        return frac
