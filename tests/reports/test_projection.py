import math

import numpy as np
import pytest

from reports.projection import MIN_CUT, MIN_EFFICIENCY, Range, cautions, fit, projections, stops
from tests.reports.synthetic import frames_of, metrics_of, run
from tests.reports.test_scaling import steps

LATENCY_S, BANDWIDTH = 53e-6, 500e6  # of a message; bytes a second
ARMS = {  # seconds of any step, of a sample; collectives and bytes a step
    "sgd": (1e-3, 50e-6, 1.0, 150e3),
    "adafisher": (2e-3, 70e-6, 2.0, 160e3),
    "kfac": (3e-3, 90e-6, 1.1, 900e3),
}
SOLUTION_ERROR = 1e-3  # relative: the solver's tolerance of 1e-6, times how little a parameter counts for in a step


def seconds(arm, workers, batch):
    """The law, written once more."""
    a, b, n, m = ARMS[arm]
    ring = 2 * (workers - 1)  # messages, one after another
    return a + b * batch / workers + n * ring * LATENCY_S + m * ring / workers / BANDWIDTH


def study(conditions, arms=tuple(ARMS), noise=0.0, num_seeds=3, profiled=True):
    """Frames of runs that follow the law."""
    rng = np.random.default_rng(0)
    rows, metrics = [], []
    for arm in arms:
        for workers, batch in conditions:
            factors = np.exp(noise * rng.normal(size=num_seeds))
            rows += steps(arm, workers, batch, 1e3 * seconds(arm, workers, batch) * factors)
            if profiled and workers > 1:
                name = f"{arm}/{workers}/{batch}/profile"
                rows.append(run(name, arm=arm, purpose="profile", num_workers=workers, batch_size=batch))
                counts = dict(zip(("collectives_per_step", "bytes_per_step"), ARMS[arm][2:], strict=True))
                metrics += metrics_of(name, {f"profile/{key}": value for key, value in counts.items()})
    return frames_of(runs=rows, metrics=metrics)


def key(arm):
    return "digits", arm, 1


MANY = [(1, 64), (2, 64), (4, 64), (1, 256), (2, 256), (4, 256), (8, 256)]
FEW = [(1, 64), (2, 64)]
STRONG_AND_WEAK = [(1, 64), (2, 64), (2, 128)]


@pytest.fixture(scope="module")
def exact():
    return fit(study(MANY))


def test_the_constants_are_found_again(exact):
    for arm, (a, b, _, _) in ARMS.items():
        for found, expected in zip(exact.compute(key(arm)), (a, b), strict=True):
            assert found.value == pytest.approx(expected, rel=SOLUTION_ERROR)
            assert found.is_identified
    for found, expected in ((exact.latency, LATENCY_S), (exact.bandwidth, BANDWIDTH)):
        assert found.value == pytest.approx(expected, rel=SOLUTION_ERROR)
        assert found.low <= expected * (1 + SOLUTION_ERROR) and found.high >= expected * (1 - SOLUTION_ERROR)
        assert found.is_identified
    assert exact.errors == pytest.approx(np.zeros(len(MANY) * len(ARMS)), abs=1e-6)
    assert list(cautions(exact)) == []


def test_more_workers_by_the_law(exact):
    found = projections(exact, (8, 64))
    assert {(row.key, row.batch_size, row.num_workers) for row in found} == {
        (key(arm), batch, workers) for arm in ARMS for batch in (64, 256) for workers in (8, 64)
    }
    for row in found:
        expected, one = (seconds(row.key[1], workers, row.batch_size) for workers in (row.num_workers, 1))
        assert row.seconds.value == pytest.approx(expected, rel=SOLUTION_ERROR)
        assert row.seconds.is_identified
        assert row.speedup == pytest.approx(one / expected, rel=SOLUTION_ERROR)
        assert row.efficiency == pytest.approx(one / expected / row.num_workers, rel=SOLUTION_ERROR)


def first(is_reached):
    return next((workers for workers in range(1, 65) if is_reached(workers)), math.inf)


def ends(arm, batch):
    """Where an arm stops paying, by trying."""
    t = [math.nan, *(seconds(arm, workers, batch) for workers in range(1, 129))]
    return first(lambda k: t[2 * k] > (1 - MIN_CUT) * t[k]), first(lambda k: t[1] / (k * t[k]) < MIN_EFFICIENCY)


def test_where_an_arm_stops_paying(exact):
    found = {(stop.key[1], stop.batch_size): stop for stop in stops(exact)}
    assert found.keys() == {(arm, batch) for arm in ARMS for batch in (64, 256)}
    expected = {place: ends(*place) for place in found}
    for place, stop in found.items():
        figures = (stop.saturated, stop.inefficient)
        assert tuple((figure.low, figure.value, figure.high) for figure in figures) == tuple(
            (end,) * 3 for end in expected[place]
        )
    assert len({end for pair in expected.values() for end in pair}) > 3


