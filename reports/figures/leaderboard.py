"""The leaderboard: each arm's result with its interval."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import (
    MAX_AIRY_ROWS,
    ROW_PX,
    ArmStyle,
    FigureSpec,
    arm_rows,
    arm_styles,
    empty,
    label,
    panels,
    row_name,
    row_px,
)
from reports.frames import Frames, Metric, metric_of, race_runs
from reports.race import Standing, standings

QUANTITIES = ("test_metric", "test_loss", "time_to_target_s")


class Leaderboard(NamedTuple):
    """The race as dots.

    Args:
        rows: Columns arm, quantity, mean, low, high, note; in the order of the standings. The mean of the time to
            the target is NaN unless every run reached it.
        seeds: Columns arm, quantity, seed, value: every finite one.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    seeds: pd.DataFrame
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> Leaderboard:
    """Return the estimates and the single seeds of the race."""
    metric, found = metric_of(frames), standings(frames)
    columns = ["arm", "quantity", "mean", "low", "high", "note"]
    rows = pd.DataFrame([row for s in found for row in _rows(s)], columns=columns)
    seeds = race_runs(frames).melt(["arm", "seed"], list(QUANTITIES), var_name="quantity").dropna(subset="value")
    return Leaderboard(rows, seeds, metric, frames.arms)


def plot(board: Leaderboard) -> go.Figure:
    """Return three panels with a row an arm."""
    if board.rows.empty:
        return empty("No race runs yet.")
    titles = (f"test {label(board.metric.name)}", "test loss", "seconds to the target")
    lists = [_shown(board, quantity) for quantity in QUANTITIES]
    shown = [(rows, title) for rows, title in zip(lists, titles, strict=True) if len(rows)]
    heights = [_height(rows) for rows, _ in shown]
    figure = panels(
        [""] * len(shown), [title for _, title in shown], panel_px=sum(heights) // len(shown), row_heights=heights
    )
    styles = arm_styles(board.arms)
    for panel, (rows, _) in enumerate(shown, start=1):
        arm_rows(figure, [row_name(arm, note) for arm, note in zip(rows["arm"], rows["note"], strict=True)], panel)
        for place, row in enumerate(rows.itertuples()):
            is_seed = (board.seeds["arm"] == row.arm) & (board.seeds["quantity"] == row.quantity)
            _add_arm(figure, row, board.seeds[is_seed], styles[str(row.arm)], place=place, panel=panel)
    return figure.update_layout(showlegend=False)


def _shown(board: Leaderboard, quantity: str) -> pd.DataFrame:
    """Return the rows of a panel; among many arms, those that never reached the target have none in its panel."""
    rows = board.rows[board.rows["quantity"] == quantity]
    if quantity != "time_to_target_s" or len(rows) <= MAX_AIRY_ROWS:
        return rows
    return rows[rows["arm"].isin(board.seeds.loc[board.seeds["quantity"] == quantity, "arm"])]


def _height(rows: pd.DataFrame) -> int:
    """Return the height of a panel; names of two lines stand apart however many there are."""
    return (ROW_PX if (rows["note"] != "").any() else row_px(len(rows))) * len(rows) + 10


def _rows(standing: Standing) -> Iterator[tuple[str, str, float, float, float, str]]:
    """Yield the three rows of an arm."""
    lost = f"{standing.num_lost} of {standing.num_runs} runs lost" if standing.num_lost else ""
    for quantity, estimate in (("test_metric", standing.metric), ("test_loss", standing.loss)):
        yield standing.arm, quantity, estimate.mean, estimate.low, estimate.high, lost
    time, reached = standing.time_to_target_s, standing.num_reached
    if reached == standing.num_runs:
        yield standing.arm, "time_to_target_s", time.mean, time.low, time.high, ""
    else:
        note = f"reached in {reached} of {standing.num_runs} runs"
        yield standing.arm, "time_to_target_s", np.nan, np.nan, np.nan, note


def _add_arm(figure: go.Figure, row: Any, seeds: pd.DataFrame, style: ArmStyle, *, place: int, panel: int) -> None:
    """Add an arm's seeds, open and small, and its mean with the interval, full and large."""
    marker = {"color": style.color, "symbol": style.symbol}
    figure.add_scatter(
        x=seeds["value"],
        y=[place + 0.22] * len(seeds),
        mode="markers",
        marker={**marker, "symbol": f"{style.symbol}-open", "size": 6},
        hovertemplate="one seed: %{x:.4g}<extra></extra>",
        row=panel,
        col=1,
    )
    if not np.isfinite(row.mean):
        return
    figure.add_scatter(
        x=[row.mean],
        y=[place],
        mode="markers",
        marker={**marker, "size": 12},
        error_x={"array": [row.high - row.mean], "arrayminus": [row.mean - row.low], "color": style.color},
        hovertemplate=f"mean %{{x:.4g}}, 95 % interval {row.low:.4g} to {row.high:.4g}<extra></extra>",
        row=panel,
        col=1,
    )


FIGURE = FigureSpec(
    name="leaderboard",
    title="Who is best when the budget is spent?",
    good="{metric}; loss and seconds: lower is better.",
    data=data,
    plot=plot,
    note="Large: mean over the seeds with its 95 % interval (Student's t below 10 seeds, BCa bootstrap from 10). "
    "Small: single seeds. The target is one of the validation metric, looked at once an epoch, so that seconds to "
    "it are coarser for arms with costlier epochs. Overlapping intervals do not decide; the paired tests in the tables "
    "do. A lost run (diverged, out of memory, failed) is counted and loses: arms that lost runs stand below those that "
    "did not. Among more than eight arms, those that never reached the target are left out of its panel.",
    is_of_the_race=True,
)
