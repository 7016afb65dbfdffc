"""Where names beside points have room: what a scatter plot with few named points needs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reports.figures.base import LETTER_PX

WIDTH_PX, HEIGHT_PX = 330, 200  # of a panel on a narrow screen, about
LINE_PX, POINT_PX = 14, 8
REACH = 1.0  # how far intervals may widen an axis beyond its points, over the span of these
PADDING = 0.08
FAR = 3.0  # interquartile ranges
MIN_FOR_FAR = 5  # points, from which one can be far from the others

Floats = NDArray[np.float64]


def axis_range(values: Floats, lows: Floats, highs: Floats) -> tuple[float, float]:
    """Return the range of an axis that shows all values, and their intervals unless these would squeeze the values.

    Args:
        values: Finite, at least one.
        lows: Ends of their intervals, NaN where there is none.
        highs: Likewise.

    Returns:
        Lower and upper end.
    """
    low, high = values.min(), values.max()
    widest = np.nanmax(np.append(highs - lows, 0.0))
    span = high - low or widest or 0.1 * abs(high) or 1.0
    ends = (
        max(np.nanmin(np.append(lows, low)), low - REACH * span),
        min(np.nanmax(np.append(highs, high)), high + REACH * span),
    )
    margin = PADDING * (ends[1] - ends[0] or span)
    return float(ends[0] - margin), float(ends[1] + margin)


def is_far(values: Floats) -> NDArray[np.bool_]:
    """Return which values lie so far below the others that an axis that shows them would show little else."""
    if len(values) < MIN_FOR_FAR:
        return np.zeros(len(values), dtype=bool)
    low, high = np.quantile(values, [0.25, 0.75])
    return values < low - FAR * (high - low) if high > low else np.zeros(len(values), dtype=bool)


def label_places(points: Floats, texts: Sequence[str], obstacles: Floats, sides: Sequence[str]) -> list[str]:
    """Return where each name stands without covering points, other names, or the edge of its panel.

    Args:
        points: ``[name, 2]``: place of each named point in its panel, as fractions of the width and the height.
        texts: The names.
        obstacles: ``[point, 2]``: all points, likewise.
        sides: Of plotly's text positions those allowed, best first: a word for the height, one for the side.

    Returns:
        One of the sides for each, or empty where none has room.
    """
    scale = np.array([WIDTH_PX, HEIGHT_PX])
    taken = [(x - POINT_PX, y - POINT_PX, x + POINT_PX, y + POINT_PX) for x, y in obstacles * scale]
    found = []
    for point, text in zip(points * scale, texts, strict=True):
        boxes = {side: _box(point, LETTER_PX * len(text), side) for side in sides}
        place = next((side for side, box in boxes.items() if _fits(box, taken)), "")
        taken += [boxes[place]] if place else []
        found.append(place)
    return found


def _box(point: Floats, width: float, side: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a name in pixels."""
    x, y = float(point[0]), float(point[1])
    left = {"left": x - width, "right": x, "center": x - width / 2}[side.partition(" ")[2]]
    bottom = y + POINT_PX if side.startswith("top") else y - POINT_PX - LINE_PX
    return left, bottom, left + width, bottom + LINE_PX


def _fits(box: tuple[float, float, float, float], taken: list[tuple[float, float, float, float]]) -> bool:
    """Return whether a box lies in the panel and covers nothing."""
    left, bottom, right, top = box
    is_inside = left >= 0 and right <= WIDTH_PX and bottom >= 0 and top <= HEIGHT_PX
    return is_inside and not any(left < b[2] and b[0] < right and bottom < b[3] and b[1] < top for b in taken)
