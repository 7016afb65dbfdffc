import numpy as np
import pytest

from reports.figures import atlas
from reports.frames import prepare
from tests.reports.searches import many, pruned
from tests.reports.synthetic import case_of, frames_of, run, study, tune_of


def losses(run_id, values):
    """Sampled steps of one run."""
    return [{"run_id": run_id, "attempt": 1, "step": i + 1, "loss": value} for i, value in enumerate(values)]


def trials():
    """One of each class at its own learning rate, with dampings."""
    points = [
        ({"lr": 10.0**i}, score) for i, score in zip(range(-6, 1), [0.9, 0.89, 0.5, 0.1, None, None, 0.8], strict=True)
    ]
    rows = [row | {"damping": 1e-3, "train_loss": 0.1} for row in tune_of("a", points)]
    rows[1]["damping"] = 1e-1
    rows[3]["train_loss"] = 2.2
    rows[5]["status"] = "out_of_memory"
    rows[6] = pruned(rows[6], 0.8)
    steps = [row for name in ("a-t0", "a-t2", "a-t3") for row in losses(name, [2.3] + [1.0] * 20)]
    return {"runs": rows, "steps": [*steps, *losses("a-t1", [2.3] + [1.0] * 9 + [9.0])]}


def test_every_class_of_trial():
    data = atlas.data(frames_of(**trials()))
    kinds = "good good worse stuck diverged out_of_memory pruned".split()
    assert data.points["kind"].tolist() == kinds
    assert data.points["is_spiky"].tolist() == [False, True] + [False] * 5
    (found,) = data.maps.to_dict("records")
    assert (found["workload"], found["arm"], found["what"]) == ("digits", "a", "trials")
    assert [found["lr"], found["damping"]] == pytest.approx([1.0, 2.0]) and np.isnan(found["gamma"])


def test_classes_have_different_symbols_and_the_panel_prints_the_basin():
    figure = atlas.plot(atlas.data(frames_of(**trials())))
    symbols = [trace.marker.symbol for trace in figure.data]
    assert len({*symbols} - {"circle-open"}) == len(symbols) - 2  # worse, and the larger ring of what spiked
    assert "7 trials<br>good decades: lr 1.0, damping 2.0" in figure.layout.annotations[0].text
    assert figure.layout.yaxis.type == "log"


def test_race_runs_are_mapped_over_cases_and_by_their_own_conditions():
    rows = case_of("base", {"a": [0.9, 0.91], "a (control)": [0.9, 0.9]}, lr=0.1)
    rows += case_of("hot", {"a": [None, 0.5]}, lr=1.0) + case_of("cold", {"a": [0.9, 0.9]}, lr=0.01)
    rows += case_of("batch", {"a": [0.2, 0.2]}, lr=0.1, batch_size=128)
    data = atlas.data(frames_of(runs=rows))
    assert data.maps["what"].tolist() == ["race runs"] and len(data.points) == 6
    assert data.points.groupby("lr")["kind"].apply(list).to_dict() == {
        0.01: ["good", "good"],
        0.1: ["good", "good"],
        1.0: ["diverged", "worse"],
    }
    assert data.maps["lr"].iloc[0] == pytest.approx(1.0)
    figure = atlas.plot(data)
    assert not figure.layout.yaxis.visible  # no damping: a strip


def test_lower_is_better_and_a_run_without_a_finite_result_is_lost():
    rows = [row | {"metric_goal": "minimize"} for row in tune_of("a", [({"lr": lr}, 3.0) for lr in (0.1, 0.2, 0.3)])]
    rows[0]["val_metric"], rows[1]["val_metric"] = 9.0, np.inf
    assert atlas.data(frames_of(runs=rows)).points["kind"].tolist() == ["worse", "diverged", "good"]


def test_runs_at_one_point_stand_in_rows_of_three():
    rows = tune_of("a", [({"lr": 0.1}, 0.9)] * 4 + [({"lr": 1.0}, 0.9), ({"lr": 0.01}, 0.9)])
    for gamma, row in enumerate(rows):
        row |= {"damping": 0.01 if gamma < 5 else 0.1, "gamma": gamma / 10}
    placed = atlas._clustered(atlas.data(frames_of(runs=rows)).points, span=2.0)
    own = placed[placed["lr"] == 0.1]
    assert np.log10(own["x"] / 0.1).tolist() == pytest.approx([-0.054, 0.0, 0.054, -0.054])
    assert np.log10(own["y"] / 0.01).tolist() == pytest.approx([0.035] * 3 + [-0.035])


def test_eleven_arms_have_a_panel_each_and_stay_small():
    figure = atlas.plot(atlas.data(prepare(many())))
    assert len(figure.layout.annotations) == 11 and len(figure.to_json()) < 150_000
    assert {trace.name for trace in figure.data} >= {"stopped early", "worse"}
    assert atlas.plot(atlas.data(prepare(study()))).data


def test_too_few_settings_are_no_map():
    figure = atlas.plot(
        atlas.data(frames_of(runs=[run("a", lr=0.1, test_metric=0.9), *tune_of("b", [({"lr": 1.0}, 0.9)])]))
    )
    assert not figure.data and "several learning rates" in figure.layout.annotations[0].text


def test_all_lost_is_drawn_and_says_so():
    figure = atlas.plot(atlas.data(frames_of(runs=tune_of("a", [({"lr": lr}, None) for lr in (0.1, 0.2, 0.3)]))))
    assert [trace.name for trace in figure.data] == ["diverged"]
    assert "no run with a score" in figure.layout.annotations[0].text
