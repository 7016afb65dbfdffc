"""What the person who waits sees: a line for each finished run, read from the store."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from suite.config import Run
from suite.results import INPUT_BOUND, Store

POLL_S = 0.5
HEARTBEAT_S = 30.0
FORECAST_FRAC = 0.1  # of the work that must be done before the rest is forecast


class Progress:
    """Prints a line for each planned run that appears in the store; a context manager around the work.

    Args:
        planned: All runs of the stage.
        finished: Ids of those that were done before.
        store: Where finished runs appear.
        say: Prints a line.
        now: Monotonic time in seconds.
    """

    def __init__(
        self,
        planned: Sequence[Run],
        finished: Collection[str],
        store: Store,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cost = {run.run_id: _cost(run) for run in planned}
        self._num_finished, self._cost_here = sum(run_id in finished for run_id in self._cost), 0.0
        self._cost_left = sum(cost for run_id, cost in self._cost.items() if run_id not in finished)
        self._store, self._say, self._now = store, say, now
        self._seen = set(store.unfolded())
        self._started = self._spoke = now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            self.look()

    def look(self) -> None:
        """Report what is new in the store, or that the work goes on."""
        for attempt in [attempt for attempt in self._store.unfolded() if attempt not in self._seen]:
            self._seen.add(attempt)
            row = self._store.read_run(*attempt)
            cost = self._cost.get(row["run_id"])
            if cost is not None:
                self._num_finished += 1
                self._cost_here += cost
                self._cost_left -= cost
                self._speak(describe(row))
        if self._now() - self._spoke > HEARTBEAT_S:
            self._speak("still at work")

    def _speak(self, text: str) -> None:
        self._spoke = self._now()
        total = len(self._cost)
        left = ""
        if self._cost_left and self._cost_here > FORECAST_FRAC * (self._cost_here + self._cost_left):
            left_s = (self._spoke - self._started) / self._cost_here * self._cost_left
            left = f"   about {duration(left_s)} left"
        self._say(f"[{self._num_finished:>{len(str(total))}}/{total}] {text}{left}")


def _cost(run: Run) -> float:
    """Return how much of the wait a run is likely to be: its seconds where its budget is some, else 1."""
    return run.budget.amount if run.budget.kind == "wall_clock" else 1.0


def describe(row: Mapping[str, Any]) -> str:
    """Return what a finished run came to, in one line.

    Args:
        row: Of the table ``runs``.

    Returns:
        Purpose, arm, what tells it from its like, and the result.
    """
    which = f"trial {row['trial']}" if row["trial"] is not None else f"seed {row['seed']}"
    head = f"{row['purpose']:<9} {row['arm']:<18}"
    if row["purpose"] == "calibrate" and row["status"] == "completed":
        low, high = row["step_s_low"] * 1e3, row["step_s_high"] * 1e3
        return f"{head} {row['step_s'] * 1e3:.2f} ms a step (95 % interval {low:.2f}-{high:.2f})"
    if row["val_metric"] is None:
        return f"{head} {which:<8} {row['status']}"
    result = f"validation {row['metric_name']} {row['val_metric']:.4f} after {row['train_time_s']:.1f} s"
    return f"{head} {which:<8} {result}{_waiting(row)}"


def _waiting(row: Mapping[str, Any]) -> str:
    """Say of an input-bound run that it is one."""
    share = (row.get("data_time_s") or 0.0) / row["train_time_s"] if row["train_time_s"] else 0.0
    return f", input-bound: {share:.0%} of it waiting for data" if share > INPUT_BOUND else ""


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    Args:
        seconds: >= 0.

    Returns:
        In seconds below 90, else in minutes, else in hours.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
