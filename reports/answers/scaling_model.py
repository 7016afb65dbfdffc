"""The parameters of the scaling model, and what the measurements do not say of them."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.frames import Frames
from reports.projection import Model, Range, cautions, fit

COLUMNS = (
    text("workload", "arm")
    | counts("num_threads")
    | text("quantity", "unit")
    | numbers("value", "low", "high")
    | text("reading")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row a parameter, then a row a caution; nothing where nothing was measured."""
    model = fit(frames)
    return frame_of(_rows(model) if model.points else (), COLUMNS)


def _rows(model: Model) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    for key in model.keys:
        place = dict(zip(("workload", "arm", "num_threads"), key, strict=True))
        fixed, per_sample = model.compute(key)
        yield place | _cells("computing, of any step", "s", fixed)
        yield place | _cells("computing, of a sample", "s", per_sample)
    yield _cells("latency of a message", "s", model.latency)
    yield _cells("bandwidth", "bytes/s", model.bandwidth)
    yield from ({"quantity": "caution", "reading": sentence} for sentence in cautions(model))


def _cells(quantity: str, unit: str, figure: Range) -> dict[str, Any]:
    """Return the cells of a parameter; an end without a bound is null."""
    ends = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {"quantity": quantity, "unit": unit, **ends, "reading": str(figure)}


ANSWER = Answer(
    name="scaling_model",
    title="The model of scaling",
    question="What do computing and communication cost, as far as the measurements say?",
    table=table,
    note="Fitted to all measured steps together. The range is over all sets of parameters that agree with the "
    "measurements within their errors; where it is wide the figure is not identifiable, and only the range counts.",
)
