"""What a step and an epoch cost."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from reports.answers import epoch_time as answer
from reports.figures.base import NEUTRAL, FigureSpec, arm_rows, arm_styles, empty, ink_on, label, panels, row_px
from reports.frames import LOST, Frames, calibrated_arm, calibrations
from reports.text import count

COLUMNS = "arm num_workers epoch_s epoch_low_s epoch_high_s plain_ms refresh_ms note".split()
MAX_REACH = 2.0  # of an interval that is drawn, as a multiple of the highest mean


class EpochTime(NamedTuple):
    """The cost of each arm: calibrated, or where nothing was calibrated as its race runs measured it.

    Args:
        rows: Columns arm, num_workers, epoch_s, epoch_low_s, epoch_high_s (NaN if the steps per epoch are unknown, or
            one run has no interval), plain_ms and refresh_ms (NaN without such steps), note (on lost runs).
        is_calibrated: Whether the rows are of calibrations.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    is_calibrated: bool
    arms: tuple[str, ...]


def data(frames: Frames) -> EpochTime:
    """Return the seconds of an epoch and both kinds of step, calibrated if anything was, else measured."""
    costs = calibrations(frames)
    rows = _calibrated(costs) if len(costs) else _measured(frames)
    rows = rows.sort_values(["num_workers", "arm"], ignore_index=True)
    return EpochTime(rows[COLUMNS], len(costs) > 0, frames.arms)


def plot(data: EpochTime) -> go.Figure:
    """Return an epoch's seconds drawn above the milliseconds of plain and refresh steps, where these are known."""
    rows = data.rows
    has_steps = bool(rows[["plain_ms", "refresh_ms"]].notna().any(axis=None))
    if not has_steps and rows["epoch_s"].isna().all():
        return empty("No step times yet, neither calibrated nor of a race run.")
    how = "calibrated" if data.is_calibrated else "measured"
    titles = [f"seconds per epoch, {how}", "milliseconds per step"][: 1 + has_steps]
    weights = [2, 3][: len(titles)]
    panel_px = int(sum(weights) / len(weights) / 2 * row_px(len(rows))) * len(rows) + 20
    figure = panels([""] * len(titles), titles, panel_px=panel_px, row_heights=weights)
    styles = arm_styles(data.arms)
    colors = [styles[calibrated_arm(arm, styles)].color for arm in rows["arm"]]
    places = np.arange(len(rows), dtype="float64")
    _add_bars(figure, places - 0.1, rows["epoch_s"], colors, "%{x:.3g} s", row=1, width=0.5)
    _add_intervals(figure, places + 0.27, rows)
    if has_steps:
        _add_bars(figure, places - 0.2, rows["plain_ms"], colors, "plain %{x:.3g} ms", row=2, width=0.36)
        _add_bars(figure, places + 0.2, rows["refresh_ms"], colors, "refresh %{x:.3g} ms", row=2, width=0.36)
    for row in range(1, 1 + len(titles)):
        arm_rows(figure, _names(rows), row)
    return figure.update_layout(showlegend=False, barmode="overlay")


