"""Where the first two weights of a small network go (Figs 1, 13, Appendix C)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.answers.findings import KEYS, of_the_race
from reports.frames import Frames

COLUMNS = (
    text(*KEYS)
    | counts("seed", "num_points")
    | numbers("first_loss", "last_loss", "path_length", "distance", "first_w0", "first_w1", "last_w0", "last_w1")
    | numbers("plane_lowest_loss", "plane_lowest_w0", "plane_lowest_w1", "distance_to_lowest")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm and seed."""
    weights = of_the_race(frames.arrays, frames, "trajectory/weights")
    losses = of_the_race(frames.metrics, frames, "trajectory/loss")
    planes = of_the_race(frames.arrays, frames, "loss_plane/")
    return frame_of(_rows(weights, losses, planes), COLUMNS)


def _rows(weights: pd.DataFrame, losses: pd.DataFrame, planes: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    for key, own in weights.groupby([*KEYS, "seed", "run_id"]):
        cells = dict(zip([*KEYS, "seed", "run_id"], key, strict=True))
        path = own.pivot(index="step", columns="row", values="value").sort_index().to_numpy(dtype="float64")
        loss = losses[losses["run_id"] == cells["run_id"]].sort_values("step")["value"]
        plane = _lowest(planes[planes["run_id"] == cells["run_id"]])
        yield {
            **cells,
            "num_points": len(path),
            "first_loss": loss.iloc[0] if len(loss) else None,
            "last_loss": loss.iloc[-1] if len(loss) else None,
            "path_length": np.linalg.norm(np.diff(path, axis=0), axis=1).sum(),
            "distance": np.linalg.norm(path[-1] - path[0]),
            **{f"first_w{n}": value for n, value in enumerate(path[0])},
            **{f"last_w{n}": value for n, value in enumerate(path[-1])},
            **_against(plane, path[-1]),
        }


def _lowest(plane: pd.DataFrame) -> tuple[float, NDArray[np.float64]] | None:
    """Return the lowest loss over the plane of the last moment, and where it is."""
    last = plane[plane["step"] == plane["step"].max()]
    axis = last[last["name"] == "axis"].sort_values("row")["value"].to_numpy(dtype="float64")
    losses = last[(last["name"] == "loss") & np.isfinite(last["value"])]
    if losses.empty or not len(axis):
        return None
    best = losses.loc[losses["value"].idxmin()]
    return float(best["value"]), axis[[int(best["row"]), int(best["column"])]]


def _against(lowest: tuple[float, NDArray[np.float64]] | None, end: NDArray[np.float64]) -> dict[str, Any]:
    """Return the cells of the lowest point of the plane."""
    if lowest is None:
        return {}
    loss, place = lowest
    names = ("plane_lowest_loss", "plane_lowest_w0", "plane_lowest_w1", "distance_to_lowest")
    return dict(zip(names, (loss, *place, np.linalg.norm(end - place)), strict=True))


ANSWER = Answer(
    name="trajectories",
    title="Trajectories of two weights",
    question="Where do the two weights of the first layer go under each optimizer, from the same start?",
    table=table,
    note="One row a seed; w0 and w1 are the first layer's two weights at the first and last evaluation. path_length: "
    "of the way between the evaluations, distance: from the first to the last. plane_lowest_loss: over a grid of the "
    "two weights with all other parameters as they are at the end. The whole paths are in the table arrays.",
)
