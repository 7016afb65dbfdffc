"""What the person who waits sees: a line for each finished run, read from the store, and a table by arm."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from suite.config import Run
from suite.execution.live import Log, Terminal, duration, is_over, stage, table
from suite.results import INPUT_BOUND, Store

__all__ = ["Progress", "describe", "duration", "screen"]

POLL_S = 0.5
HEARTBEAT_S = 30.0
FORECAST_FRAC = 0.1  # of the work that must be done before the rest is forecast

Row = Mapping[str, Any]


def screen(say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> Terminal | Log:
    """Return what shows the table.

    Args:
        say: Prints a line.
        now: Monotonic time in seconds.

    Returns:
        A terminal if standard output is one that can move its cursor.
    """
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return Terminal(say) if is_terminal else Log(say, now)


class Progress:
    """Shows each planned run that appears in the store, and where each arm stands; a context manager around the work.

    While it is entered, whatever else is said goes through :meth:`say`, or a terminal's table would be torn.

    Args:
        planned: All runs of the work.
        finished: Rows of those that were done before, by run id; one that is to be done again is left out.
        store: Where finished runs appear.
        say: Prints a line.
        now: Monotonic time in seconds.
        shown_on: What shows lines and table; ``None`` chooses by standard output.
    """

    def __init__(
        self,
        planned: Iterable[Run],
        finished: Mapping[str, Row],
        store: Store,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        *,
        shown_on: Terminal | Log | None = None,
    ) -> None:
        self._lock = threading.RLock()  # the thread that watches, and the one that works and plans
        self._screen = shown_on or screen(say, now)
        self._rows, self._cost_here = dict(finished), 0.0
        self._followers: list[Callable[[Row], None]] = []
        self._store, self._now = store, now
        self._planned = {run.run_id: run for run in planned}
        self._stage = stage(self._planned, self._rows)
        self._seen = set(store.unfolded())
        self._started = self._spoke = now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._show()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        try:
            self.look()
        finally:
            self._screen.close(self._table())

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            self.look()

    def say(self, text: str) -> None:
        """Print a line that is no run's.

        Args:
            text: The line.
        """
        with self._lock:
            self._spoke = self._now()
            self._show(text)

    def plan(self, runs: Iterable[Run]) -> None:
        """Replace the planned runs, as where a sweep turns out to need more trials.

        Args:
            runs: All runs of the work, those that are done included.
        """
        with self._lock:
            self._planned = {run.run_id: run for run in runs}
            self._change_stage()
            self._show()

    def follow(self, follower: Callable[[Row], None]) -> None:
        """Have the row of each planned trial handed on as it appears.

        Args:
            follower: Called with rows of the table ``runs`` that were not seen before, from the thread that watches.
        """
        with self._lock:
            self._followers.append(follower)

    def look(self) -> None:
        """Report what is new in the store, or that the work goes on."""
        with self._lock:
            for attempt in [attempt for attempt in self._store.unfolded() if attempt not in self._seen]:
                self._seen.add(attempt)
                self._take(self._store.read_run(*attempt))
            if self._screen.wants_heartbeat and self._now() - self._spoke > HEARTBEAT_S:
                self._speak("still at work")

    def _take(self, row: Row) -> None:
        run = self._planned.get(row["run_id"])
        self._rows[row["run_id"]] = row
        if run is None:
            return
        self._cost_here += _cost(run)
        self._speak(describe(row))
        if run.purpose == "tune":
            for follower in self._followers:
                follower(row)
        self._change_stage()

    def _change_stage(self) -> None:
        """Go on to the table of the next stage; that of one that is over stays where it is."""
        before, self._stage = self._stage, stage(self._planned, self._rows)
        if before is None or before == self._stage:
            return
        if is_over(self._planned, self._rows, before):
            self._screen.close(table(self._planned, self._rows, before))
        self._show()

    def _speak(self, text: str) -> None:
        self._spoke = self._now()
        total, num_finished = len(self._planned), sum(run_id in self._rows for run_id in self._planned)
        cost_left = sum(_cost(run) for run_id, run in self._planned.items() if run_id not in self._rows)
        left = ""
        if cost_left and self._cost_here > FORECAST_FRAC * (self._cost_here + cost_left):
            left_s = (self._spoke - self._started) / self._cost_here * cost_left
            left = f"   about {duration(left_s)} left"
        self._show(f"[{num_finished:>{len(str(total))}}/{total}] {text}{left}")

    def _show(self, *lines: str) -> None:
        self._screen.show(lines, self._table())

    def _table(self) -> list[str]:
        return table(self._planned, self._rows, self._stage) if self._stage else []


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
    case = f" [{row['case']}]" if row.get("case") else ""
    head = f"{row['purpose']:<9} {row['arm'] + case:<18}"
    if row["purpose"] == "calibrate" and row["status"] == "completed":
        low, high = row["step_s_low"] * 1e3, row["step_s_high"] * 1e3
        return f"{head} {row['step_s'] * 1e3:.2f} ms a step (95 % interval {low:.2f}-{high:.2f})"
    if row["purpose"] == "profile" and row["status"] == "completed":
        return f"{head} parts of a step timed"
    if row["val_metric"] is None:
        return f"{head} {which:<8} {row['status']}"
    result = f"validation {row['metric_name']} {row['val_metric']:.4f} after {row['train_time_s']:.1f} s"
    return f"{head} {which:<8} {result}{_waiting(row)}"


def _waiting(row: Mapping[str, Any]) -> str:
    """Say of an input-bound run that it is one."""
    share = (row.get("data_time_s") or 0.0) / row["train_time_s"] if row["train_time_s"] else 0.0
    return f", input-bound: {share:.0%} of it waiting for data" if share > INPUT_BOUND else ""
