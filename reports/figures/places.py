"""The cases of a study, for figures that show several of them in one."""

from collections.abc import Sequence

import pandas as pd

from reports.figures.base import label
from reports.frames import Frames, parts

PLACE = ["workload", "case"]

Place = tuple[str, str]


def places(frames: Frames, rows: pd.DataFrame) -> list[Place]:
    """Return the workloads and cases that rows belong to.

    Args:
        frames: Of the whole study.
        rows: With the columns of :data:`PLACE`.

    Returns:
        Each once, in the order of the page.
    """
    known = {*rows[PLACE].itertuples(index=False, name=None)}
    return [place for part in parts(frames) if (place := (part.workload, part.case)) in known]


def place_name(place: Place, others: Sequence[Place]) -> str:
    """Return what tells a case from others, as text for plotly.

    Args:
        place: Workload and case.
        others: All that are drawn, itself among them.

    Returns:
        Empty where it is alone.
    """
    workloads, cases = ({other[index] for other in others} for index in (0, 1))
    told = (place[0] if len(workloads) > 1 else "", place[1] if len(cases) > 1 else "")
    return label(", ".join(filter(None, told)))


def of_place(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return the rows of a case."""
    return rows[(rows["workload"] == place[0]) & (rows["case"] == place[1])]


def left_out(count: int) -> str:
    """Return a note of cases that are not drawn, to go with a title; empty if all are."""
    return f" ({count} more cases are in the tables)" if count else ""
