"""Numbers as a reader wants them: rounded to what they carry, with their unit."""

import math
from collections.abc import Iterable, Sequence

from reports.stats import Estimate

NOTHING = "–"
MAX_DECIMALS = 6
MAX_NAMES = 6


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent where it can be read."""
    if not math.isfinite(value):
        return NOTHING
    if value == 0 or 1e-4 <= abs(value) < 10**digits:
        return f"{value:.{digits}g}"
    return f"{value:,.0f}" if 1 <= abs(value) < 1e9 else f"{value:.{digits}g}"


def estimate(value: Estimate) -> str:
    """Return mean ± std, both to the std's second significant digit."""
    if not math.isfinite(value.std):
        return number(value.mean, 4) + (" (one run)" if value.n == 1 else "")
    places = _decimals(value.std)
    return f"{value.mean:.{places}f} ± {value.std:.{places}f}"


def interval(value: Estimate) -> str:
    """Return the 95 % interval, to the std's second significant digit."""
    if not math.isfinite(value.low):
        return NOTHING
    places = _decimals(value.std)
    return f"{value.low:.{places}f} to {value.high:.{places}f}"


def difference(value: float) -> str:
    """Return a signed difference."""
    if not math.isfinite(value):
        return NOTHING
    return "0" if value == 0 else f"{'+' if value > 0 else '−'}{number(abs(value), 2)}"


def p_value(value: float) -> str:
    """Return a p-value, never as a false zero."""
    if not math.isfinite(value):
        return NOTHING
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def seconds(value: float) -> str:
    """Return a duration in the unit that suits it."""
    if not math.isfinite(value):
        return NOTHING
    if value < 1:
        return f"{number(1e3 * value)} ms"
    if value < 120:
        return f"{number(value)} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def count(value: int, noun: str) -> str:
    """Return a count with its noun: ``1 run``, ``2 runs``."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def listing(items: Iterable[str]) -> str:
    """Return items as ``a, b and c``."""
    *head, last = [*items] or [NOTHING]
    return f"{', '.join(head)} and {last}" if head else last


def names(items: Sequence[str], noun: str) -> str:
    """Return a few items as a listing, many as their number."""
    return listing(items) if len(items) <= MAX_NAMES else count(len(items), noun)


def _decimals(scale: float) -> int:
    """Return how many decimals show two significant digits of the scale."""
    if not scale > 0:
        return 4
    return min(MAX_DECIMALS, max(0, 1 - math.floor(math.log10(scale))))
