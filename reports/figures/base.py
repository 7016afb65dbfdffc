"""What every figure shares: its specification, the styles of the arms, and the plain layout that the page themes.

Colours of text and grid are left to the page's script, which knows whether the reader prefers light or dark.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports.frames import Frames, Metric, base_arm

# Okabe and Ito (2008), without black and yellow, which vanish on a dark or a light page.
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#8A8A8A")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "pentagon", "cross", "hexagram")
HATCHES = ("", "/", ".")  # of bars, which have no dash
# The arms that most studies have keep their places, so that each looks the same on every page; others take free places.
PLACES = (
    *("sgd", "adam", "adafisher", "adafisher-released", "kfac", "shampoo", "adahessian"),
    *("adamw", "eva", "adafisherw", "adafisherw-released", "adafactor"),
)
LOST_SYMBOL = "x"
NEUTRAL = "#8A8A8A"
PANEL_PX = 230
ROW_PX = 40
DENSE_ROW_PX = 30
MAX_AIRY_ROWS = 8
LEGEND_LINE_PX = 19
FRAME_LEGEND_LINES = 2  # that the frame has room for
COLUMN_PX = 420  # of the page, about: what a line of the legend has on a narrow screen
LETTER_PX, MARK_PX = 6.5, 50
FRAME_PX = 90
MAX_LABELLED_DECADES = 2


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """One figure: a question, and how its answer is computed and drawn.

    Args:
        name: Identifier in the page.
        title: The question that it answers.
        good: What is good, as a sentence; ``{metric}`` stands for the metric's name and direction.
        data: Pure function of the frames.
        plot: Draws what ``data`` returned; without data :func:`empty`, which says what is missing: the page then leaves
            the figure out and repeats that.
        note: How to read it, in a sentence or two.
        is_of_the_race: Whether it shows race runs alone, so that it is left out where arms were only tuned.
        is_of_the_study: Whether it is drawn once, of all parts of a study, instead of once a part.
    """

    name: str
    title: str
    good: str
    data: Callable[[Frames], Any]
    plot: Callable[[Any], go.Figure]
    note: str
    is_of_the_race: bool = False
    is_of_the_study: bool = False

    def draw(self, frames: Frames) -> go.Figure:
        """Return the figure of these frames."""
        return self.plot(self.data(frames))


@dataclass(frozen=True, slots=True)
class ArmStyle:
    """How an arm looks in every figure."""

    color: str
    dash: str
    symbol: str
    hatch: str = ""

    @property
    def band(self) -> str:
        """The colour of its band: its own, mostly transparent."""
        red, green, blue = (int(self.color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.18)"


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Return the style of each arm: by its place in :data:`PLACES`, else by its order among the other arms.

    An arm and its entries of other sources, ``adam`` and ``adam (default)``, share colour and symbol and differ in
    dash; then solid is the winner in the race, and a colour's second arm goes on with other dashes. Where no arm has
    several entries, the dashes tell arms apart too. No two of the first 14 arms with three entries each share colour
    and dash, nor of the first 42 with one.

    Args:
        arms: All arms, in the fixed order of :class:`reports.frames.Frames`.

    Returns:
        A style an arm.
    """
    places = _places(list(dict.fromkeys(map(base_arm, arms))))
    sources = sorted({arm.removeprefix(base_arm(arm)) for arm in arms})
    styles = {}
    for arm in arms:
        place = places[base_arm(arm)]
        lap = place // len(COLORS)
        turn = sources.index(arm.removeprefix(base_arm(arm))) + len(sources) * lap
        styles[arm] = ArmStyle(
            COLORS[place % len(COLORS)],
            DASHES[(turn if len(sources) > 1 else place) % len(DASHES)],
            SYMBOLS[place % len(SYMBOLS)],
            HATCHES[lap % len(HATCHES)],
        )
    return styles


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return the place of each arm: its own if it has one, else the first that nobody has, or could have here."""
    own: dict[str, int] = {}
    for name in names:
        place = PLACES.index(known) if (known := name.replace("_", "-")) in PLACES else None
        if place is not None and place not in own.values():  # adafisher-released and adafisher_released are two arms
            own[name] = place
    others = [name for name in names if name not in own]
    free = (place for place in count() if place not in own.values())
    return own | dict(zip(others, free, strict=False))


def label(text: object) -> str:
    """Return a name as text for plotly, which takes some HTML tags for mark-up."""
    return escape(str(text), quote=False)


def lines_of(texts: Iterable[str]) -> str:
    """Return texts below each other, as text for plotly."""
    return "<br>".join(map(label, texts))


def row_name(arm: str, note: str) -> str:
    """Return the tick label of an arm, with a note, if there is one, on a second line."""
    return f"{label(arm)}<br><i>{note}</i>" if note else label(arm)


def beside(arms: Sequence[str], width: float) -> dict[str, float]:
    """Return how far each arm stands from a place that all of them share, over a width; one alone stands there."""
    return dict(zip(arms, np.linspace(-0.5, 0.5, len(arms)) * width if len(arms) > 1 else [0.0], strict=True))


def panels(y_titles: Sequence[str], x_titles: Sequence[str], *, panel_px: int = PANEL_PX, **options: Any) -> go.Figure:
    """Return a figure of panels below each other, which suits a phone as well as a column of a wide page.

    Args:
        y_titles: One a panel; with the unit.
        x_titles: One a panel; empty where the panel shares the axis of the one below.
        panel_px: Height of a panel.
        options: For ``make_subplots``.

    Returns:
        A figure without traces.
    """
    rows = len(y_titles)
    height = rows * panel_px + FRAME_PX
    spacing = 0.0 if rows == 1 else (62 if all(x_titles) else 26) / height
    figure = make_subplots(rows=rows, cols=1, vertical_spacing=spacing, **options)
    for row, (y_title, x_title) in enumerate(zip(y_titles, x_titles, strict=True), start=1):
        figure.update_yaxes(title_text=y_title, row=row)
        figure.update_xaxes(title_text=x_title, row=row)
    figure.update_xaxes(automargin=True, title_standoff=8)
    figure.update_yaxes(automargin=True, title_standoff=8)
    return _plain(figure, height)


def empty(*messages: str) -> go.Figure:
    """Return a figure that only says what is missing, a line a message."""
    figure = _plain(go.Figure(), height=120)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=lines_of(messages), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure


def ink_on(color: str) -> str:
    """Return black or white, whichever is read better on a colour (WCAG 2.2, relative luminance)."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    luminance = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def row_px(count: int) -> int:
    """Return the height of a row of a list of arms: many stand closer."""
    return ROW_PX if count <= MAX_AIRY_ROWS else DENSE_ROW_PX


