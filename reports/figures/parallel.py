"""Parallel coordinates: which combinations of hyperparameters did well, a line a trial."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports import text
from reports.figures.base import NEUTRAL, FigureSpec, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.frames import Frames, Metric, metric_of, read_json, tune_runs
from suite.results.spaces import hull

SCORE = "score"
LOG_DECADES = 1.0  # from which a range is taken for logarithmic where the results do not say what was searched
PANEL_PX = 232  # with the room between panels
ROOM = 0.16  # of a panel, above and below its axes, for the numbers there
DECIMALS = 3
SHARE_OF_RANK = 0.08  # of an axis of choices, over which trials of the same choice are spread


class Rank(NamedTuple):
    """How the trials of one rank are drawn."""

    name: str
    color: str
    width: float
    dash: str = "solid"


RANKS = {  # from the first drawn to the last, which is on top
    "lost": Rank("lost or stopped early", "#D55E00", 1.0, "dot"),
    "lower": Rank("lower half", "#8A8A8A", 0.8),
    "upper": Rank("upper half", "#56B4E9", 1.4),
    "best": Rank("best quarter, ties included", "#009E73", 2.8),
}


class Scale(NamedTuple):
    """An axis: a range from one end to the other, or a set.

    Args:
        ends: The lower and the upper end of what is drawn.
        is_log: Whether a range is logarithmic.
        choices: The members of a set, in order; else empty.
    """

    ends: tuple[Any, Any]
    is_log: bool = False
    choices: tuple[Any, ...] = ()

    def place(self, value: Any) -> float:
        """Return where a value is, from 0 at the lower end to 1 at the upper; NaN where there is none."""
        if self.choices:
            return self.choices.index(value) / max(1, len(self.choices) - 1) if value in self.choices else math.nan
        if value is None or not math.isfinite(value):
            return math.nan
        low, high, at = (math.log(v) if self.is_log else float(v) for v in (*self.ends, value))
        return (at - low) / (high - low) if high != low else 0.5


class Parallel(NamedTuple):
    """The trials on their axes.

    Args:
        points: Columns arm, trial, rank (a key of :data:`RANKS`), axis (a hyperparameter, or ``score``), place (from 0
            to 1 between the ends of the axis), value (as text); nothing for the score of a trial without one.
        axes: Columns arm, axis, low, high (as text), in the order drawn; of the score ``high`` is the better end.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    points: pd.DataFrame
    axes: pd.DataFrame
    metric: Metric
    arms: tuple[str, ...]


POINTS, AXES = ["arm", "trial", "rank", "axis", "place", "value"], ["arm", "axis", "low", "high"]


def data(frames: Frames) -> Parallel:
    """Return the trials of each arm that searched something and of which one has a score."""
    metric, points, axes = metric_of(frames), [], []
    for arm, trials in tune_runs(frames).groupby("arm"):
        scales = _scales(trials)
        if not scales or trials["score"].isna().all():
            continue
        points += [row | {"arm": str(arm)} for row in _points(_ranked(trials, metric.sign), scales)]
        signed = metric.sign * trials["score"]
        ends = {name: scale.ends for name, scale in scales.items()}
        ends[SCORE] = (metric.sign * signed.min(), metric.sign * signed.max())
        axes += [{"arm": str(arm), "axis": name, "low": _text(a), "high": _text(b)} for name, (a, b) in ends.items()]
    return Parallel(pd.DataFrame(points, columns=POINTS), pd.DataFrame(axes, columns=AXES), metric, frames.arms)


def _scales(trials: pd.DataFrame) -> dict[str, Scale]:
    """Return the axes of what the trials searched; where the results do not say, of what varies among them."""
    space = hull(read_json(found) for found in trials["search_space"])
    tried = pd.DataFrame([read_json(found) for found in trials["hyperparameters"]])
    known = tried.loc[:, tried.notna().any()]
    varied = (str(name) for name in known if known[name].map(repr).nunique() > 1)
    names = [name for name in space if name in known] or [*varied]
    return {name: _scale(space.get(name, {}), list(known[name].dropna())) for name in names}


def _scale(atom: Mapping[str, Any], tried: list[Any]) -> Scale:
    """Return the axis of what was searched, wide enough for what was tried.

    Args:
        atom: As :mod:`suite.results.spaces` has it; empty where it is not known.
        tried: Values.

    Returns:
        Numbers of an unknown space are logarithmic from a decade on.
    """
    if "choices" in atom or not all(isinstance(value, int | float) for value in tried):
        choices = list({repr(value): value for value in [*atom.get("choices", ()), *tried]}.values())
        is_ordered = all(isinstance(value, int | float) for value in choices)
        known = tuple(sorted(choices) if is_ordered else choices)
        return Scale((known[0], known[-1]), choices=known)
    low, high = min([*tried, atom.get("low", tried[0])]), max([*tried, atom.get("high", tried[0])])
    is_log = low > 0 and bool(atom.get("log", low > 0 and math.log10(high / low) > LOG_DECADES))
    return Scale((low, high), is_log)


