import numpy as np
import pytest

from reports.figures import epoch_time
from tests.reports.synthetic import frames_of, metrics_of, race_of, run


def timed(arm, seconds, **fields):
    """Race rows of ten epochs of ten steps each, with the seconds of an epoch of each seed; None diverged."""
    scores = [None if each is None else 0.9 for each in seconds]
    rows = race_of({arm: scores}, num_steps=100, num_epochs=10.0, **fields)
    return [row | {"train_time_s": 10.0 * (each or 99.0)} for row, each in zip(rows, seconds, strict=True)]


def steps_of(run_id, milliseconds, is_refresh):
    return [
        {"run_id": run_id, "attempt": 1, "step": i, "step_time_ms": each, "is_refresh": is_refresh}
        for i, each in enumerate(milliseconds)
    ]


def test_without_a_calibration_an_epoch_is_that_of_the_race():
    frames = frames_of(runs=timed("sgd", [1.0, 1.2, 1.1]) + timed("adam", [2.0, None]))
    found = epoch_time.data(frames)
    rows = found.rows.set_index("arm")
    assert not found.is_calibrated
    assert rows.loc["sgd", "epoch_s"] == pytest.approx(1.1)
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert rows.loc["sgd", ["epoch_low_s", "epoch_high_s"]].tolist() == pytest.approx([1.1 - half, 1.1 + half])
    assert rows.loc["adam", "epoch_s"] == 2.0 and np.isnan(rows.loc["adam", "epoch_low_s"])
    assert rows["note"].to_dict() == {"sgd": "", "adam": "1 of 2 lost"}
    figure = epoch_time.plot(found)
    assert [axis.title.text for axis in figure.select_xaxes()] == ["seconds per epoch, measured"]
    assert list(figure.layout.yaxis.ticktext) == ["adam<br><i>1 of 2 lost</i>", "sgd"]


def test_measured_steps_are_of_the_profile_or_else_of_the_sampled_steps():
    profile = run("p", arm="kfac", purpose="profile")
    metrics = metrics_of("p", {"profile/plain_p50_s": 0.002, "profile/refresh_p50_s": 0.02})
    steps = steps_of("kfac0", [50.0], is_refresh=True) + steps_of("adafisher0", [4.0, 5.0, 90.0], is_refresh=True)
    steps += steps_of("adafisher1", [7.0], is_refresh=True) + steps_of("adafisher0", [3.0], is_refresh=False)
    steps += steps_of("adafisher2", [500.0], is_refresh=True) + steps_of("adafisher0", [500.0], is_refresh=None)
    runs = [profile, *timed("kfac", [1.0]), *timed("adafisher", [1.0, 1.0, None])]
    rows = epoch_time.data(frames_of(runs=runs, metrics=metrics, steps=steps)).rows.set_index("arm")
    assert rows.loc["kfac", ["plain_ms", "refresh_ms"]].tolist() == [2.0, 20.0]
    assert rows.loc["adafisher", ["plain_ms", "refresh_ms"]].tolist() == [3.0, 6.0]  # of 5 and 7


def test_a_calibration_goes_before_what_was_measured():
    calibrated = run("c", purpose="calibrate", step_s=0.2, step_s_low=0.1, step_s_high=0.3, plain_step_s=0.2)
    found = epoch_time.data(frames_of(runs=[calibrated, *timed("sgd", [1.0, 1.2])]))
    assert found.is_calibrated
    assert found.rows[["epoch_s", "epoch_low_s", "plain_ms"]].to_numpy().tolist() == [[2.0, 1.0, 200.0]]
    assert epoch_time.plot(found).layout.xaxis.title.text == "seconds per epoch, calibrated"


@pytest.mark.parametrize("runs", [[], timed("sgd", [None]), race_of({"sgd": [0.9]})], ids=["none", "lost", "untimed"])
def test_nothing_to_draw(runs):
    assert not epoch_time.FIGURE.draw(frames_of(runs=runs)).data
