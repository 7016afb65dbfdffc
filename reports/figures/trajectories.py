"""Which way two weights take over the loss, from the same start under each optimizer (Figs 1, 13, Appendix C)."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from reports.answers.findings import of_the_race
from reports.figures.base import NEUTRAL, ArmStyle, FigureSpec, arm_styles, empty, label, make_room, panels
from reports.figures.headings import add_headings
from reports.figures.places import PLACE, Place, left_out, of_place, place_name, places
from reports.frames import Frames

PANEL_PX = 440
MAX_PLACES = 3
MAX_POINTS = 60  # of a path
MAX_SIDE = 41  # points of the plane
MAX_SEEDS = 3
LEVELS = 12  # contours
MARGIN = 0.15  # of the paths' extent, around them

Floats = NDArray[np.float64]


class Plane(NamedTuple):
    """The loss over the two weights, everything else as at the end of one run.

    Args:
        arm: Whose run.
        first: Coordinates of the first weight.
        second: Of the second.
        losses: A row a value of the first weight, a column one of the second.
    """

    arm: str
    first: Floats
    second: Floats
    losses: Floats


class Trajectories(NamedTuple):
    """Paths and planes.

    Args:
        paths: Columns workload, case, arm, seed, step, w0, w1: at most :data:`MAX_POINTS` a run, of the first seeds.
        planes: Of each case that has one: that of the first seed's run with the lowest final loss.
        places: Workload and case of each panel.
        num_left_out: Cases that are not drawn.
        arms: All arms of the study.
    """

    paths: pd.DataFrame
    planes: dict[Place, Plane]
    places: tuple[Place, ...]
    num_left_out: int
    arms: tuple[str, ...]


def data(frames: Frames) -> Trajectories:
    """Return the paths of the runs that finished, and the plane of one of each case."""
    weights = of_the_race(frames.arrays, frames, "trajectory/weights")
    losses = of_the_race(frames.metrics, frames, "trajectory/loss").sort_values("step")
    ends = losses.drop_duplicates("run_id", keep="last").set_index("run_id")["value"]
    stored = of_the_race(frames.arrays, frames, "loss_plane/")
    found = places(frames, weights)
    paths, planes = [], {}
    for place in found[:MAX_PLACES]:
        own = of_place(weights, place)
        own = own[own["seed"].isin(sorted(own["seed"].unique())[:MAX_SEEDS])]
        ways = [_path(run) for _, run in own.groupby(["arm", "seed", "run_id"])]
        paths += ways
        run = _chosen(own, of_place(stored, place), ends)
        if run is not None:
            planes[place] = _plane(stored[stored["run_id"] == run], pd.concat(ways))
    columns = [*PLACE, "arm", "seed", "step", "w0", "w1"]
    table = pd.concat(paths, ignore_index=True)[columns] if paths else pd.DataFrame(columns=columns)
    return Trajectories(table, planes, tuple(found[:MAX_PLACES]), len(found[MAX_PLACES:]), frames.arms)


def plot(data: Trajectories) -> go.Figure:
    """Return a panel a case: contours of the loss, and a path an arm and seed."""
    if data.paths.empty:
        return empty("No run recorded the way of its first two weights.")
    x_titles = [*[" "] * (len(data.places) - 1), f"first weight{left_out(data.num_left_out)}"]
    figure = panels(["second weight"] * len(data.places), x_titles, panel_px=PANEL_PX)
    styles, named = arm_styles(data.arms), set[str]()
    for row, place in enumerate(data.places, start=1):
        if place in data.planes:
            _add_plane(figure, data.planes[place], row)
        paths = of_place(data.paths, place)
        seeds = sorted(paths["seed"].unique())
        for (arm, seed), path in paths.groupby(["arm", "seed"]):
            name = str(arm)
            is_first = seed == seeds[0]
            _add_path(figure, path, name, styles[name], row=row, is_first=is_first, show_name=name not in named)
            named.add(name)
    headings = [_heading(place, data) for place in data.places]
    return add_headings(make_room(figure.update_layout(showlegend=True), named), headings)


def _path(run: pd.DataFrame) -> pd.DataFrame:
    """Return the way of one run, thinned out; its first and last point are kept."""
    way = run.pivot(index="step", columns="row", values="value").sort_index()
    kept = way.iloc[np.unique(np.linspace(0, len(way) - 1, min(len(way), MAX_POINTS)).round().astype(int))]
    points = pd.DataFrame({"step": kept.index, "w0": kept[0].to_numpy(), "w1": kept[1].to_numpy()}).round(4)
    return points.assign(**{name: run[name].iloc[0] for name in (*PLACE, "arm", "seed")})


def _chosen(weights: pd.DataFrame, stored: pd.DataFrame, ends: "pd.Series[float]") -> str | None:
    """Return the run whose plane is drawn: of the first seed that with the lowest final loss."""
    runs = weights.loc[weights["run_id"].isin(stored["run_id"]), ["run_id", "seed", "arm"]].drop_duplicates()
    if runs.empty:
        return None
    first = runs[runs["seed"] == runs["seed"].min()]
    return str(first.assign(end=first["run_id"].map(ends)).sort_values(["end", "arm"])["run_id"].iloc[0])


def _plane(stored: pd.DataFrame, paths: pd.DataFrame) -> Plane:
    """Return the last plane of a run, cut to the extent of the paths and thinned out."""
    last = stored[stored["step"] == stored["step"].max()]
    axis = last[last["name"] == "axis"].sort_values("row")["value"].to_numpy(dtype="float64")
    grid = last[last["name"] == "loss"].pivot(index="row", columns="column", values="value").to_numpy(dtype="float64")
    kept = [_within(axis, paths[name]) for name in ("w0", "w1")]
    return Plane(str(stored["arm"].iloc[0]), axis[kept[0]], axis[kept[1]], grid[np.ix_(*kept)])


def _within(axis: Floats, values: "pd.Series[float]") -> NDArray[np.intp]:
    """Return the places of the coordinates around some values, at most :data:`MAX_SIDE`."""
    margin = MARGIN * float(np.ptp(values)) or 1.0
    inside = (axis >= values.min() - margin) & (axis <= values.max() + margin)
    near = np.flatnonzero(np.convolve(inside, [1, 1, 1], mode="same"))
    return near[:: -(-len(near) // MAX_SIDE) or 1]


def _heading(place: Place, data: Trajectories) -> str:
    """Return what a panel shows."""
    contours = f"contours: {label(data.planes[place].arm)}" if place in data.planes else "no plane was stored"
    name = place_name(place, data.places)
    return f"{name} ({contours})" if name else contours


def _add_plane(figure: go.Figure, plane: Plane, row: int) -> None:
    """Add the contours of the loss."""
    figure.add_contour(
        x=plane.first.astype("float32"),
        y=plane.second.astype("float32"),
        z=plane.losses.T.astype("float32"),
        ncontours=LEVELS,
        contours={"coloring": "none", "showlabels": True, "labelfont": {"size": 9, "color": NEUTRAL}},
        line={"color": NEUTRAL, "width": 0.7},
        showscale=False,
        showlegend=False,
        hovertemplate="loss %{z:.4g} at (%{x:.2f}, %{y:.2f})<extra></extra>",
        row=row,
        col=1,
    )


def _add_path(
    figure: go.Figure, path: pd.DataFrame, arm: str, style: ArmStyle, *, row: int, is_first: bool, show_name: bool
) -> None:
    """Add the way of a run: an open circle at its start, the arm's symbol at its end; other seeds are thin."""
    symbols = ["circle-open", *[style.symbol] * (len(path) - 1)]
    sizes = [9, *[0] * (len(path) - 2), 11] if len(path) > 1 else [9]
    figure.add_scatter(
        x=path["w0"],
        y=path["w1"],
        name=label(arm),
        legendgroup=arm,
        showlegend=show_name,
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 2.5 if is_first else 1},
        marker={"color": style.color, "symbol": symbols, "size": sizes, "line_width": 0},
        opacity=1.0 if is_first else 0.6,
        customdata=path[["step", "seed"]],
        hovertemplate="%{fullData.name}, seed %{customdata[1]}, step %{customdata[0]}: (%{x:.3f}, %{y:.3f})"
        "<extra></extra>",
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="trajectories",
    title="Which way do the weights go, from the same start?",
    good="A way that ends where the contours are lowest is good.",
    data=data,
    plot=plot,
    note="The two weights of the first layer, from the first evaluation (open circle) to the last (the arm's symbol); "
    "all arms of a seed began at one point, before it. The first seed is thick, up to two others are thin. The "
    "contours are the loss with all other weights as at the end of one run: the first seed's of the arm that the "
    "heading names, which reached the lowest loss. The other weights move too, and differently for each arm, so the "
    "contours are right for the end of that one run alone; what the others reached is in the table.",
    is_of_the_race=True,
    is_of_the_study=True,
)
