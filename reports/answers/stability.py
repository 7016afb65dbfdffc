"""How steady each arm is along each axis, in one number each: basin width, worst over best, spread over seeds."""

import math
from typing import Any

import pandas as pd

from reports import stats
from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.answers.sensitivity import Line, lines
from reports.frames import Frames

COLUMNS = (
    text("workload", "arm", "axis")
    | counts("num_values")
    | numbers("lowest_value", "highest_value", "basin_width_decades", "best_value")
    | numbers("best_test_metric", "worst_test_metric", "worst_over_best", "diverged_share", "std_over_seeds_at_base")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm and axis."""
    return frame_of((_row(line) for line in lines(frames)), COLUMNS)


def _row(line: Line) -> dict[str, Any]:
    """Return the scalars of an axis."""
    # a value at which a run was lost is not in the basin, and neither best nor worst
    points = {value: _score(own) for value, own in line.points()}
    known = {value: score for value, score in points.items() if math.isfinite(score)}
    best = max(known, key=lambda value: line.sign * known[value], default=math.nan)
    worst = min(known.values(), key=lambda score: line.sign * score, default=math.nan)
    basin = stats.basin_width([*points], [*points.values()], sign=line.sign)
    return {
        "workload": line.workload,
        "arm": line.arm,
        "axis": line.axis,
        "num_values": len(points),
        "lowest_value": min(points),
        "highest_value": max(points),
        "basin_width_decades": math.nan if line.axis == "seed" else basin,
        "best_value": best,
        "best_test_metric": known.get(best, math.nan),
        "worst_test_metric": worst,
        "worst_over_best": worst / known[best] if known and known[best] else math.nan,
        "diverged_share": stats.divergence_rate(list(line.runs["status"])),
        "std_over_seeds_at_base": stats.estimate(line.base["test_metric"]).std,
    }


def _score(runs: pd.DataFrame) -> float:
    """Return the mean of the runs at one value, NaN if one of them was lost."""
    return math.nan if runs["is_lost"].any() else stats.estimate(runs["test_metric"]).mean


ANSWER = Answer(
    name="stability",
    title="Stability",
    question="Over how wide a range of each setting does an arm train, and how much does the seed move it?",
    table=table,
    note="basin_width_decades: between the lowest and the highest value whose mean is within 2 % of the best, a lower "
    "bound with few values. Best and worst: means over the seeds of the values at which no run was lost; "
    "diverged_share says how many were. A width of 0 is one good value; axis seed: single runs of the base case.",
)
