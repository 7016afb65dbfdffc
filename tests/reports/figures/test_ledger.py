import numpy as np
import pytest

from reports.figures import ledger, memory_growth
from tests.reports.measured import PARTS, remembered
from tests.reports.measured import ledger as ledger_of
from tests.reports.synthetic import case_of, frames_of


def test_the_ledger_is_of_the_largest_batch_and_of_the_largest_peak():
    bars = ledger.data(remembered()).bars
    assert bars[["family", "batch_size", "arm"]].to_numpy().tolist() == [
        ["digits", 256, "adam"],
        ["digits", 256, "sgd"],
    ]
    sgd = bars.iloc[1]
    assert (sgd["peak"], sgd["predicted"], sgd["error"]) == (40e6, 30e6, -0.25)
    assert [sgd[part] for part in PARTS] == pytest.approx([4e5 * share for share in PARTS.values()])
    assert (sgd["num_runs"], sgd["num_lost"]) == (2, 0)


def test_a_lost_run_has_a_prediction_and_no_bar():
    found = ledger.data(remembered())
    adam = found.bars.iloc[0]
    assert (adam["predicted"], adam["num_lost"]) == (80e6, 1) and np.isnan(adam["peak"])
    figure = ledger.plot(found)
    (texts,) = (trace.text for trace in figure.select_traces({"mode": "text"}))
    assert [text.strip() for text in texts] == ["1 of 1 lost", "40<br>   error -25.0%"]
    (marks,) = (trace for trace in figure.data if trace.name == ledger.PREDICTED)
    assert list(marks.x) == [80, 30] and figure.layout.xaxis.title.text == "MB at the peak"


def test_categories_differ_in_colour_and_hatch():
    looks = ledger.STYLES.values()
    assert len({color for color, _ in looks}) == len({hatch for _, hatch in looks}) == len(ledger.PARTS)


@pytest.mark.parametrize(
    ("case", "family"),
    [
        ("batch 64", "digits"),
        ("", "digits"),
        ("CNN, batch 64", "digits, CNN"),
        ("batch=64, CNN", "digits, CNN"),
        ("batch size 8; CNN", "digits, CNN"),
        ("minibatch 64x", "digits, minibatch 64x"),
    ],
)
def test_cases_that_differ_in_their_batch_are_one_family(case, family):
    runs = case_of(case, {"sgd": [0.9]}, batch_size=64)
    assert ledger.measured(frames_of(runs=runs, metrics=ledger_of(f"{case}/sgd0", 1.0)))["family"].tolist() == [family]


@pytest.mark.parametrize(
    ("most", "unit"), [(2e9, ("GB", 1e9)), (1e6, ("MB", 1e6)), (2e3, ("kB", 1e3)), (9.0, ("bytes", 1.0))]
)
def test_the_unit_of_so_many_bytes(most, unit):
    assert ledger.unit_of(most) == unit


def test_what_the_ledgers_say_when_nothing_was_measured():
    for frames in (frames_of(), frames_of(runs=case_of("", {"sgd": [0.9]}, optimizer_state_bytes=5))):
        assert ledger.data(frames).bars.empty and memory_growth.data(frames).points.empty
        assert not ledger.FIGURE.draw(frames).data and not memory_growth.FIGURE.draw(frames).data


def test_growth_has_a_point_a_batch():
    rows = memory_growth.data(remembered()).points
    assert rows["arm"].tolist() == ["adam", "adam", "sgd", "sgd"]
    assert rows["batch_size"].tolist() == [64, 256, 64, 256]
    assert rows["peak"].tolist() == pytest.approx([20e6, np.nan, 10e6, 40e6], nan_ok=True)
    assert rows["predicted"].tolist() == pytest.approx([np.nan, 80e6, 11e6, 30e6], nan_ok=True)


def test_growth_crosses_what_no_run_finished():
    figure = memory_growth.FIGURE.draw(remembered())
    open_ = {trace.name: trace for trace in figure.data if trace.mode == "markers" and trace.x[0] is not None}
    assert list(open_["adam"].marker.symbol) == ["x-open"] and list(open_["adam"].y) == [80]
    assert list(open_["adam"].customdata) == [", 1 of 1 runs lost"]
    assert list(open_["sgd"].marker.symbol) == ["circle-open", "circle-open"]
    assert figure.layout.xaxis.tickvals == (64, 256)


def test_one_batch_shows_no_growth():
    runs = case_of("", {"sgd": [0.9]}, batch_size=64)
    frames = frames_of(runs=runs, metrics=ledger_of("/sgd0", 1.0))
    assert len(ledger.data(frames).bars) == 1
    assert memory_growth.data(frames).points.empty


@pytest.mark.parametrize(
    ("num_families", "num_arms", "num_bars"), [(2, 12, 24), (3, 9, 18), (1, 30, 24)], ids=["all", "whole", "one"]
)
def test_families_that_do_not_fit_are_counted(num_families, num_arms, num_bars):
    names = [(f"case {i}", f"arm{j:02}") for i in range(num_families) for j in range(num_arms)]
    runs = [row for case, arm in names for row in case_of(case, {arm: [0.9]}, batch_size=8)]
    metrics = [each for row in runs for each in ledger_of(row["run_id"], 1.0)]
    bars, num_left_out = ledger.data(frames_of(runs=runs, metrics=metrics))
    assert (len(bars), num_left_out) == (num_bars, num_families * num_arms - num_bars)
