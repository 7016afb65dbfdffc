"""Whether the times can be believed: each check against its bound, and the reference arm over the study's course."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers.trust import VERDICTS
from reports.figures.base import NEUTRAL, FigureSpec, arm_rows, arm_styles, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.frames import Frames
from reports.trust import TIMED, course, stamps

ROW_PX, COURSE_PX = 46, 220
MAX_SHARE = 3.0  # of a bound, that is drawn to scale; of more the number is written
TEXT_ROOM = 1.8  # of the axis, for what is written behind the marks
MAX_POINTS = 400
UNITS = {"hours": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600}
MEANINGS = {
    "control": "an arm against itself",
    "drift": "last runs against first",
    "load": "others on the machine",
    "overshoot": "end of live budgets",
    "data": "waiting for data",
}
LOOKS = {"passed": ("#009E73", "circle"), "failed": ("#D55E00", "x"), "not judged": (NEUTRAL, "circle-open")}


class Trust(NamedTuple):
    """The checks, and what a drift is judged by.

    Args:
        checks: Columns check, verdict, share (the value over its bound; NaN where there is none), finding.
        course: Columns arm (the reference or its control), hours (from the first), relative (step time over the median
            under the same conditions), third (``first``, ``middle`` or ``last``); by start.
        reference: Name of the reference arm; empty if there is none.
        arms: All arms of the study.
    """

    checks: pd.DataFrame
    course: pd.DataFrame
    reference: str
    arms: tuple[str, ...]


def data(frames: Frames) -> Trust:
    """Return the checks of the whole study, none before a run is timed, and the reference arm's steps."""
    found = stamps(frames) if frames.runs["purpose"].isin(TIMED).any() else []
    rows = [(s.name, VERDICTS[s.is_ok], s.value / s.bound, s.text) for s in found]
    own = course(frames)
    hours = (own["start"] - own["start"].min()).dt.total_seconds() / 3600
    return Trust(
        pd.DataFrame(rows, columns=["check", "verdict", "share", "finding"]),
        own.assign(hours=hours)[["arm", "hours", "relative", "third"]],
        str(own["base"].iloc[0]) if len(own) else "",
        frames.arms,
    )


def plot(data: Trust) -> go.Figure:
    """Return a row a check above the course of the reference arm, where it has several runs."""
    checks = data.checks
    if (checks["verdict"] == "not judged").all():
        return empty("No check of the times can be judged yet.")
    heights = [ROW_PX * len(checks), COURSE_PX] if len(data.course) > 1 else [ROW_PX * len(checks)]
    unit = next(unit for unit, size in UNITS.items() if data.course["hours"].max() >= size or unit == "seconds")
    x_titles = ["measured ÷ its bound", f"{unit} since its first run"][: len(heights)]
    y_titles = ["", f"{label(data.reference)}: step ÷ median"][: len(heights)]
    figure = panels(y_titles, x_titles, panel_px=sum(heights) // len(heights), row_heights=heights)
    counts = checks["verdict"].value_counts()
    heading = ", ".join(f"{counts[verdict]} {verdict}" for verdict in LOOKS if verdict in counts)
    _add_checks(figure, checks)
    if len(heights) > 1:
        _add_course(figure, data, UNITS[unit])
    return make_room(add_headings(figure, [heading], checks["check"]), [*counts.index, *data.course["arm"].unique()])


def _add_checks(figure: go.Figure, checks: pd.DataFrame) -> None:
    """Add a mark a check, where it stands to its bound, with its verdict behind it; without a number at zero."""
    shown = checks.assign(place=range(len(checks)), x=checks["share"].clip(upper=MAX_SHARE).fillna(0.0))
    for verdict, (color, symbol) in LOOKS.items():
        own = shown[shown["verdict"] == verdict]
        if own.empty:
            continue
        figure.add_scatter(
            x=own["x"],
            y=own["place"],
            name=verdict,
            mode="markers+text",
            marker={"color": color, "symbol": symbol, "size": 12},
            text=[f"  {_told(verdict, share)}" for share in own["share"]],
            textposition="middle right",
            legendgroup=verdict,
            customdata=[label(finding) for finding in own["finding"]],
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
            row=1,
            col=1,
        )
    names = [f"{check}<br><i>{MEANINGS.get(check, '')}</i>" for check in checks["check"]]
    arm_rows(figure, names, row=1)
    most = max(1.0, shown["x"].max())
    figure.update_xaxes(range=[-0.06 * most, TEXT_ROOM * most], row=1)
    figure.add_vline(x=1.0, row=1, line={"width": 1, "dash": "dot", "color": NEUTRAL})


def _told(verdict: str, share: float) -> str:
    """Return what is written behind a mark."""
    return verdict if np.isnan(share) else f"{verdict} ({share:.2g})"


def _add_course(figure: go.Figure, data: Trust, unit: float) -> None:
    """Add the reference arm's runs in time, and the means of the first and the last third."""
    every = -(-len(data.course) // MAX_POINTS)
    styles = arm_styles(data.arms)
    shown = data.course.assign(x=data.course["hours"] / unit)
    for arm, own in shown.iloc[::every].groupby("arm"):
        style = styles[str(arm)]
        is_reference = arm == data.reference
        figure.add_scatter(
            x=own["x"],
            y=own["relative"],
            name=label(arm),
            mode="markers",
            marker={"color": style.color, "symbol": style.symbol + ("" if is_reference else "-open"), "size": 8},
            legendgroup=str(arm),
            hovertemplate="%{fullData.name} after %{x:.3g}: %{y:.3f} of the median<extra></extra>",
            row=2,
            col=1,
        )
    for third in ("first", "last"):
        own = shown[shown["third"] == third]
        if len(own):
            _add_mean(figure, own, third, data.reference)
    figure.add_hline(y=1.0, row=2, line={"width": 1, "dash": "dot", "color": NEUTRAL})


def _add_mean(figure: go.Figure, own: pd.DataFrame, third: str, reference: str) -> None:
    """Add the mean of a third of the runs as a line over its time, with its number."""
    mean, ends = own["relative"].mean(), [own["x"].min(), own["x"].max()]
    figure.add_scatter(
        x=ends,
        y=[mean, mean],
        name=label(reference),
        mode="lines+markers",
        line={"color": NEUTRAL, "width": 3},
        marker={"color": NEUTRAL, "symbol": "line-ns-open", "size": 12},
        legendgroup=reference,
        showlegend=False,
        hovertemplate=f"{third} third of the runs: mean {mean:.3f}<extra></extra>",
        row=2,
        col=1,
    )


FIGURE = FigureSpec(
    name="trust",
    title="Can these times be believed?",
    good="Left of the dotted line at 1 is good.",
    data=data,
    plot=plot,
    note="A row a check of the whole study: what was measured over what it may be. What cannot be judged, for lack of "
    "a control, of seeds or of a live budget, stands at zero without a number and fails nothing. A check can fail left "
    "of its bound: where an arm and its control are told apart by a test, or a measurement began before the machine "
    "was quiet; the table of trust says what was found. Below: the runs of the reference arm by their start, each step "
    "over the median under the same conditions; grey: the means of the first and the last third, which drift compares.",
    is_of_the_study=True,
)
