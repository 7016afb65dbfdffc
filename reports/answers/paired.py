"""Planned comparisons over common seeds: the tests of one table, corrected together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import stats
from reports.answers.base import Columns, numbers, text
from reports.race import outcome


@dataclass(frozen=True, slots=True)
class Difference:
    """What a pair differs by.

    Args:
        estimate: Of first - second over the common seeds: mean, std, interval.
        p_holm: Corrected over all tested pairs given together; NaN if not tested.
        verdict: ``resolved``, ``not resolved`` or ``not tested: …``.
    """

    estimate: stats.Estimate
    p_holm: float
    verdict: str

    @property
    def is_resolved(self) -> bool:
        """Whether noise does not explain it."""
        return self.verdict == "resolved"

    def cells(self, name: str) -> dict[str, float | str]:
        """Return its cells, as :func:`difference_columns` names them."""
        return {
            name: self.estimate.mean,
            f"{name}_low": self.estimate.low,
            f"{name}_high": self.estimate.high,
            f"{name}_p_holm": self.p_holm,
            f"{name}_verdict": self.verdict,
        }


def difference_columns(name: str) -> Columns:
    """Return the columns of a difference: itself, its 95 % interval, corrected p-value, verdict."""
    return numbers(name, f"{name}_low", f"{name}_high", f"{name}_p_holm") | text(f"{name}_verdict")


def compare(pairs: Sequence[tuple[pd.Series, pd.Series]]) -> list[Difference]:
    """Compare pairs by the two-sided paired t-test over common seeds, Holm-corrected over those that can be tested.

    Args:
        pairs: Values by seed of either side; NaN is a lost run, and a pair with one is not tested.

    Returns:
        One a pair, in order.
    """
    differences = [_common(first, second) for first, second in pairs]
    is_lost = [bool(first.isna().any() or second.isna().any()) for first, second in pairs]
    p_values = [
        np.nan if lost else stats.paired_p_value(values) for values, lost in zip(differences, is_lost, strict=True)
    ]
    return [
        Difference(stats.estimate(values), p_holm, outcome(p_holm, excluded=lost))
        for values, p_holm, lost in zip(differences, stats.holm(p_values), is_lost, strict=True)
    ]


def _common(first: pd.Series, second: pd.Series) -> pd.Series:
    """Return first - second over the seeds that both finished."""
    return pd.Series(stats.paired_differences(first, second.reindex(first.index)))
