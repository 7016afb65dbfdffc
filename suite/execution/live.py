"""The table by arm that a sweep or a race shows while it runs, as text, and how it is kept in sight."""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from os import terminal_size
from typing import Any

from suite.config import Purpose, Run

Row = Mapping[str, Any]
Say = Callable[[str], None]

STAGES: tuple[Purpose, ...] = ("tune", "race", "single")  # a calibration takes seconds, and has no result to compare
COLUMNS = ("arm", "runs", "best", "trained", "diverged", "failed", "pruned", "left")
NAME_WIDTH = 24
TITLE_WIDTH = 100
UNKNOWN = "—"
LOG_EVERY_S = 60.0

_RANKED = {"completed", "target_reached"}  # what a sweep's winner is chosen from
_FAILED = {"failed", "out_of_memory"}


def stage(planned: Mapping[str, Run], rows: Mapping[str, Row]) -> Purpose | None:
    """Return the stage that is going on.

    Args:
        planned: Runs by run id.
        rows: Of finished runs, by run id.

    Returns:
        The first one of which a run is due; the last one that is planned if none is; ``None`` if nothing is planned.
    """
    there = [name for name in STAGES if any(run.purpose == name for run in planned.values())]
    due = [name for name in there if not is_over(planned, rows, name)]
    return next(iter([*due, *there[-1:]]), None)


def is_over(planned: Mapping[str, Run], rows: Mapping[str, Row], purpose: Purpose) -> bool:
    """Tell whether nothing of a stage is due.

    Args:
        planned: Runs by run id.
        rows: Of finished runs, by run id.
        purpose: The stage.

    Returns:
        Whether each of its planned runs has a row.
    """
    return all(run_id in rows for run_id, run in planned.items() if run.purpose == purpose)


def table(planned: Mapping[str, Run], rows: Mapping[str, Row], purpose: Purpose) -> list[str]:
    """Say where each arm of a stage stands.

    Args:
        planned: Runs by run id: the hash that makes an id takes longer than all of the table.
        rows: Of finished runs, by run id; others than those planned do not count.
        purpose: The stage.

    Returns:
        Lines: for each workload its metric, then an arm a line, under one head; empty if nothing of it is planned.
    """
    runs = {run_id: run for run_id, run in planned.items() if run.purpose == purpose}
    at_once = _num_at_once([rows[run_id] for run_id in runs if run_id in rows])
    groups: dict[tuple[str, str], list[Row | None]] = {}
    for run_id, run in runs.items():
        groups.setdefault((run.workload, run.label), []).append(rows.get(run_id))
    workloads = list(dict.fromkeys(workload for workload, _ in groups))
    keys = sorted(groups, key=lambda key: workloads.index(key[0]))
    head, *body = _aligned([COLUMNS, *(_cells(key[1], groups[key], at_once) for key in keys)])
    text: list[str] = []
    for workload in workloads:
        found = [row for key in keys if key[0] == workload for row in groups[key] if row is not None]
        section = [line for key, line in zip(keys, body, strict=True) if key[0] == workload]
        text += [_title(purpose, workload, found), *([] if text else [head]), *section]
    return text


def _title(purpose: Purpose, workload: str, rows: Sequence[Row]) -> str:
    """Name the stage and the workload, and what is measured once a row tells."""
    metrics = [(row["metric_name"], _goal(row)) for row in rows if row["metric_name"] is not None]
    what = f": validation {metrics[0][0]}, {metrics[0][1]} is better" if metrics else ""
    return _cut(f"{purpose} on {workload}{what}", TITLE_WIDTH)


def _goal(row: Row) -> str:
    return "lower" if row.get("metric_goal") == "minimize" else "higher"


def _cells(label: str, group: Sequence[Row | None], at_once: float) -> tuple[str, ...]:
    rows = [row for row in group if row is not None]
    counts = [sum(row["status"] in statuses for row in rows) for statuses in ({"diverged"}, _FAILED, {"pruned"})]
    trained = duration(sum(row["train_time_s"] or 0.0 for row in rows))
    left = _left(rows, len(group) - len(rows), at_once)
    return (_cut(label, NAME_WIDTH), f"{len(rows)}/{len(group)}", _best(rows), trained, *map(str, counts), left)


