"""Search spaces as the results hold them, and whether a point lies on the edge of one.

A space is a dictionary by hyperparameter, ``{"low", "high", "log"}`` for a range and ``{"choices"}`` for a set, as JSON
in the column ``search_space`` of each trial: what was searched when the trial was proposed.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

Space = Mapping[str, Mapping[str, Any]]

EDGE_FRAC = 0.05  # of the range, on its own scale, that counts as its edge


def hull(spaces: Iterable[Space]) -> dict[str, dict[str, Any]]:
    """Return the smallest space that holds others.

    Args:
        spaces: Of trials of one arm.

    Returns:
        Ranges from the lowest to the highest bound; sets as in the first space that has them.
    """
    whole: dict[str, dict[str, Any]] = {}
    for space in spaces:
        for name, atom in space.items():
            known = whole.setdefault(name, dict(atom))
            if "low" in atom:
                known["low"], known["high"] = min(known["low"], atom["low"]), max(known["high"], atom["high"])
    return whole


def edges(space: Space, point: Mapping[str, Any]) -> dict[str, str]:
    """Return on which edges of a space a point lies.

    Args:
        space: What was searched.
        point: Hyperparameters.

    Returns:
        ``low`` or ``high`` by hyperparameter: within 5 % of the end of a range, or the first or last of at least three
        ordered numbers; empty for a point in the middle.
    """
    found = {name: _edge(atom, point[name]) for name, atom in space.items() if name in point}
    return {name: end for name, end in found.items() if end}


def _edge(atom: Mapping[str, Any], value: Any) -> str | None:  # noqa: ANN401
    if "choices" in atom:
        return _edge_of_choices(atom["choices"], value)
    scale = math.log if atom["log"] else float
    low, high = scale(atom["low"]), scale(atom["high"])
    position = (scale(value) - low) / (high - low)
    if position <= EDGE_FRAC:
        return "low"
    return "high" if position >= 1 - EDGE_FRAC else None


def _edge_of_choices(choices: Iterable[Any], value: Any) -> str | None:  # noqa: ANN401
    values = list(choices)
    is_ordered = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if len(values) < 3 or not is_ordered:
        return None
    return {min(values): "low", max(values): "high"}.get(value)
