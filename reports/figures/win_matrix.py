"""Which arm beats which: the probability of improvement of every pair."""

from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from reports.figures.base import MAX_AIRY_ROWS, FigureSpec, arm_rows, empty, label, panels
from reports.frames import Frames
from reports.race import race, verdict

RESOLVED, NOT_TESTED = "✓", "n.t."
DENSE_MARKS = {RESOLVED: "•", NOT_TESTED: "–", "": ""}
MAX_NUMBERED = 12  # entries, up to which a cell has room for its number
MAX_TICKS = 16
MIN_CELL_PX, MAX_CELL_PX = 16, 44
HEIGHT_PX = 360  # of the cells of many entries
SCALE_PX = 40
SCALE = {
    "orientation": "h",
    "thickness": 10,
    "y": 1.0,
    "yanchor": "bottom",
    "title": {"text": "P(row beats column)", "side": "top"},
}


class WinMatrix(NamedTuple):
    """The pairs of a race.

    Args:
        arms: The competitors in the order of the standings.
        probabilities: ``[row, column]``: that a random seed of the row's arm beats one of the column's; NaN on the
            diagonal.
        verdicts: Likewise; empty on the diagonal.
    """

    arms: tuple[str, ...]
    probabilities: NDArray[np.float64]
    verdicts: NDArray[np.str_]


def data(frames: Frames) -> WinMatrix:
    """Return the probability of improvement of every pair of competitors, and whether it is resolved."""
    result = race(frames)
    arms = tuple(standing.arm for standing in result.competitors)
    probabilities = np.full((len(arms), len(arms)), np.nan)
    verdicts = np.full(probabilities.shape, "", dtype="U64")
    for pair in result.comparisons:
        i, j = arms.index(pair.first), arms.index(pair.second)
        probabilities[i, j], probabilities[j, i] = pair.p_improvement, 1 - pair.p_improvement
        verdicts[i, j] = verdicts[j, i] = verdict(pair)
    return WinMatrix(arms, probabilities, verdicts)


def plot(data: WinMatrix) -> go.Figure:
    """Return a heat map, a row and a column an arm."""
    count = len(data.arms)
    if count < 2:
        return empty("Fewer than two arms have raced.")
    cell = int(np.clip(HEIGHT_PX / count, MIN_CELL_PX, MAX_CELL_PX))
    figure = panels([""], ["… beats this arm"], panel_px=cell * count + SCALE_PX)
    names = [label(arm) for arm in data.arms]
    figure.add_heatmap(
        x=names,
        y=names,
        z=np.round(data.probabilities, 4),
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        xgap=int(count <= MAX_NUMBERED),
        ygap=1,
        text=_texts(data),
        texttemplate="%{text}",
        textfont={"size": 11 if count <= MAX_AIRY_ROWS else 9},
        customdata=data.verdicts,
        hovertemplate="P(%{y} beats %{x}) = %{z:.2f}<br>%{customdata}<extra></extra>",
        hoverongaps=False,
        colorbar=SCALE,
    )
    arm_rows(figure, [f"{name}  {place}" for place, name in enumerate(names, start=1)], row=1)
    shown = [place for place in range(count) if count <= MAX_TICKS or place == 0 or (place + 1) % 5 == 0]
    figure.update_xaxes(tickvals=shown, ticktext=[str(place + 1) for place in shown], showgrid=False, type="category")
    figure.update_yaxes(type="category")
    return figure


def _texts(data: WinMatrix) -> list[list[str]]:
    """Return what stands in each cell: its number above the mark of its verdict, or where there is no room a mark."""
    marks = [[_mark(verdict) for verdict in row] for row in data.verdicts]
    if len(data.arms) > MAX_NUMBERED:
        return [[DENSE_MARKS[mark] for mark in row] for row in marks]
    return [
        ["" if np.isnan(p) else f"{p:.2f}<br>{mark}".removesuffix("<br>") for p, mark in zip(*row, strict=True)]
        for row in zip(data.probabilities, marks, strict=True)
    ]


def _mark(verdict: str) -> str:
    """Return the mark of a verdict."""
    return RESOLVED if verdict == "resolved" else NOT_TESTED if verdict.startswith("not tested") else ""


FIGURE = FigureSpec(
    name="win_matrix",
    title="How often does one arm beat another?",
    good="A row with high values is good.",
    data=data,
    plot=plot,
    note="Each cell: the probability that a random seed of the row's arm has a better test metric than a random seed "
    "of the column's, over all pairs of their seeds; ties count half, and a lost run loses. It shows and never "
    "decides: with three seeds it is a multiple of 1/18, and 1.00 happens by chance. ✓: the pair is resolved by the "
    "paired test after Holm's correction over all pairs; n.t.: not tested, since runs were lost or seeds are missing; "
    "no mark: not resolved. Arms stand in the order of the standings, controls left out. Among more than twelve arms "
    "a cell has a mark alone, • for resolved and – for not tested; point at it for its number.",
    is_of_the_race=True,
)
