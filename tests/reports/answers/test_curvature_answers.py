"""Answers about what diagnostics found, by value."""

import numpy as np
import pytest

from reports.answers import REGISTRY
from reports.answers.fisher_histograms import quantile
from tests.reports.synthetic import array_of, case_of, frames_of, metrics_of


def raced(**tables):
    return frames_of(runs=case_of("", {"adafisher": [0.9, 0.92, None]}, num_steps=200), **tables)


def found(name, **tables):
    return REGISTRY[name].table(raced(**tables))


def test_structure_by_layer_factor_and_moment():
    name = "kronecker_structure/first_linear/H/diagonal_share"
    metrics = [
        row
        for seed, values in enumerate([(0.5, 0.7), (0.6, 0.9), (9.0, 9.0)])  # the last run was lost
        for step, value in zip((100, 200), values, strict=True)
        for row in metrics_of(f"/adafisher{seed}", {name: value}, step)
    ]
    half, end = found("kronecker", metrics=metrics).to_dict("records")
    assert (half["layer"], half["factor"], half["quantity"]) == ("first_linear", "H", "diagonal_share")
    assert (half["moment"], half["mean_frac_of_budget"], half["num_runs"]) == (1, 0.5, 2)
    assert (end["moment"], end["mean"]) == (2, pytest.approx(0.8))
    assert half["std"] == pytest.approx(np.std([0.5, 0.6], ddof=1))


def test_accuracy_of_all_parameters_comes_first():
    names = ["exact/cosine/0.weight", "exact/cosine", "norm_pre/mae/bn.weight"]
    metrics = metrics_of("/adafisher0", {f"fisher_accuracy/{name}": float(n) for n, name in enumerate(names)}, 200)
    frame = found("fisher_accuracy", metrics=metrics)
    assert frame[["comparison", "measure", "parameter", "mean"]].to_numpy().tolist() == [
        ["exact", "cosine", "all", 1.0],
        ["exact", "cosine", "0.weight", 0.0],
        ["norm_pre", "mae", "bn.weight", 2.0],
    ]


def test_quantiles_of_a_histogram():
    edges = np.array([1e-2, 1e-1, 1e0, 1e1])
    assert quantile(np.array([0.0, 4.0, 0.0, 0.0, 0.0]), edges, 0.5) == pytest.approx(-1.5)
    assert quantile(np.array([0.0, 1.0, 3.0, 0.0, 0.0]), edges, 0.5) == pytest.approx(-1 + 1 / 3)
    assert quantile(np.array([9.0, 1.0, 0.0, 0.0, 0.0]), edges, 0.5) == -np.inf
    assert quantile(np.array([0.0, 1.0, 0.0, 0.0, 9.0]), edges, 0.5) == np.inf
    assert np.isnan(quantile(np.zeros(5), edges, 0.5))


def test_histograms_become_decades():
    edges = [1e-2, 1e-1, 1e0]
    arrays = [
        row
        for seed, bins in enumerate([[0, 4, 0, 0], [1, 0, 3, 0]])
        for row in array_of(f"/adafisher{seed}", "fisher_histogram/last_linear/true", bins, 50)
        + array_of(f"/adafisher{seed}", "fisher_histogram/edges", edges, 50)
    ]
    [row] = found("fisher_histograms", arrays=arrays).to_dict("records")
    assert (row["layer"], row["diagonal"], row["num_entries"], row["num_runs"]) == ("last_linear", "true", 4, 2)
    assert row["below_range_share"] == pytest.approx(0.125)
    second = quantile(np.array([1.0, 0.0, 3.0, 0.0]), np.array(edges), 0.5)
    assert row["log10_median"] == pytest.approx((-1.5 + second) / 2)
    assert row["mean_frac_of_budget"] == 0.25


def test_where_two_weights_went():
    arrays = array_of("/adafisher0", "trajectory/weights", [0.0, 0.0], 0)
    arrays += array_of("/adafisher0", "trajectory/weights", [3.0, 0.0], 100)
    arrays += array_of("/adafisher0", "trajectory/weights", [3.0, 4.0], 200)
    arrays += array_of("/adafisher0", "loss_plane/axis", [-1.0, 0.0, 1.0], 200)
    arrays += array_of("/adafisher0", "loss_plane/loss", [[5, 5, 0.5], [5, 2, 5], [5, 5, np.nan]], 200)
    metrics = [
        row for step in (0, 200) for row in metrics_of("/adafisher0", {"trajectory/loss": 2.0 - step / 200}, step)
    ]
    [row] = found("trajectories", arrays=arrays, metrics=metrics).to_dict("records")
    assert (row["seed"], row["num_points"], row["path_length"], row["distance"]) == (0, 3, 7.0, 5.0)
    assert (row["first_loss"], row["last_loss"]) == (2.0, 1.0)
    assert (row["plane_lowest_loss"], row["plane_lowest_w0"], row["plane_lowest_w1"]) == (0.5, -1.0, 1.0)
    assert row["distance_to_lowest"] == pytest.approx(5.0)


def test_a_trajectory_without_a_plane():
    [row] = found("trajectories", arrays=array_of("/adafisher1", "trajectory/weights", [1.0, 2.0])).to_dict("records")
    assert (row["path_length"], row["last_w1"]) == (0.0, 2.0) and np.isnan(row["plane_lowest_loss"])