def _best(rows: Sequence[Row]) -> str:
    ranked = [row for row in rows if row["status"] in _RANKED and row["val_metric"] is not None]
    if not ranked:
        return UNKNOWN
    best = (min if _goal(ranked[0]) == "lower" else max)(row["val_metric"] for row in ranked)
    return f"{best:.4f}" if abs(best) < 1e4 else f"{best:.2e}"


def _left(rows: Sequence[Row], num_due: int, at_once: float) -> str:
    """Forecast the wall time of what is due from what the finished runs took, over those that run side by side."""
    if not num_due or not rows:
        return UNKNOWN if num_due else duration(0)
    mean = sum(end - start for start, end in _spans(rows)) / len(rows)
    return duration(num_due * mean / at_once)


def _num_at_once(rows: Sequence[Row]) -> float:
    """Return how many runs were under way on average while any was: >= 1.

    Taken from the finished ones, so a break between two starts of a study does not count.
    """
    total = covered = 0.0
    reached = float("-inf")
    for start, end in sorted(_spans(rows)):
        total += end - start
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return max(1.0, total / covered) if covered else 1.0


def _spans(rows: Iterable[Row]) -> list[tuple[float, float]]:
    ends: list[tuple[datetime, datetime]] = [(row["started_at"], row["finished_at"]) for row in rows]
    return [(start.timestamp(), end.timestamp()) for start, end in ends]


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Set cells in columns, the first to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ])
        for line in lines
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


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


class Terminal:
    """Keeps a table below the lines, drawing it anew in its place.

    Args:
        say: Prints a line, or several at once, and goes to the next.
        size: Columns and lines of the window; what does not fit in is left out, as the cursor cannot go back to it.
    """

    wants_heartbeat = False  # the table is in sight

    def __init__(self, say: Say, size: Callable[[], terminal_size] = shutil.get_terminal_size) -> None:
        self._say, self._size = say, size
        self._drawn: list[str] = []

    def show(self, lines: Sequence[str], table: Sequence[str]) -> None:
        """Print lines where the table was, and the table below them.

        Args:
            lines: What is new; they stay.
            table: What takes the place of the last table.
        """
        fitting = self._fit(table)
        if not lines and fitting == self._drawn:
            return
        back = f"\x1b[{len(self._drawn)}A\x1b[J" if self._drawn else ""
        self._drawn = fitting
        if back or lines or fitting:
            self._say(back + "\n".join([*lines, *fitting]))

    def _fit(self, table: Sequence[str]) -> list[str]:
        window = self._size()
        num_shown = len(table) if len(table) < window.lines else max(1, window.lines - 2)
        rest = [f"… and {len(table) - num_shown} lines more"] if num_shown < len(table) else []
        return [_cut(line, window.columns - 1) for line in [*table[:num_shown], *rest]]

    def close(self, table: Sequence[str]) -> None:
        """Leave a last table, whole, where it is: what comes next goes below it.

        Args:
            table: The last state.
        """
        back = f"\x1b[{len(self._drawn)}A\x1b[J" if self._drawn else ""
        if back or table:
            self._say(back + "\n".join(table))
        self._drawn = []


class Log:
    """Prints lines, and now and then a table between them: for files and pipes.

    Args:
        say: Prints a line.
        now: Monotonic time in seconds.
    """

    wants_heartbeat = True

    def __init__(self, say: Say, now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now = say, now
        self._printed_at = now()
        self._printed: list[str] | None = None

    def show(self, lines: Sequence[str], table: Sequence[str]) -> None:
        """Print lines, and the table if it is another one and the last was a minute ago.

        Args:
            lines: What is new.
            table: The present state; the first one is taken for known, as nothing has been done yet.
        """
        if self._printed is None:
            self._printed = list(table)
        for line in lines:
            self._say(line)
        if lines and self._now() - self._printed_at >= LOG_EVERY_S:
            self.close(table)

    def close(self, table: Sequence[str]) -> None:
        """Print a table, unless it is the one that was printed last.

        Args:
            table: The last state.
        """
        if list(table) != self._printed:
            for line in table:
                self._say(line)
            self._printed, self._printed_at = list(table), self._now()
