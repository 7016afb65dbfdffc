import numpy as np
import pytest

from reports.figures import trajectories
from tests.reports.synthetic import array_of, case_of, frames_of, metrics_of

AXIS = np.linspace(-3.0, 3.0, 61)


def way(run_id, points):
    return [
        row for step, point in enumerate(points) for row in array_of(run_id, "trajectory/weights", point, 10 * step)
    ]


def plane(run_id, step=100, offset=0.0):
    losses = AXIS[:, None] + 10 * AXIS[None, :] + offset
    return array_of(run_id, "loss_plane/axis", AXIS, step) + array_of(run_id, "loss_plane/loss", losses, step)


def frames(arrays, ends=None, scores=None, cases=("",)):
    runs = [row for case in cases for row in case_of(case, scores or {"adam": [0.9, 0.9], "sgd": [0.9, None]})]
    metrics = [row for run_id, loss in (ends or {}).items() for row in metrics_of(run_id, {"trajectory/loss": loss})]
    return frames_of(runs=runs, arrays=arrays, metrics=metrics)


def test_paths_of_the_runs_that_finished():
    arrays = way("/adam0", [[0.0, 0.0], [1.0, 2.0]]) + way("/sgd1", [[5.0, 5.0]])
    paths = trajectories.data(frames(arrays)).paths
    assert paths[["arm", "seed", "step", "w0", "w1"]].to_numpy().tolist() == [
        ["adam", 0, 0, 0.0, 0.0],
        ["adam", 0, 10, 1.0, 2.0],
    ]


def test_the_plane_is_that_of_the_lowest_loss_of_the_first_seed_around_the_paths():
    arrays = [row for name in ("/adam0", "/sgd0", "/adam1") for row in way(name, [[-0.5, 0.0], [0.5, 0.2]])]
    arrays += plane("/adam0") + plane("/sgd0", step=50, offset=99.0) + plane("/sgd0", offset=7.0) + plane("/adam1")
    found = trajectories.data(frames(arrays, {"/adam0": 0.5, "/sgd0": 0.4, "/adam1": 0.1}))
    drawn = found.planes["digits", ""]
    assert drawn.arm == "sgd"
    assert drawn.first[[0, -1]] == pytest.approx([-0.7, 0.7])  # a margin of 0.15, and a point beyond it
    assert drawn.second[[0, -1]] == pytest.approx([-0.1, 0.3])
    assert drawn.losses == pytest.approx(drawn.first[:, None] + 10 * drawn.second[None, :] + 7.0)


def test_the_first_weight_goes_to_the_right():
    arrays = way("/adam0", [[-0.5, 0.0], [0.5, 0.2]]) + plane("/adam0")
    contour, path = trajectories.plot(trajectories.data(frames(arrays))).data
    across, up = np.asarray(contour.z)[0], np.asarray(contour.z)[:, 0]
    assert across[1] - across[0] == pytest.approx(0.1, abs=1e-5) and up[1] - up[0] == pytest.approx(1.0, abs=1e-5)
    assert list(path.x) == [-0.5, 0.5] and list(path.y) == [0.0, 0.2]
    assert list(path.marker.symbol) == ["circle-open", "square"]


def test_long_paths_and_wide_planes_are_thinned_out():
    points = [[3 * np.cos(t), 3 * np.sin(t)] for t in np.linspace(0, 3, 500)]
    found = trajectories.data(frames(way("/adam0", points) + plane("/adam0")))
    assert len(found.paths) == trajectories.MAX_POINTS
    assert found.paths["step"].iloc[[0, -1]].tolist() == [0, 4990]
    assert max(found.planes["digits", ""].losses.shape) <= trajectories.MAX_SIDE


def test_cases_are_panels_and_only_the_first_seed_is_thick():
    arrays = [row for case in "abcd" for seed in (0, 1) for row in way(f"{case}/adam{seed}", [[0.0, 0.0], [1.0, 1.0]])]
    data = trajectories.data(frames(arrays, cases=tuple("abcd")))
    figure = trajectories.plot(data)
    assert [note.text for note in figure.layout.annotations] == [f"<b>{c} (no plane was stored)</b>" for c in "abc"]
    assert data.num_left_out == 1
    assert [trace.line.width for trace in figure.data] == [2.5, 1] * 3
    assert [trace.showlegend for trace in figure.data].count(True) == 1


def test_a_single_point_is_a_path():
    assert trajectories.plot(trajectories.data(frames(way("/adam0", [[1.0, 1.0]]) + plane("/adam0")))).data


def test_nothing_to_show():
    figure = trajectories.plot(trajectories.data(frames([])))
    assert not figure.data and "weights" in figure.layout.annotations[0].text
