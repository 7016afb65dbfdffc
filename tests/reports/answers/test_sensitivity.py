import numpy as np
import pytest

from reports.answers import REGISTRY
from tests.reports.synthetic import case_of, frames_of

BASE = {"lr": 0.1, "damping": 0.001, "gamma": 0.8, "batch_size": 64}


def runs():
    """Two decades of lr about the base, one batch size; at the highest lr a seed diverges."""
    rows = case_of("base", {"a": [0.9, 0.92]}, **BASE)
    rows += case_of("lr x0.1", {"a": [0.905, 0.915]}, **BASE | {"lr": 0.01})
    rows += case_of("lr x0.01", {"a": [0.5, 0.6]}, **BASE | {"lr": 0.001})
    rows += case_of("lr x10", {"a": [0.9, None]}, **BASE | {"lr": 1.0})
    rows += case_of("batch 128", {"a": [0.8, 0.8]}, **BASE | {"batch_size": 128, "lr": 0.2})
    return rows


def test_axes_are_found_from_what_differs():
    frame = REGISTRY["sensitivity"].table(frames_of(runs=runs()))
    found = {(row.axis, row.value): row for row in frame.itertuples()}
    assert [*found] == [
        ("batch_size", 64.0),
        ("batch_size", 128.0),
        ("lr", 0.001),
        ("lr", 0.01),
        ("lr", 0.1),
        ("lr", 1.0),
        ("seed", 0.0),
        ("seed", 1.0),
    ]
    hot = found["lr", 1.0]
    assert (hot.case, hot.num_runs, hot.num_lost, hot.diverged_share) == ("lr x10", 2, 1, 0.5)
    assert hot.mean_test_metric == 0.9 and np.isnan(hot.std_test_metric)
    assert found["lr", 0.1].mean_test_metric == pytest.approx(0.91)
    assert found["seed", 1.0].mean_test_metric == pytest.approx(0.92)


def test_scalars_of_an_axis():
    frame = REGISTRY["stability"].table(frames_of(runs=runs())).set_index("axis")
    lr = frame.loc["lr"]
    assert lr["basin_width_decades"] == pytest.approx(1.0)  # 0.01 to 0.1: at 1.0 a run was lost
    assert (lr["lowest_value"], lr["highest_value"], lr["num_values"]) == (0.001, 1.0, 4)
    assert (lr["best_test_metric"], lr["worst_test_metric"]) == pytest.approx((0.91, 0.55))
    assert lr["worst_over_best"] == pytest.approx(0.55 / 0.91)
    assert lr["diverged_share"] == pytest.approx(1 / 8)
    assert lr["std_over_seeds_at_base"] == pytest.approx(np.std([0.9, 0.92], ddof=1))
    assert np.isnan(frame.loc["seed", "basin_width_decades"])
    assert frame.loc["seed", "best_value"] == 1.0


def test_without_a_base_case_there_is_no_axis():
    frame = frames_of(runs=case_of("lr x10", {"a": [0.9]}, lr=1.0))
    assert REGISTRY["sensitivity"].table(frame).empty and REGISTRY["stability"].table(frame).empty


def test_an_axis_on_which_all_is_lost_has_no_best():
    rows = case_of("base", {"a": [None]}, **BASE) + case_of("hot", {"a": [None]}, **BASE | {"lr": 9.0})
    row = REGISTRY["stability"].table(frames_of(runs=rows)).set_index("axis").loc["lr"]
    assert row[["best_value", "best_test_metric", "worst_test_metric", "basin_width_decades"]].isna().all()
    assert row["diverged_share"] == 1.0
