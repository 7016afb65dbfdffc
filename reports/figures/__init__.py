"""The figures of a report: an explicit table, in the order of the page."""

from reports.figures import (
    epoch_curves,
    epoch_time,
    history,
    leaderboard,
    memory,
    sensitivity,
    spread,
    time_curves,
    tuning,
)
from reports.figures.base import FigureSpec

FIGURES: dict[str, FigureSpec] = {
    figure.name: figure
    for figure in (
        leaderboard.FIGURE,
        time_curves.FIGURE,
        epoch_curves.FIGURE,
        sensitivity.FIGURE,
        spread.FIGURE,
        history.FIGURE,
        epoch_time.FIGURE,
        tuning.FIGURE,
        memory.FIGURE,
    )
}
