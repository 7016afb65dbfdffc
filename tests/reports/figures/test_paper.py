import pytest

from reports.figures import paper
from tests.reports.synthetic import case_of, frames_of

SCORES = {"sgd": [0.950, 0.952], "adam": [0.940, 0.944], "adafisher": [0.96, None], "adafisher-released": [0.96, 0.97]}
BUDGET = {"budget": "200 epochs of adafisher, calibrated", "budget_seconds": 100.0, "batch_size": 256}


def frames(workload, scores=None, **fields):
    rows = case_of("", scores or SCORES, workload=workload, **(BUDGET | fields))
    costs = {"sgd": 100, "adam": 95, "adafisher": 50}
    return frames_of(
        runs=[
            row | {"num_steps": 10 * costs.get(row["arm"], 80), "num_epochs": costs.get(row["arm"], 80)} for row in rows
        ]
    )


def headings(figure):
    return [note.text for note in figure.layout.annotations]


def test_the_same_workload_is_drawn_number_against_number():
    data = paper.data(frames("cifar10_resnet18_cutout"))
    rows = data.rows[data.rows["quantity"] == "top-1 accuracy (%)"].set_index("arm")
    assert rows["published"].to_dict() == {"sgd": 95.64, "adam": 94.85, "adafisher": 96.25, "adafisher-released": 96.25}
    assert rows["measured"].to_dict() == pytest.approx({
        "sgd": 95.1,
        "adam": 94.2,
        "adafisher": 96.0,
        "adafisher-released": 96.5,
    })
    figure = paper.plot(data)
    assert headings(figure) == [
        "<b>top-1 accuracy (%): same workload</b>",
        "<b>points over Adam, Cutout: same workload</b>",
        "<b>epochs ÷ AdaFisher: same workload</b>",
    ]
    against = {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data if trace.xaxis == "x" and trace.name}
    assert against["sgd"] == (95.64, pytest.approx(95.1))
    assert "1 lost" in next(trace for trace in figure.data if trace.name == "adafisher").customdata[0]


def test_another_workload_is_drawn_in_relative_figures_and_says_so():
    data = paper.data(frames("digits", budget="12s, calibrated"))
    assert set(data.rows["scale"]) == {"another workload: ratios only", "another workload: differences in points only"}
    figure = paper.plot(data)
    assert headings(figure) == [
        "<b>points over Adam: other workload</b>",
        "<b>epochs ÷ AdaFisher: other workload</b>",
    ]
    ticks = next(trace for trace in figure.data if trace.name == "published" and trace.xaxis == "x2")
    assert {1.13, 1.05} <= set(ticks.x)
    rows = figure.layout.yaxis2.ticktext
    assert {"sgd<br><i>÷ adafisher</i>", "sgd<br><i>÷ adafisher-released</i>"} < set(rows) and len(rows) == 4
    assert [trace.name for trace in figure.data if trace.showlegend] == ["published"]


def test_published_numbers_are_drawn_once_however_many_cases_there_are():
    runs = frames("digits").runs.to_dict("records")
    twice = frames_of(runs=[*runs, *(row | {"run_id": f"b{row['run_id']}", "case": "b"} for row in runs)])
    counts = [
        sum(len(trace.x) for trace in paper.FIGURE.draw(each).data if trace.name == name)
        for name in ("published", "sgd")
        for each in (frames("digits"), twice)
    ]
    assert counts[0] == counts[1] and 2 * counts[2] == counts[3]


@pytest.mark.parametrize("scores", [{"sgd": [None, None], "adam": [None, None]}, {"x": [0.9]}])
def test_nothing_that_can_be_compared(scores):
    figure = paper.FIGURE.draw(frames("digits", scores))
    assert not figure.data and "published" in figure.layout.annotations[0].text


def test_one_seed_has_no_interval():
    figure = paper.FIGURE.draw(frames("digits", {"sgd": [0.9], "adam": [0.8]}))
    assert [trace.x[0] for trace in figure.data if trace.name == "sgd"] == pytest.approx([10.0])