def _ranked(trials: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Return the trials with ``rank``, equal scores sharing the better, and ``height``: from 0, the worst, to 1."""
    scores = sign * trials["score"]
    place, count = scores.rank(method="min", ascending=False), scores.notna().sum()
    ranks = pd.Series("lower", scores.index).mask(place <= count / 2, "upper").mask(place <= max(1, count / 4), "best")
    above = scores.rank(method="min")
    height = (above - 1) / (above.max() - 1) if above.max() > 1 else above  # all alike: all are the best
    return trials.assign(rank=ranks.mask(scores.isna(), "lost"), height=height)


def _points(trials: pd.DataFrame, scales: Mapping[str, Scale]) -> Iterator[dict[str, Any]]:
    """Yield where each trial crosses each axis; at a choice the better ones a little higher, so that all are seen."""
    columns = ["trial", "rank", "score", "height", "hyperparameters"]
    for trial, rank, score, height, told in trials[columns].itertuples(index=False):
        row, values = {"trial": trial, "rank": rank}, read_json(told)
        for name, scale in scales.items():
            place, share = scale.place(values.get(name)), SHARE_OF_RANK if scale.choices else 0.0
            if math.isfinite(place):
                shifted = (1 - share) * place + share * (0.0 if math.isnan(height) else height)
                yield row | {"axis": name, "place": shifted, "value": _text(values[name])}
        if math.isfinite(height):
            yield row | {"axis": SCORE, "place": height, "value": _text(score)}


def _text(value: Any) -> str:
    """Return a value of an axis as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text.number(float(value)) if is_number else label(value)


def plot(data: Parallel) -> go.Figure:
    """Return a panel an arm."""
    if data.points.empty:
        return empty("No trial of a search ran to its end.")
    shown = [arm for arm in data.arms if (data.axes["arm"] == arm).any()]
    figure = panels([""] * len(shown), [" "] * len(shown), panel_px=PANEL_PX)  # not empty: room for the names below
    named: set[str] = set()
    for row, arm in enumerate(shown, start=1):
        points, axes = (table[table["arm"] == arm] for table in (data.points, data.axes))
        _add_axes(figure, axes, data.metric, row)
        for key, rank in RANKS.items():
            own = points[points["rank"] == key]
            if len(own):
                _add_lines(figure, own, list(axes["axis"]), rank, row=row, show_name=key not in named)
                named.add(key)
    counts = data.points.groupby("arm")["trial"].nunique()
    add_headings(figure, [f"{label(arm)}, {text.count(int(counts[arm]), 'trial')}" for arm in shown])
    return make_room(figure.update_layout(showlegend=True), [RANKS[key].name for key in named])


def _add_axes(figure: go.Figure, axes: pd.DataFrame, metric: Metric, row: int) -> None:
    """Draw the axes of a panel, with their names below and the values of their ends."""
    count = len(axes)
    figure.add_scatter(
        x=[x for place in range(count) for x in (place, place, None)],
        y=[0, 1, None] * count,
        mode="lines",
        line={"color": NEUTRAL, "width": 1},
        hoverinfo="skip",
        showlegend=False,
        row=row,
        col=1,
    )
    for y, column, side in ((0, "low", "bottom center"), (1, "high", "top center")):
        figure.add_scatter(
            x=list(range(count)),
            y=[y] * count,
            mode="text",
            text=list(axes[column]),
            textposition=side,
            textfont={"size": 10},
            hoverinfo="skip",
            showlegend=False,
            row=row,
            col=1,
        )
    names = [
        f"{label(metric.name)},<br>by rank" if name == SCORE else label(name).replace("_", "_<br>")
        for name in axes["axis"]
    ]
    ticks = {"tickmode": "array", "tickvals": list(range(count)), "ticktext": names, "tickangle": 0}
    figure.update_xaxes(row=row, range=[-0.4, count - 0.6], showgrid=False, zeroline=False, **ticks)
    figure.update_yaxes(row=row, visible=False, range=[-ROOM, 1 + ROOM])


def _add_lines(
    figure: go.Figure, points: pd.DataFrame, axes: list[str], rank: Rank, *, row: int, show_name: bool
) -> None:
    """Add the trials of a rank as one trace, with a gap after each."""
    x: list[int | None] = []
    y: list[float | None] = []
    told: list[str] = []
    for trial, own in points.groupby("trial", dropna=False):
        x += [*(axes.index(name) for name in own["axis"]), None]
        y += [*own["place"].round(DECIMALS), None]
        told += [*(f"{trial:g}: {value}" for value in own["value"]), ""]
    figure.add_scatter(
        x=x,
        y=y,
        name=rank.name,
        mode="lines",
        line={"color": rank.color, "width": rank.width, "dash": rank.dash},
        text=told,
        hovertemplate="trial %{text}<extra></extra>",
        legendgroup=rank.name,
        showlegend=show_name,
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="parallel",
    title="Which combinations of hyperparameters did well?",
    good="{metric}; on the rightmost axis the best is up.",
    data=data,
    plot=plot,
    note="A line a trial, from axis to axis: each hyperparameter that was searched, over the range searched "
    "(logarithmic where the search was), then the validation score by rank. Where thick lines meet, a hyperparameter "
    "had to be right; where they spread over an axis, it mattered little. Dotted lines end before the score: lost or "
    "stopped early. A trial is one run of one seed, so close ranks can be noise. Panels have axes of their own.",
)
