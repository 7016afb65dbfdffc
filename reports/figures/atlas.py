"""The divergence atlas: where in the plane of learning rate and damping each arm trains, and what happens elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import stats
from reports.figures.base import FigureSpec, empty, label, log_axis, make_room, panels
from reports.frames import Frames, base_arm, metric_of, race_runs, tune_runs

PLANE = ["lr", "damping", "gamma"]
MIN_SETTINGS = 3  # different points of the plane under the same conditions, from which there is something to map
STUCK_FRAC = 0.95  # of the first training loss: a run that ends above it has learned nothing
SPIKY_RATE = 0.05  # of the sampled losses
CONDITIONS = ["batch_size", "num_workers", "num_threads", "budget", "schedule", "initial_weights"]
PLANE_PX, STRIP_PX, GAP_PX, TITLE_PX = 150, 44, 62, 34
MARK_GAP, LINE_GAP, PER_LINE = 0.027, 0.07, 3  # of the axes, between runs at one point
WORDS = {"lr": "lr", "damping": "damping", "gamma": "γ"}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a class of runs is called and drawn: the symbols differ, so that the colours may be missed."""

    name: str
    symbol: str
    color: str
    size: int = 8


KINDS = {
    "good": Kind("within 2 % of the arm's best", "circle", "#009E73"),
    "worse": Kind("worse", "circle-open", "#56B4E9"),
    "stuck": Kind("learned nothing", "square", "#E69F00"),
    "diverged": Kind("diverged", "x", "#D55E00"),
    "out_of_memory": Kind("out of memory", "diamond", "#0072B2"),
    "failed": Kind("failed", "star-triangle-down", "#8A8A8A"),
    "pruned": Kind("stopped early", "triangle-down-open", "#8A8A8A"),
}
RING = Kind("loss spiked", "circle-open", "#CC79A7", size=15)
LEGEND = (*KINDS.values(), RING)


class Atlas(NamedTuple):
    """The maps.

    Args:
        points: Columns map, run (what it is called), lr, damping, gamma (NaN where there is none), score, kind (a key
            of :data:`KINDS`), is_spiky.
        maps: A row a map, indexed by its number: workload, arm, what (``trials`` or ``race runs``), and the basin
            widths lr, damping, gamma in decades, NaN where the setting was not moved or no run has a score.
    """

    points: pd.DataFrame
    maps: pd.DataFrame


POINT_COLUMNS = ["map", "run", *PLANE, "score", "kind", "is_spiky"]


def data(frames: Frames) -> Atlas:
    """Return a map of each arm's trials, and of its race runs if these moved its settings."""
    steps = frames.steps.sort_values("step").groupby("run_id")["loss"]
    spikes, first = steps.agg(stats.spike_rate), steps.first()
    points: list[pd.DataFrame] = []
    maps: list[dict[str, Any]] = []
    for (workload, arm, what), runs in _groups(frames):
        sign = metric_of(frames.only(runs)).sign
        told = runs.assign(
            map=len(maps),
            is_spiky=runs["run_id"].map(spikes).to_numpy(dtype="float64") >= SPIKY_RATE,
            kind=_kinds(runs, runs["run_id"].map(first), sign),
        )
        points.append(told[POINT_COLUMNS])
        widths = {name: _width(runs, name, sign) for name in PLANE}
        maps.append({"workload": workload, "arm": arm, "what": what} | widths)
    found = pd.concat(points, ignore_index=True) if points else pd.DataFrame(columns=POINT_COLUMNS)
    return Atlas(found, pd.DataFrame(maps, columns=["workload", "arm", "what", *PLANE]))


