"""The training clock: what is charged to the budget, and what is not.

Charged: data wait, forward, backward, optimizer step. Not charged, in accounts of their own: evaluation, checkpoints,
warm-up. The time source is injected; the clock is part of the checkpoint.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Account = Literal["eval", "checkpoint", "warmup"]


class TrainClock:
    """Adds up training time step by step.

    On the CPU a step ends when its code returns. On CUDA an event is recorded at the end of each step and read one step
    later, so that the queue is never drained between evaluations; ``pause`` synchronizes.

    Args:
        device: Where the model trains.
        now: Monotonic time in seconds.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self._is_cuda = device.type == "cuda"
        self._last: Any = None  # seconds on the CPU, an event on CUDA
        self._open: list[tuple[object, Any, Any]] = []
        self.train_s = 0.0
        self.data_s = 0.0
        self.spent: dict[Account, float] = {"eval": 0.0, "checkpoint": 0.0, "warmup": 0.0}

    def resume(self) -> None:
        """Start charging; the next ``lap`` counts from here."""
        self._last = self._mark()

    def lap(self, note: object = None) -> list[tuple[object, float]]:
        """End a step.

        Args:
            note: Returned beside the step's seconds.

        Returns:
            Notes and seconds of the steps now known to have ended: this one on the CPU, the one before on CUDA.
        """
        mark, last = self._mark(), self._last
        self._last = mark
        self._open.append((note, last, mark))
        return [self._read() for _ in range(len(self._open) - self._is_cuda)]

    def pause(self) -> list[tuple[object, float]]:
        """Stop charging, with everything that was queued done.

        Returns:
            As :meth:`lap`, for the steps that were still open.
        """
        if self._is_cuda:
            torch.cuda.synchronize()
        self._last = None
        return [self._read() for _ in range(len(self._open))]

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Record, within the training time, how long the data took."""
        start = self.now()
        yield
        self.data_s += self.now() - start

    @contextmanager
    def account(self, name: Account) -> Iterator[None]:
        """Charge a block to an account that is not the budget's; the clock is paused.

        Args:
            name: The account.
        """
        start = self.now()
        yield
        if self._is_cuda:
            torch.cuda.synchronize()
        self.spent[name] += self.now() - start

    def state_dict(self) -> dict[str, float]:
        """Return the accounts, for a checkpoint.

        Returns:
            Seconds by account.
        """
        return {"train": self.train_s, "data": self.data_s, **dict(self.spent.items())}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on where a checkpoint stood.

        Args:
            state: From :meth:`state_dict`.
        """
        self.train_s, self.data_s = state["train"], state["data"]
        self.spent = {name: state[name] for name in self.spent}

    def _mark(self) -> Any:  # noqa: ANN401
        if not self._is_cuda:
            return self.now()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read(self) -> tuple[object, float]:
        note, start, end = self._open.pop(0)
        if self._is_cuda:
            end.synchronize()
            seconds = start.elapsed_time(end) / 1e3
        else:
            seconds = end - start
        self.train_s += seconds
        return note, seconds
