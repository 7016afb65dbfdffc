import numpy as np
import pytest

from reports.figures import win_matrix
from tests.reports.synthetic import case_of, frames_of, race_of

LOW, HIGH = [0.90, 0.91, 0.90, 0.92, 0.91], [0.96, 0.97, 0.965, 0.975, 0.968]
MIDDLE = [0.905, 0.93, 0.915, 0.925, 0.90]


def of(scores):
    return win_matrix.data(frames_of(runs=race_of(scores)))


def test_probabilities_and_verdicts_in_the_order_of_the_standings():
    data = of({"sgd": LOW, "adam": HIGH, "kfac": MIDDLE})
    assert data.arms == ("adam", "kfac", "sgd")
    wins = np.mean([np.sign(a - b) / 2 + 0.5 for a in MIDDLE for b in LOW])
    expected = [[np.nan, 1.0, 1.0], [0.0, np.nan, wins], [0.0, 1 - wins, np.nan]]
    np.testing.assert_allclose(data.probabilities, expected)
    assert data.verdicts[0, 1] == data.verdicts[1, 0] == "resolved"
    assert data.verdicts[1, 2] == "not resolved" and data.verdicts[1, 1] == ""


def test_lost_runs_lose_and_are_not_tested():
    data = of({"sgd": LOW, "adam": [*HIGH[:4], None]})
    assert data.arms == ("sgd", "adam")
    assert data.probabilities[0, 1] == pytest.approx(0.2)
    assert data.verdicts[0, 1] == "not tested: lost runs"
    assert [*win_matrix.plot(data).data[0].text[0]] == ["", "0.20<br>n.t."]


def test_marks_stand_alone_where_there_is_no_room_for_numbers():
    few, many = (of({f"arm{i}": [s + 0.1 * i for s in MIDDLE] for i in range(n)}) for n in (12, 13))
    assert win_matrix.plot(few).data[0].text[0][1] == "1.00"  # equal in five seeds: not resolved
    scores = {f"arm{i:02}": [0.05 * i + 0.001 * np.sin(9 * i + s) for s in range(9)] for i in range(13)}
    assert [*win_matrix.plot(of(scores)).data[0].text[0]] == ["", *["•"] * 12]
    assert [*win_matrix.plot(many).data[0].text[0]] == [""] * 13


def test_a_lower_loss_wins():
    data = win_matrix.data(frames_of(runs=race_of({"a": LOW, "b": HIGH}, metric_goal="minimize")))
    assert data.arms == ("a", "b") and data.probabilities[0, 1] == 1.0


def test_controls_are_left_out_and_one_arm_is_no_matrix():
    data = win_matrix.data(frames_of(runs=case_of("", {"sgd": LOW, "sgd (control)": MIDDLE})))
    assert data.arms == ("sgd",) and not win_matrix.plot(data).data
    assert win_matrix.data(frames_of()).arms == ()


def test_thirty_three_entries_stay_small():
    data = of({f"arm{i}": [None] * 3 if i == 7 else [0.9 + 0.001 * i * s for s in range(3)] for i in range(33)})
    assert len(win_matrix.plot(data).to_json()) < 100_000
