"""How near each optimizer's estimate of the Fisher diagonal is to the true one, over training (Fig 12 D)."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.answers.findings import of_the_race
from reports.answers.fisher_accuracy import PREFIX
from reports.figures.bands import add_band, band
from reports.figures.base import NEUTRAL, FigureSpec, arm_styles, empty, make_room, panels
from reports.figures.places import PLACE, Place, left_out, of_place, place_name, places
from reports.frames import Frames

MEASURES = {"relative_error": "relative error", "rank_correlation": "rank correlation"}
LABELS = {"empirical": "yardstick: the data's labels", "sampling": "yardstick: 16 drawn labels"}
FILLS = {"empirical": "rgba(138,138,138,0.25)", "sampling": "rgba(0,0,0,0)"}
MAX_PLACES = 3


class Accuracy(NamedTuple):
    """The accuracy over training.

    Args:
        lines: Columns workload, case, measure, name (an arm, or a key of :data:`LABELS`), x (fraction of training),
            mean, low, high: over the seeds of an arm; of diagonals that are no arm's, over all runs.
        places: Workload and case of each pair of panels.
        num_left_out: Cases that are not drawn.
        arms: All arms of the study.
    """

    lines: pd.DataFrame
    places: tuple[Place, ...]
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> Accuracy:
    """Return the accuracy of all parameters together, against the exact diagonal, of the runs that finished."""
    rows = of_the_race(frames.metrics, frames, PREFIX)
    rows = rows[rows["name"].isin([f"{of}/{measure}" for of in ("exact", *LABELS) for measure in MEASURES])]
    of, measure = (rows["name"].str.split("/").str[part] for part in (0, 1))
    rows = rows.assign(measure=measure, of=of.where(of != "exact", rows["arm"]))
    found = places(frames, rows[of == "exact"])
    keys = [*PLACE, "measure", "name"]
    lines = [
        band((run for _, run in own.groupby("run_id")), "frac", "value").assign(
            **dict(zip(keys, map(str, key), strict=True))
        )
        for key, own in rows.groupby([*PLACE, "measure", "of"])
        if key[:2] in found[:MAX_PLACES]
    ]
    columns = [*keys, "x", "mean", "low", "high"]
    stacked = pd.concat(lines)[columns] if lines else pd.DataFrame(columns=columns)
    return Accuracy(stacked, tuple(found[:MAX_PLACES]), len(found[MAX_PLACES:]), frames.arms)


def plot(data: Accuracy) -> go.Figure:
    """Return the relative error above the rank correlation, case by case."""
    if data.lines.empty:
        return empty("No run compared an optimizer's diagonal with the true Fisher.")
    shown = [(place, measure) for place in data.places for measure in MEASURES]
    names = {place: place_name(place, data.places) for place in data.places}
    titles = [MEASURES[measure] + (f"<br>{names[place]}" if names[place] else "") for place, measure in shown]
    x_title = f"fraction of training{left_out(data.num_left_out)}"
    figure = panels(titles, [*[""] * (len(shown) - 1), x_title], shared_xaxes=True)
    named = set[str]()
    for row, (place, measure) in enumerate(shown, start=1):
        own = of_place(data.lines, place)
        own = own[own["measure"] == measure]
        for name in LABELS:
            _add_range(figure, own[own["name"] == name], name, row=row)
        for arm, style in arm_styles(data.arms).items():
            lines = own[own["name"] == arm]
            add_band(figure, lines, arm, style, row=row, show_name=arm not in named)
            named |= {arm} if len(lines) else set()
        figure.update_yaxes(
            **({"range": [0, 1.03]} if measure == "relative_error" else {"range": [None, 1.03]}), row=row
        )
    return make_room(figure.update_layout(showlegend=True), [*named, *LABELS.values()])


def _add_range(figure: go.Figure, lines: pd.DataFrame, name: str, *, row: int) -> None:
    """Add what a diagonal that is no arm's reaches: from the lowest of all runs to the highest."""
    if lines.empty:
        return
    figure.add_scatter(
        x=[*lines["x"], *lines["x"][::-1]],
        y=[*lines["high"], *lines["low"][::-1]],
        name=LABELS[name],
        legendgroup=name,
        showlegend=row == 1,
        mode="lines",
        line={"color": NEUTRAL, "width": 1, "dash": "dot"},
        fill="toself",
        fillcolor=FILLS[name],
        hoverinfo="skip",
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="fisher_accuracy",
    title="How near is each optimizer's Fisher diagonal to the true one?",
    good="A relative error near 0 and a rank correlation near 1 are good.",
    data=data,
    plot=plot,
    note="The diagonal that an optimizer holds (AdaFisher: F̃ with its damping; Adam: its second moment; others have "
    "none) against the exact Fisher diagonal, over all parameters together. Relative error: after the best scaling, "
    "since F̃ has no scale; 1 is no better than nothing, and the largest entries decide. Rank correlation: whether "
    "large entries are told from small ones. Line: mean over the seeds, band: lowest to highest. Grey yardsticks, "
    "lowest to highest of all runs: the true diagonal itself, but with the data's labels or 16 drawn ones instead of "
    "all classes as the network weighs them. Arms train different networks, so their true diagonals differ too. The "
    "comparison with drawn labels, as the paper has it, single parameters and normalization layers are in the table.",
    is_of_the_race=True,
    is_of_the_study=True,
)