def test_an_arm_that_always_pays(monkeypatch):
    monkeypatch.setitem(ARMS, "free", (0.0, 50e-6, 1.0, 4.0))
    model = fit(study([(1, 10**6), (2, 10**6), (4, 10**6), (4, 10**5)], ["free"]))
    for stop in stops(model):
        assert (stop.saturated.value, str(stop.saturated)) == (math.inf, "none")
        assert (stop.inefficient.value, str(stop.inefficient)) == (math.inf, "none")


def test_noise_moves_the_projection_little_and_widens_its_range(exact):
    model = fit(study(MANY, noise=0.02, num_seeds=5))
    assert 1e-4 < np.abs(model.errors).max() < 0.04
    pairs = list(zip(projections(model), projections(exact), strict=True))
    for noisy, clean in pairs:
        assert noisy.seconds.value == pytest.approx(clean.seconds.value, rel=0.1)
        assert noisy.seconds.high - noisy.seconds.low > clean.seconds.high - clean.seconds.low
    covered = [noisy.seconds.low <= clean.seconds.value <= noisy.seconds.high for noisy, clean in pairs]
    assert np.mean(covered) > 0.9
    assert model.latency.value == pytest.approx(LATENCY_S, rel=0.15)


def test_one_and_two_workers_identify_nothing_beyond_them():
    model = fit(study(FEW, ["sgd"]))
    assert not model.latency.is_identified and not model.bandwidth.is_identified
    assert str(model.latency).startswith("not identifiable")
    assert not model.compute(key("sgd"))[1].is_identified
    assert model.seconds(key("sgd"), 2, 64).is_identified  # it was measured
    for row in projections(model):
        assert not row.seconds.is_identified
        assert row.seconds.low <= seconds("sgd", row.num_workers, 64) <= row.seconds.high
    [stop] = stops(model)
    saturated, inefficient = ends("sgd", 64)
    assert stop.saturated.low <= saturated <= stop.saturated.high
    assert stop.inefficient.low <= inefficient <= stop.inefficient.high
    assert not stop.saturated.is_identified and str(stop.saturated).startswith("not identifiable")
    said = " ".join(cautions(model))
    for expected in ("1 and 2 workers alone", "latency is not identifiable", "bandwidth is not identifiable"):
        assert expected in said


def test_weak_scaling_tells_computing_from_communication_but_not_latency_from_bandwidth():
    model = fit(study(STRONG_AND_WEAK, ["sgd"]))
    a, b = model.compute(key("sgd"))
    assert (a.value, b.value) == pytest.approx(ARMS["sgd"][:2], rel=SOLUTION_ERROR)
    assert a.is_identified and b.is_identified
    assert not model.latency.is_identified and not model.bandwidth.is_identified
    # all that the two workers lost to each other, as messages or as bytes
    lost = 2 * LATENCY_S + 150e3 / BANDWIDTH
    assert model.latency.high == pytest.approx(lost / 2, rel=SOLUTION_ERROR)
    assert model.bandwidth.low == pytest.approx(150e3 / lost, rel=SOLUTION_ERROR)
    [eight] = projections(model, (8,))
    compute = ARMS["sgd"][0] + ARMS["sgd"][1] * 8
    bounds = compute + 2 * 7 / 8 * lost, compute + 7 * lost  # if it is all bandwidth; if it is all latency
    assert (eight.seconds.low, eight.seconds.high) == pytest.approx(bounds, rel=SOLUTION_ERROR)


def test_arms_that_exchange_differently_tell_latency_from_bandwidth():
    model = fit(study(STRONG_AND_WEAK))
    assert model.latency.value == pytest.approx(LATENCY_S, rel=0.01)
    assert model.bandwidth.value == pytest.approx(BANDWIDTH, rel=0.01)
    assert model.latency.is_identified and model.bandwidth.is_identified
    assert [sentence for sentence in cautions(model) if "assumed, not seen" in sentence]


def test_one_seed_has_an_error_too():
    model = fit(study(STRONG_AND_WEAK, num_seeds=1))
    assert not model.latency.is_identified


def test_points_whose_exchange_was_not_counted_are_left_out():
    model = fit(study(MANY, ["sgd"], profiled=False))
    assert {point.num_workers for point in model.points} == {1}
    assert len(model.left_out) == len([1 for workers, _ in MANY if workers > 1])
    assert "What sgd exchanged was not counted: left out of the model." in list(cautions(model))
    for row in projections(model):
        assert math.isnan(row.seconds.value) and not row.seconds.is_identified
    for stop in stops(model):
        assert str(stop.saturated) == "not identifiable (1 or more)"


def test_nothing_is_no_model():
    model = fit(frames_of())
    assert (projections(model), stops(model)) == ([], [])
    assert next(cautions(model)) == "Nothing was measured: there is no model."


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (Range(8.0, 7.0, 9.0), "8 (7 to 9)"),
        (Range(8.0, 6.0, 9.0), "not identifiable (6 to 9)"),
        (Range(8.0, 6.0, math.inf), "not identifiable (6 or more)"),
        (Range(math.inf, math.inf, math.inf), "none"),
    ],
)
def test_what_a_figure_says(figure, expected):
    assert str(figure) == expected
