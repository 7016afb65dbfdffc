"""How near each optimizer's estimate of the Fisher diagonal is to the true one (Fig 12 D)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, frame_of, numbers, text
from reports.answers.findings import KEYS, MOMENT, by_moment, of_the_race
from reports.frames import Frames, remembered

PREFIX = "fisher_accuracy/"
WHOLE = "all"  # in the column parameter: the parameters together

COLUMNS = text(*KEYS, "comparison", "measure", "parameter") | MOMENT | numbers("mean", "std")


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm, comparison, measure, parameter and moment; first those of all parameters together."""
    found = frame_of(_rows(frames), COLUMNS)
    return found.sort_values("parameter", key=lambda names: names != WHOLE, kind="stable", ignore_index=True)


def _rows(frames: Frames) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    for row in by_moment(of_the_race(frames.metrics, frames, PREFIX)):
        comparison, measure, *parameter = row["name"].split("/", 2)
        yield row | {"comparison": comparison, "measure": measure, "parameter": "".join(parameter) or WHOLE}


ANSWER = Answer(
    name="fisher_accuracy",
    title="Accuracy of the Fisher diagonal",
    question="How near is each optimizer's estimate of the Fisher diagonal to the true one?",
    table=table,
    note="comparison: the estimate against the exact Fisher diagonal and against its Monte-Carlo mean; norm_pre and "
    "norm_hat, the two readings of Prop. 3.1, and the empirical and the sampled diagonal, against the exact one. "
    "relative_error: after the best scaling; cosine and rank_correlation: 1 is best; mae: mean absolute error, "
    "mae_min_max after min-max normalization of both. Mean and standard deviation over the seeds.",
)