def make_room(figure: go.Figure, names: Iterable[str]) -> go.Figure:
    """Return the figure, higher by the lines of a long legend, which would else be taken from its panels."""
    widths = [MARK_PX + LETTER_PX * len(name) for name in names]
    per_line = max(1, int(COLUMN_PX / max(widths, default=COLUMN_PX)))
    lines = math.ceil(len(widths) / per_line)
    return figure.update_layout(height=figure.layout.height + LEGEND_LINE_PX * max(0, lines - FRAME_LEGEND_LINES))


def arm_rows(figure: go.Figure, names: Sequence[str], row: int) -> None:
    """Make a panel's y axis a list of names, the first on top; its traces use ``range(len(names))`` as y."""
    figure.update_yaxes(
        row=row,
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.5, -0.5],
        title_text="",
        showgrid=False,
        zeroline=False,
    )


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Return the settings of a logarithmic axis: plain numbers at 1, 2, 5, or at decades only if there are many."""
    known = np.asarray([value for value in values if value > 0 and np.isfinite(value)])
    decades = float(np.log10(known.max() / known.min())) if len(known) else 0.0
    return {"type": "log", "tickformat": "~g", "dtick": "D2" if decades <= MAX_LABELLED_DECADES else 1}


def add_target(figure: go.Figure, metric: Metric) -> None:
    """Add the target as a dotted line to the top panel, where there is a target."""
    if np.isfinite(metric.target):
        line = {"width": 1, "dash": "dot", "color": NEUTRAL}
        text = {"annotation_text": f"target {metric.target:g}", "annotation_position": "bottom right"}
        figure.add_hline(y=metric.target, row=1, line=line, annotation_font_size=10, **text)


def _plain(figure: go.Figure, height: int) -> go.Figure:
    """Return the figure with the layout that all share."""
    return figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        hovermode="closest",
    )
