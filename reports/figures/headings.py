"""Headings above the panels of a figure, for those that show several things of several places."""

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from reports.figures.base import FRAME_PX

HEADING_PX, LINE_PX = 24, 16
NARROW_PX = 6  # of a letter: headings stay within the figure even where letters are narrow


def add_headings(figure: go.Figure, headings: Sequence[str], names: Iterable[str] = ()) -> go.Figure:
    """Return the figure with a heading above each panel, and the legend above the first heading.

    Args:
        figure: Of :func:`reports.figures.base.panels`, every panel with a title of its x axis, if only a space: there
            is no room else.
        headings: One a panel, from the top, of two lines at most; as plotly prints them.
        names: What stands along the y axes, where these are lists: headings then begin above it, which leaves more
            room on a phone.

    Returns:
        The figure, higher by a heading.
    """
    names = list(names)
    for panel, heading in enumerate(headings, start=1):
        suffix = "" if panel == 1 else str(panel)
        figure.add_annotation(
            text=f"<b>{heading}</b>",
            x=0,
            y=1,
            xref=f"x{suffix} domain",
            yref=f"y{suffix} domain",
            xanchor="left",
            yanchor="bottom",
            align="left",
            xshift=-NARROW_PX * max(map(len, names), default=0),
            font_size=11,
            showarrow=False,
        )
    room = HEADING_PX + LINE_PX * headings[0].count("<br>")
    drawn = max(1, figure.layout.height - FRAME_PX)
    return figure.update_layout(
        height=figure.layout.height + room,
        legend_y=1 + room / drawn,
        margin_t=figure.layout.margin.t + room,
    )
