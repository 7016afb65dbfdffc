"""Stacked bars of parts that are no arms: light colours, a hatch each, and the whole written behind the bar."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

INK = "#333333"  # of the hatches, on light colours

# Tol's light scheme, which no arm has: (colour, hatch).
YELLOW, CYAN, BLUE = ("#EEDD88", ""), ("#99DDFF", "/"), ("#77AADD", "\\")
ORANGE, PINK, PEAR, GREY = ("#EE8866", "x"), ("#FFAABB", "."), ("#BBCC33", "-"), ("#DDDDDD", "\\")


def hatched(style: tuple[str, str]) -> dict[str, Any]:
    """Return the marker of a part's bars."""
    color, hatch = style
    return {
        "color": color,
        "line": {"color": INK, "width": 0.5},
        "pattern": {"shape": hatch, "bgcolor": color, "fgcolor": INK, "size": 6, "solidity": 0.12},
    }


def add_ends(figure: go.Figure, ends: pd.Series, texts: Sequence[str], *, room: float, panel: int) -> None:
    """Write behind each bar of a panel.

    Args:
        figure: With the bars.
        ends: Where they end.
        texts: One a bar.
        room: Of the axis, over the longest bar.
        panel: Its number, from 1.
    """
    figure.add_scatter(
        x=ends,
        y=list(range(len(ends))),
        mode="text",
        text=texts,
        textposition="middle right",
        showlegend=False,
        hoverinfo="skip",
        row=panel,
        col=1,
    )
    figure.update_xaxes(range=[0, room * ends.max()], row=panel)
