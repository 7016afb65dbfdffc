import math

import pytest
from scipy import stats as scipy_stats

from reports.scaling import UNKNOWN_ERROR, growth, points
from tests.reports.synthetic import frames_of, metrics_of, run


def steps(arm, workers, batch, milliseconds, **fields):
    """Race rows: what a step took with each seed."""
    return [
        run(
            f"{arm}/{workers}/{batch}/{seed}",
            arm=arm,
            seed=seed,
            num_workers=workers,
            batch_size=batch,
            num_steps=500,
            train_time_s=each * 0.5,
            **fields,
        )
        for seed, each in enumerate(milliseconds)
    ]


def rows_of(found):
    return {(row.kind, row.num_workers, row.batch_size): row for row in found}


def test_strong_scaling_over_common_seeds():
    one, two = [10.0, 11.0, 12.0, 99.0], [6.0, 6.0, 7.0]
    found = rows_of(growth(frames_of(runs=steps("sgd", 1, 64, one) + steps("sgd", 2, 64, two))))
    assert found.keys() == {("strong", 1, 64), ("strong", 2, 64)}
    row, speedups = found["strong", 2, 64], [10 / 6, 11 / 6, 12 / 7]
    low, high = scipy_stats.t.interval(0.95, 2, loc=sum(speedups) / 3, scale=scipy_stats.sem(speedups))
    assert (row.speedup.mean, row.speedup.low, row.speedup.high) == pytest.approx((sum(speedups) / 3, low, high))
    assert row.efficiency.mean == pytest.approx(sum(speedups) / 6)
    assert (row.speedup.n, row.base_workers, row.seconds.mean) == (3, 1, pytest.approx(0.019 / 3))
    assert found["strong", 1, 64].speedup.mean == found["strong", 1, 64].efficiency.mean == 1


def test_weak_scaling_counts_samples():
    rows = steps("sgd", 1, 32, [10.0, 10.0]) + steps("sgd", 2, 64, [12.5, 12.5]) + steps("sgd", 4, 128, [20.0, 20.0])
    found = rows_of(growth(frames_of(runs=rows)))
    assert found.keys() == {("weak", 1, 32), ("weak", 2, 64), ("weak", 4, 128)}
    assert [found["weak", k, 32 * k].speedup.mean for k in (1, 2, 4)] == pytest.approx([1, 1.6, 2])
    assert [found["weak", k, 32 * k].efficiency.mean for k in (1, 2, 4)] == pytest.approx([1, 0.8, 0.5])


def test_without_one_worker_it_is_relative_to_the_fewest():
    found = rows_of(growth(frames_of(runs=steps("sgd", 2, 64, [8.0]) + steps("sgd", 4, 64, [5.0]))))
    row = found["strong", 4, 64]
    assert (row.base_workers, row.speedup.mean, row.efficiency.mean) == (2, pytest.approx(1.6), pytest.approx(0.8))
    assert math.isnan(row.speedup.low)


def test_arms_workloads_and_threads_are_kept_apart():
    rows = steps("sgd", 1, 64, [10.0]) + steps("adam", 2, 64, [6.0])
    rows += steps("sgd", 2, 64, [6.0], num_threads=2)[:1]
    rows[-1]["run_id"] = "threads"
    rows += [{**row, "workload": "iris", "run_id": "other"} for row in steps("sgd", 2, 64, [6.0])]
    assert growth(frames_of(runs=rows)) == []
    assert len(points(frames_of(runs=rows))) == 4


def test_cases_that_differ_in_something_else_are_not_averaged():
    rows = steps("sgd", 1, 64, [10.0]) + steps("adam", 1, 64, [10.0], case="a")
    mixed = [row | {"run_id": f"{row['run_id']} again"} for row in steps("adam", 1, 64, [20.0], case="b")]
    assert [point.key[1] for point in points(frames_of(runs=rows))] == ["adam", "sgd"]
    assert [point.key[1] for point in points(frames_of(runs=rows + mixed))] == ["sgd"]


def test_what_counts_as_measured():
    rows = steps("sgd", 1, 64, [10.0, 11.0]) + steps("sgd (control)", 1, 64, [50.0])
    lost = steps("sgd", 2, 64, [6.0])
    lost[0]["status"] = "failed"
    costs = [
        run("c1", arm="sgd", purpose="calibrate", num_workers=1, batch_size=64, step_s=0.5),  # there are runs
        run("c2", arm="adam foreach=True", purpose="calibrate", num_workers=2, batch_size=64, step_s=0.007),
    ]
    adam = steps("adam", 1, 64, [8.0])
    found = {(p.key[1], p.num_workers): p for p in points(frames_of(runs=rows + lost + costs + adam))}
    assert found.keys() == {("sgd", 1), ("adam", 1), ("adam", 2)}
    assert found["sgd", 1].seconds.tolist() == pytest.approx([0.010, 0.011])
    assert found["sgd", 1].error == pytest.approx(12.706 * 0.0005, rel=1e-4)  # Student's t, std 0.000707 over √2
    assert found["adam", 2].mean == 0.007
    assert found["adam", 2].error == pytest.approx(UNKNOWN_ERROR * 0.007)


def test_what_is_exchanged_comes_from_the_profile():
    rows = [row for k in (1, 2) for row in steps("sgd", k, 64, [10.0])]
    rows.append(run("p", arm="sgd", purpose="profile", num_workers=2, batch_size=64))
    counts = {"profile/collectives_per_step": 1.5, "profile/bytes_per_step": 4000.0, "profile/data_s": 9.0}
    one, two = points(frames_of(runs=rows, metrics=metrics_of("p", counts)))
    assert (one.num_workers, one.collectives, one.num_bytes) == (1, 0, 0)
    assert (two.num_workers, two.collectives, two.num_bytes) == (2, 1.5, 4000)
    _, two = points(frames_of(runs=rows))
    assert math.isnan(two.collectives) and math.isnan(two.num_bytes)


def test_nothing():
    assert growth(frames_of()) == []
    assert points(frames_of()) == ()
