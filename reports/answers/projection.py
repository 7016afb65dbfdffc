"""What a model fitted to the measured steps says of more workers than there are, and how wrong it is."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.frames import Frames, remembered
from reports.projection import Model, fit, projections, stops
from reports.scaling import Key

COLUMNS = (
    text("workload", "arm")
    | counts("num_threads", "batch_size", "num_workers")
    | text("kind")
    | numbers("measured_step_s", "model_step_s", "model_low_step_s", "model_high_step_s", "relative_error")
    | text("identified")
    | numbers("speedup", "efficiency")
    | text("saturated_at_workers", "inefficient_at_workers")
)


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row a measured step and a row a projected one, by arm and batch size."""
    model = fit(frames)
    rows = [*_measured(model), *_projected(model)] if model.points else []
    ordered = sorted(rows, key=lambda row: (row["workload"], row["arm"], row["num_threads"], row["batch_size"]))
    return frame_of(ordered, COLUMNS)


def _measured(model: Model) -> Iterator[dict[str, Any]]:
    """Yield the points that the model was fitted to."""
    for point, error in zip(model.points, model.errors, strict=True):
        yield {
            **_place(point.key),
            "batch_size": point.batch_size,
            "num_workers": point.num_workers,
            "kind": "measured",
            "measured_step_s": point.mean,
            "model_step_s": point.mean * (1 + error),
            "relative_error": error,
        }


def _projected(model: Model) -> Iterator[dict[str, Any]]:
    """Yield what the model says of more workers, and where the arm stops paying."""
    ends = {(stop.key, stop.batch_size): stop for stop in stops(model)}
    for row in projections(model):
        stop = ends[row.key, row.batch_size]
        yield {
            **_place(row.key),
            "batch_size": row.batch_size,
            "num_workers": row.num_workers,
            "kind": "projected",
            "model_step_s": row.seconds.value,
            "model_low_step_s": row.seconds.low,
            "model_high_step_s": row.seconds.high,
            "identified": "yes" if row.seconds.is_identified else "no",
            "speedup": row.speedup,
            "efficiency": row.efficiency,
            "saturated_at_workers": stop.saturated,
            "inefficient_at_workers": stop.inefficient,
        }


def _place(key: Key) -> dict[str, Any]:
    """Return the cells of an arm."""
    return dict(zip(("workload", "arm", "num_threads"), key, strict=True))


ANSWER = Answer(
    name="projection",
    title="Scaling beyond what was measured",
    question="What would a step take on more workers, and when does an arm stop paying?",
    table=table,
    note="A model of computing and of a ring of messages, fitted to the measured rows; relative_error is its error "
    "there. Projected rows are under strong scaling: the best fit, and the range over all that agrees with the "
    "measurements within their errors; where that range is wide the figure is not identified. saturated: the fewest "
    "workers of which twice as many cut the step by 10 % at most; inefficient: the fewest with an efficiency below one "
    "half.",
)