def _calibrated(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of calibrations: seconds of a step times the steps of an epoch."""
    steps = costs["steps_per_epoch"]
    return pd.DataFrame({
        "arm": costs["arm"],
        "num_workers": costs["num_workers"],
        "epoch_s": costs["step_s"] * steps,
        "epoch_low_s": costs["step_s_low"] * steps,
        "epoch_high_s": costs["step_s_high"] * steps,
        "plain_ms": 1e3 * costs["plain_step_s"],
        "refresh_ms": 1e3 * costs["refresh_step_s"],
        "note": "",
    })


def _measured(frames: Frames) -> pd.DataFrame:
    """Return the rows of race runs: mean and interval over their seeds; steps as profiled, else as sampled."""
    table = answer.table(frames)
    sampled = _sampled(frames)
    lost = zip(table["num_lost"], table["num_runs"], strict=True)
    rows = pd.DataFrame({
        "arm": table["arm"],
        "num_workers": table["num_workers"].astype("float64"),
        "epoch_s": table["mean_epoch_s"],
        "epoch_low_s": table["low_epoch_s"],
        "epoch_high_s": table["high_epoch_s"],
        "note": [f"{few} of {all_} lost" if few else "" for few, all_ in lost],
    })
    for kind in ("plain", "refresh"):
        profiled = 1e3 * table[f"{kind}_p50_s"]
        rows[f"{kind}_ms"] = profiled.fillna(rows["arm"].map(sampled[kind])).astype("float64")
    return rows


def _sampled(frames: Frames) -> dict[str, pd.Series]:
    """Return the median milliseconds of the sampled plain and refresh steps of each arm's race runs, over its runs."""
    runs = frames.runs
    raced = runs[runs["purpose"].isin(("race", "single")) & ~runs["status"].isin(LOST)]
    steps = frames.steps.merge(raced[["run_id", "arm"]], on="run_id")
    kinds = {"plain": steps["is_refresh"] == False, "refresh": steps["is_refresh"] == True}  # noqa: E712  # or null
    found = {}
    for kind, own in kinds.items():
        medians = steps[own.fillna(False).astype(bool)].groupby(["arm", "run_id"])["step_time_ms"].median()
        found[kind] = medians.groupby("arm").median()
    return found


def _names(rows: pd.DataFrame) -> list[str]:
    """Return the names of the rows, with the workers where these differ and what was lost."""
    is_mixed = rows["num_workers"].nunique() > 1
    return [
        "<br>".join(filter(None, (label(arm), _workers(workers) if is_mixed else "", f"<i>{note}</i>" if note else "")))
        for arm, workers, note in rows[["arm", "num_workers", "note"]].itertuples(index=False)
    ]


def _workers(number: float) -> str:
    """Return a number of workers in words; of calibrations in a study whose runs are on several."""
    return count(int(number), "worker") if np.isfinite(number) else ""


def _add_intervals(figure: go.Figure, places: NDArray[np.floating], rows: pd.DataFrame) -> None:
    """Add the intervals of the epochs, below their bars, where no number is written over them."""
    mean, low, high = (rows[name] for name in ("epoch_s", "epoch_low_s", "epoch_high_s"))
    figure.add_scatter(
        x=mean.where(high.notna()),
        y=places,
        mode="markers",
        marker={"color": NEUTRAL, "size": 4},
        error_x={"array": high - mean, "arrayminus": mean - low, "thickness": 1.5, "width": 3, "color": NEUTRAL},
        customdata=np.stack([low, high], axis=1),
        hovertemplate="95 % interval %{customdata[0]:.3g} to %{customdata[1]:.3g} s<extra></extra>",
        row=1,
        col=1,
    )
    reach = min(high.max(), MAX_REACH * mean.max()) if high.notna().any() else mean.max()
    if np.isfinite(reach):
        figure.update_xaxes(range=[0, 1.05 * max(reach, 1.2 * mean.max())], row=1)


def _add_bars(
    figure: go.Figure,
    places: NDArray[np.floating],
    values: pd.Series,
    colors: list[str],
    text: str,
    *,
    row: int,
    width: float,
) -> None:
    """Add horizontal bars with their value written inside or beside them."""
    figure.add_bar(
        x=values,
        y=places,
        orientation="h",
        width=width,
        marker_color=colors,
        texttemplate=text,
        textposition="auto",
        insidetextanchor="start",
        insidetextfont={"color": [ink_on(color) for color in colors]},
        hoverinfo="skip",
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="epoch_time",
    title="What does a step cost?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="Calibrated alone on the machine, the arms taking turns; where nothing was calibrated, as measured in the "
    "race, whose runs may have shared the machine. Above: seconds per epoch with the 95 % interval, of the calibration "
    "or over the seeds that finished; a wide one may end at the edge. Below: a plain step, and a step that refreshes "
    "the curvature factors; an arm without factors has plain steps only. Measured steps are medians, of a profile or "
    "else of the steps that the race sampled, which may all be of one kind. The checks of trust say "
    "whether to believe them.",
)
