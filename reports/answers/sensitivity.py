"""What each arm reaches when one setting moves and all others stay (Figs 6, 23A): accuracy against that setting."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import stats
from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.frames import Frames, metric_of, race_runs

BASE = "base"  # name of the case that the others move one setting of
AXES = ("batch_size", "lr", "damping", "gamma")

COLUMNS = (
    text("workload", "arm", "axis", "case")
    | numbers("value")
    | counts("num_runs", "num_lost")
    | numbers("mean_test_metric", "std_test_metric", "diverged_share")
)


@dataclass(frozen=True, slots=True)
class Line:
    """The runs of an arm along one axis, the base case among them.

    Args:
        workload: Of the runs.
        arm: Their arm.
        axis: A column of ``runs``, or ``seed``.
        runs: As :func:`reports.frames.race_runs` marks them, with the column ``value``: where on the axis each is.
        sign: +1 if higher is better, -1 if lower is.
    """

    workload: str
    arm: str
    axis: str
    runs: pd.DataFrame
    sign: int

    @property
    def base(self) -> pd.DataFrame:
        """The runs of the base case."""
        return self.runs[self.runs["case"] == BASE]

    def points(self) -> Iterator[tuple[float, pd.DataFrame]]:
        """Yield the runs by their place on the axis, ascending."""
        for value in sorted(self.runs["value"].unique()):
            yield float(value), self.runs[self.runs["value"] == value]


def lines(frames: Frames) -> Iterator[Line]:
    """Yield the axes along which each arm was moved from its base case, then its seeds there.

    Args:
        frames: Prepared frames of a whole study.

    Yields:
        Arm by arm; nothing where no case is called ``base``.
    """
    runs = race_runs(frames)
    runs = runs[runs["source"] != "control"]
    for (workload, arm), own in runs.groupby(["workload", "arm"]):
        base = own[own["case"] == BASE]
        if base.empty:
            continue
        sign = metric_of(frames.only(own)).sign
        axis_of = {str(case): _axis(rows, base) for case, rows in own.groupby("case")}
        for axis in AXES:
            cases = [case for case, moved in axis_of.items() if moved == axis]
            if cases:
                along = own[own["case"].isin((BASE, *cases))]
                values = along.groupby("case")[axis].transform("median")  # of seeds alike
                yield Line(str(workload), str(arm), axis, along.assign(value=values), sign)
        yield Line(str(workload), str(arm), "seed", base.assign(value=base["seed"]), sign)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm, axis and value on it."""
    return frame_of((row for line in lines(frames) for row in _rows(line)), COLUMNS)


def _axis(runs: pd.DataFrame, base: pd.DataFrame) -> str | None:
    """Return which setting of a case differs from the base case: the first of several that move together."""
    for axis in AXES:
        here, there = runs[axis].median(), base[axis].median()
        if np.isfinite(here) and np.isfinite(there) and not np.isclose(here, there, rtol=1e-9, atol=0.0):
            return axis
    return None


def _rows(line: Line) -> Iterator[dict[str, Any]]:
    """Yield the rows of an axis."""
    for value, own in line.points():
        found = stats.estimate(own["test_metric"])
        yield {
            "workload": line.workload,
            "arm": line.arm,
            "axis": line.axis,
            "case": own["case"].iloc[0],
            "value": value,
            "num_runs": len(own),
            "num_lost": own["is_lost"].sum(),
            "mean_test_metric": found.mean,
            "std_test_metric": found.std,
            "diverged_share": stats.divergence_rate(list(own["status"])),
        }


ANSWER = Answer(
    name="sensitivity",
    title="Sensitivity",
    question="What does each arm reach as one setting moves from its base value?",
    table=table,
    note="One setting moves from the case called base, all others stay; an axis is found from what differs, the first "
    "of several that move together in the order batch size, lr, damping, gamma. Mean and standard deviation over the "
    "seeds that finished; diverged_share: of the runs that did not fail.",
)
