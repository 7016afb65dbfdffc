"""The figures of a report: an explicit table, in the order of the page."""

from reports.figures import (
    atlas,
    axes,
    best_after_k,
    epoch_curves,
    epoch_time,
    fisher_accuracy,
    fisher_histograms,
    history,
    kronecker,
    leaderboard,
    ledger,
    memory,
    memory_growth,
    paper,
    parallel,
    pareto,
    placebo,
    profiles,
    projection,
    scaling,
    sensitivity,
    spread,
    time_curves,
    time_split,
    time_to_target,
    trajectories,
    trust,
    tuning,
    win_matrix,
)
from reports.figures.base import FigureSpec

FIGURES: dict[str, FigureSpec] = {
    figure.name: figure
    for figure in (
        # the race
        leaderboard.FIGURE,
        win_matrix.FIGURE,
        placebo.FIGURE,
        profiles.FIGURE,
        time_curves.FIGURE,
        epoch_curves.FIGURE,
        time_to_target.FIGURE,
        pareto.FIGURE,
        # stability and the search
        sensitivity.FIGURE,
        sensitivity.DAMPING_FIGURE,
        sensitivity.GAMMA_FIGURE,
        axes.FIGURE,
        atlas.FIGURE,
        history.FIGURE,
        best_after_k.FIGURE,
        tuning.FIGURE,
        parallel.FIGURE,
        # curvature
        spread.FIGURE,
        kronecker.FIGURE,
        fisher_accuracy.FIGURE,
        fisher_histograms.FIGURE,
        trajectories.FIGURE,
        # time and memory
        epoch_time.FIGURE,
        time_split.FIGURE,
        memory.FIGURE,
        ledger.FIGURE,
        memory_growth.FIGURE,
        scaling.FIGURE,
        projection.FIGURE,
        # what to make of it
        trust.FIGURE,
        paper.FIGURE,
    )
}


def markdown() -> str:
    """Return the table of the figures, as ``docs/reports.md`` has it."""
    rows = [f"| `{f.name}` | {f.title} | {'study' if f.is_of_the_study else 'part'} |" for f in FIGURES.values()]
    return "\n".join(["| figure | question | of |", "|---|---|---|", *rows])
