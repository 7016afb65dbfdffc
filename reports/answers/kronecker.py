"""How diagonal the full Kronecker factors are (Figs 3, 7, 8, 9)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, frame_of, numbers, text
from reports.answers.findings import KEYS, MOMENT, by_moment, of_the_race
from reports.frames import Frames, remembered

PREFIX = "kronecker_structure/"

COLUMNS = text(*KEYS, "layer", "factor", "quantity") | MOMENT | numbers("mean", "std")


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm, layer, factor, quantity and moment."""
    return frame_of(_rows(frames), COLUMNS)


def _rows(frames: Frames) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    for row in by_moment(of_the_race(frames.metrics, frames, PREFIX)):
        layer, factor, quantity = row["name"].rsplit("/", 2)
        yield row | {"layer": layer, "factor": factor, "quantity": quantity}


ANSWER = Answer(
    name="kronecker",
    title="Structure of the Kronecker factors",
    question="How diagonal are the full Kronecker factors H and S, halfway through and at the end of training?",
    table=table,
    note="Mean and standard deviation over the seeds. diagonal_share: energy on the diagonal over all energy, the one "
    "number that says how diagonal a factor is (1: diagonal). discs_excluding_0: share of the Gershgorin discs that "
    "do not contain 0. kaiser_count: eigenvalues above their mean, kaiser_shift: by how much noise N(0, 1e-3²) off "
    "the diagonal moves the largest of these, relative. snr_db: Eq. 6; _noisy: with that noise; noise_over_diagonal: "
    "its σ over the mean of the diagonal.",
)
