"""Figures as pictures for a paper: PNG, SVG and PDF, drawn by plotly in the Chromium of this machine."""

from pathlib import Path

import plotly.graph_objects as go

SUFFIXES = (".png", ".svg", ".pdf")
THEMES = {  # ink, paper, lines: those of page.css
    "light": ("#1d2126", "#ffffff", "#dde1e5"),
    "dark": ("#e4e7ea", "#14171a", "#363c42"),
}
MIN_WIDTH_PX, MAX_WIDTH_PX = 200, 4000
PNG_SCALE = 3  # 640 pixels become 1920: enough for print


def write_image(figure: go.Figure, place: Path, *, theme: str = "light", width_px: int = 640) -> None:
    """Write a figure as a picture.

    Args:
        figure: Of a report.
        place: Its suffix says the kind; one of :data:`SUFFIXES`.
        theme: ``light`` or ``dark``.
        width_px: Width; the height is the figure's own. A PNG has three times as many pixels each way.

    Raises:
        ValueError: If suffix or theme is unknown, the width out of range, the figure empty, the file cannot be
            written, or there is no Chromium.
    """
    import kaleido
    from choreographer.errors import ChromeNotFoundError

    kind = place.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"unknown kind of picture {place.suffix!r}; known: {', '.join(SUFFIXES)}")
    if not MIN_WIDTH_PX <= width_px <= MAX_WIDTH_PX:
        raise ValueError(f"the width must be {MIN_WIDTH_PX} to {MAX_WIDTH_PX} pixels, but got {width_px}")
    if not figure.data:
        raise ValueError(f"there is nothing to draw: {figure.layout.annotations[0].text}")
    options = {"format": kind[1:], "width": width_px, "height": figure.layout.height}
    try:
        content = kaleido.calc_fig_sync(
            themed(figure, theme), opts=options | {"scale": PNG_SCALE if kind == ".png" else 1}
        )
    except ChromeNotFoundError as error:
        raise ValueError("pictures are drawn by Chromium, and there is none: `make browser` installs it") from error
    try:
        place.write_bytes(content)
    except OSError as error:
        raise ValueError(f"{str(place)!r} cannot be written: {error.strerror}") from error


def themed(figure: go.Figure, theme: str) -> go.Figure:
    """Return a copy of a figure with the colours of text, background and grid that the page gives it.

    Args:
        figure: Of a report.
        theme: ``light`` or ``dark``.

    Returns:
        Another figure.

    Raises:
        ValueError: If the theme is unknown.
    """
    if theme not in THEMES:
        raise ValueError(f"unknown theme {theme!r}; known: {', '.join(THEMES)}")
    ink, paper, line = THEMES[theme]
    copy = go.Figure(figure)
    copy.update_layout(font_color=ink, paper_bgcolor=paper, plot_bgcolor=paper)
    copy.update_xaxes(gridcolor=line, zerolinecolor=line)
    copy.update_yaxes(gridcolor=line, zerolinecolor=line)
    return copy