def plot(data: Atlas) -> go.Figure:
    """Return a panel a map: the plane, or a strip over learning rates for an arm without damping."""
    if data.maps.empty:
        return empty("No arm ran at several learning rates under the same conditions.")
    groups = [data.points[data.points["map"] == number] for number in data.maps.index]
    heights = [PLANE_PX if points["damping"].notna().any() else STRIP_PX for points in groups]
    mean_px = sum(heights) // len(heights) + GAP_PX
    titles = [" "] * (len(groups) - 1) + ["learning rate (log)"]  # not empty: leaves room for what stands above a panel
    figure = panels([""] * len(groups), titles, panel_px=mean_px, row_heights=heights)
    named: set[str] = set()
    for row, points in enumerate(groups, start=1):
        _add_map(figure, points, span=_decades(data.points["lr"]), row=row, named=named)
        _add_title(figure, data, row)
    figure.update_xaxes(**log_axis(data.points["lr"]), matches="x")
    figure.update_layout(xaxis_matches=None)  # the first is what the others match
    legend = {"y": 1 + TITLE_PX / (mean_px * len(groups)), "traceorder": "normal"}
    figure.update_layout(showlegend=True, legend=legend, height=figure.layout.height + TITLE_PX)
    return make_room(figure, named)


def _groups(frames: Frames) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yield the runs of one arm that can be compared: its trials, or race runs that differ in the settings alone.

    Args:
        frames: Prepared frames of a whole study.

    Yields:
        Workload, arm and what the runs are, by workload and arm; the runs, with ``score`` and the name ``run``.
    """
    trials, races = tune_runs(frames), race_runs(frames)
    races = races[~races["source"].isin(("control", "placebo"))].assign(score=races["test_metric"])
    kinds = (("trials", "trial", trials, ["case"]), ("race runs", "seed", races, CONDITIONS))
    for what, number, found, apart in kinds:
        runs = found[found["lr"] > 0].assign(
            run=[f"{number} {value:g}" for value in found.loc[found["lr"] > 0, number]]
        )
        runs["arm"] = runs["arm"].map(base_arm)
        for (workload, arm, *_), own in runs.groupby(["workload", "arm", *apart], dropna=False):
            if len(own[PLANE].drop_duplicates()) >= MIN_SETTINGS:
                yield (str(workload), str(arm), what), own


def _kinds(runs: pd.DataFrame, first_loss: pd.Series, sign: int) -> pd.Series:
    """Return the class of each run; the scores are compared within these runs alone."""
    scores = sign * runs["score"]
    kinds = pd.Series("worse", runs.index)
    kinds[scores >= scores.max() - stats.BASIN_TOLERANCE * abs(scores.max())] = "good"
    kinds[runs["train_loss"] >= STUCK_FRAC * first_loss] = "stuck"
    kinds[scores.isna()] = "diverged"  # also what completed without a finite result
    other = runs["status"].isin(("out_of_memory", "failed", "pruned"))
    return kinds.mask(other, runs["status"])


def _width(runs: pd.DataFrame, setting: str, sign: int) -> float:
    """Return the basin width along a setting, NaN if it was not moved."""
    return stats.basin_width(runs[setting], runs["score"], sign=sign) if runs[setting].nunique() > 1 else np.nan


def _decades(values: pd.Series) -> float:
    """Return the decades that the values span; 1 where they are all the same."""
    return float(np.log10(values.max() / values.min())) or 1.0


def _clustered(points: pd.DataFrame, span: float) -> pd.DataFrame:
    """Return the points with ``x`` and ``y``: those at one place of the plane in rows of three, γ ascending.

    Args:
        points: Of one map.
        span: Decades of the axis of learning rates.

    Returns:
        Without any damping, ``y`` is about 1, on a linear axis.
    """
    ordered = points.sort_values(["lr", "damping", "gamma", "run"])
    places = ordered.groupby(["lr", "damping"], dropna=False)["lr"]
    number, count = places.cumcount(), places.transform("size")
    lines = (count - 1) // PER_LINE
    right = number % PER_LINE - np.where(lines > 0, PER_LINE - 1, count - 1) / 2
    up = lines / 2 - number // PER_LINE
    is_plane = ordered["damping"].notna().any()
    damping_up = ordered["damping"] * 10 ** (LINE_GAP * _decades(ordered["damping"]) * up)
    y = damping_up if is_plane else 1 + 3 * LINE_GAP * up
    return ordered.assign(x=ordered["lr"] * 10 ** (MARK_GAP * span * right), y=y)


def _add_map(figure: go.Figure, points: pd.DataFrame, *, span: float, row: int, named: set[str]) -> None:
    """Add the runs of a map class by class, and a ring around those whose loss spiked."""
    is_plane = bool(points["damping"].notna().any())
    placed = _clustered(points, span)
    for key, kind in KINDS.items():
        _add_points(figure, placed[placed["kind"] == key], kind, row=row, named=named)
    _add_points(figure, placed[placed["is_spiky"]], RING, row=row, named=named)
    if is_plane:
        figure.update_yaxes(row=row, title_text="damping λ", **log_axis(points["damping"]))
    else:
        figure.update_yaxes(row=row, visible=False, range=[0, 2])


def _add_points(figure: go.Figure, points: pd.DataFrame, kind: Kind, *, row: int, named: set[str]) -> None:
    """Add the runs of one class, and its entry in the legend if it has none yet."""
    if points.empty:
        return
    figure.add_scatter(
        x=points["x"],
        y=points["y"],
        name=kind.name,
        mode="markers",
        marker={"color": kind.color, "symbol": kind.symbol, "size": kind.size},
        legendgroup=kind.name,
        legendrank=LEGEND.index(kind) + 1,
        showlegend=kind.name not in named,
        customdata=[_told(run) for run in points.itertuples()],
        hovertemplate=f"%{{customdata}}: {kind.name}<extra></extra>",
        hoverinfo="skip" if kind is RING else None,
        row=row,
        col=1,
    )
    named.add(kind.name)


def _told(run: Any) -> str:
    """Return what a run is, as text for its hover."""
    settings = {"lr": run.lr, "λ": run.damping, "γ": run.gamma, "score": run.score}
    known = (f"{name} {value:.3g}" for name, value in settings.items() if np.isfinite(value))
    return ", ".join((label(run.run), *known))


def _add_title(figure: go.Figure, data: Atlas, row: int) -> None:
    """Write above a panel whose map it is, and over how many decades of each setting its arm is good."""
    found, kinds = data.maps.iloc[row - 1], data.points.loc[data.points["map"] == data.maps.index[row - 1], "kind"]
    name = label(found["arm"]) + (f", {label(found['workload'])}" if data.maps["workload"].nunique() > 1 else "")
    widths = [f"{word} {found[key]:.1f}" for key, word in WORDS.items() if np.isfinite(found[key])]
    basin = f"good decades: {', '.join(widths)}" if widths else "no run with a score"
    axis = figure.layout["yaxis" if row == 1 else f"yaxis{row}"]
    figure.add_annotation(
        text=f"<b>{name}</b>, {len(kinds)} {found['what']}<br>{basin}",
        x=0,
        y=axis.domain[1],
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        align="left",
        font_size=11,
        showarrow=False,
    )


FIGURE = FigureSpec(
    name="atlas",
    title="Where does each arm train, and where does it break?",
    good="A large region of full circles is good: the arm forgives wrong settings.",
    data=data,
    plot=plot,
    note="A mark a run at its learning rate and damping; arms without damping have a strip. Runs at the same point "
    "stand together, γ ascending. Scores are compared within a panel only: trials by validation, race runs by test. "
    "Learned nothing: the training loss ended above 95 % of its first value. Loss spiked: at least 5 % of the sampled "
    "losses were above twice the running median. Decades: from the lowest to the highest good value whatever the other "
    "settings, a lower bound with few runs. Conditions under which an arm ran at fewer than three settings are absent. "
    "Panels of different ranges compare the ranges too: only where arms were tried equally widely do widths compare.",
    is_of_the_study=True,
)
