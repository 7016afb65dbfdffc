"""How the entries of the Fisher diagonal are distributed over training (Figs 4, 11)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import stats
from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.answers.findings import KEYS, MOMENT, of_the_race
from reports.frames import Frames, remembered

PREFIX = "fisher_histogram/"
QUANTILES = {"p05": 0.05, "median": 0.50, "p95": 0.95}

COLUMNS = (
    text(*KEYS, "layer", "diagonal")
    | MOMENT
    | counts("num_entries")
    | numbers("below_range_share", *(f"log10_{name}" for name in QUANTILES), "std_log10_median")
)


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm, layer, diagonal and moment."""
    return frame_of(_rows(of_the_race(frames.arrays, frames, PREFIX)), COLUMNS)


def quantile(bins: NDArray[np.float64], edges: NDArray[np.float64], share: float) -> float:
    """Return the logarithm of a quantile of a histogram, within its bin by interpolation.

    Args:
        bins: Entries by bin; the first are below the lowest edge, the last above the highest.
        edges: Of the others, ascending.
        share: Of the entries that are below the quantile.

    Returns:
        To base 10; -inf if the quantile is below the lowest edge, +inf above the highest, NaN without entries.
    """
    if not bins.sum():
        return np.nan
    below = np.cumsum(bins) / bins.sum()
    place = int(np.searchsorted(below, share))
    if place in {0, len(bins) - 1}:
        return -np.inf if place == 0 else np.inf
    low, high = np.log10(edges[place - 1 : place + 1])
    inside = (share - below[place - 1]) / (below[place] - below[place - 1])
    return float(low + inside * (high - low))


def _rows(entries: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    is_edge = entries["name"] == "edges"
    edges = entries[is_edge].drop_duplicates("row").sort_values("row")["value"].to_numpy(dtype="float64")
    for key, own in entries[~is_edge].groupby([*KEYS, "name", "moment"]):
        cells = dict(zip([*KEYS, "name", "moment"], key, strict=True))
        layer, _, diagonal = str(cells["name"]).rpartition("/")
        runs = [run.sort_values("row")["value"].to_numpy(dtype="float64") for _, run in own.groupby("run_id")]
        runs = [bins for bins in runs if len(bins) == len(edges) + 1]
        found = {name: stats.estimate([quantile(bins, edges, q) for bins in runs]) for name, q in QUANTILES.items()}
        yield {
            **cells,
            "layer": layer,
            "diagonal": diagonal,
            "num_runs": len(runs),
            "mean_step": own["step"].mean(),
            "mean_frac_of_budget": own["frac"].mean(),
            "num_entries": np.median([bins.sum() for bins in runs]) if runs else None,
            "below_range_share": np.mean([bins[0] / bins.sum() for bins in runs if bins.sum()]) if runs else None,
            **{f"log10_{name}": value.mean for name, value in found.items()},
            "std_log10_median": found["median"].std,
        }


ANSWER = Answer(
    name="fisher_histograms",
    title="Distribution of the Fisher diagonal",
    question="How are the entries of the Fisher diagonal distributed in three layers, and how does that move?",
    table=table,
    note="From the histograms in the table arrays: decades of the 5th percentile, the median and the 95th percentile, "
    "mean over the seeds. estimate: what the optimizer holds; true: the exact Fisher diagonal. below_range_share: of "
    "entries below 1e-12, zeros among them; a quantile there is left out.",
)
