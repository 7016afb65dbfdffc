import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from reports.figures import (
    FIGURES,
    bands,
    base,
    epoch_time,
    history,
    leaderboard,
    markdown,
    memory,
    sensitivity,
    spread,
    time_curves,
    tuning,
)
from reports.frames import Frames, parts, prepare
from tests.reports.drawn import frames_for
from tests.reports.searches import LRS, many, pruned, searched
from tests.reports.synthetic import frames_of, race_of, run, study, tune_of

ALL_LOST = {
    "runs": [*race_of({"sgd": [None, None]}), *tune_of("sgd", [({"lr": 0.1}, None), ({"lr": 1.0}, None)])],
    "epochs": [{"run_id": "sgd0", "attempt": 1, "budget_time_s": 1.0, "epoch": 1.0, "val_loss": None}],
}
ONE_RUN = {
    "runs": race_of({"sgd": [0.9]}),
    "epochs": [
        {"run_id": "sgd0", "attempt": 1, "budget_time_s": 1.0, "epoch": 1.0, "val_loss": 0.5, "val_metric": 0.9}
    ],
}
STUDIES = {
    "empty": frames_of(),
    "one run": frames_of(**ONE_RUN),
    "one trial": frames_of(runs=tune_of("sgd", [({"lr": 0.1}, 0.9)])),
    "all lost": frames_of(**ALL_LOST),
    "all alike": frames_of(
        runs=[
            *race_of({"sgd": [0.1, 0.1, 0.1], "adam": [0.1, 0.1, 0.1]}),
            *searched("sgd", [({"lr": 0.01 * i, "momentum": 0.1 * i}, 0.1) for i in range(1, 10)]),
        ]
    ),
    "no numbers": frames_of(
        runs=[
            *race_of({"sgd": [np.nan, np.inf], "adam": [-np.inf, 0.5]}, train_time_s=np.inf, budget_time_s=np.nan),
            *searched("sgd", [({"lr": "x", "momentum": None}, np.nan), ({"lr": "y"}, 0.5)]),
            run("broken", hyperparameters="{", search_space="[", environment="}", purpose="tune", val_metric=0.2),
        ]
    ),
    "whole": prepare(study()),
    "many arms": prepare(many()),
    "three sources, a grid": prepare(many(num_arms=2, sources=("", " (default)", " (transferred)"), grid=True)),
}


@pytest.mark.parametrize("spec", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("frames", STUDIES.values(), ids=STUDIES)
def test_draws_anything(spec, frames):
    figure = spec.draw(frames)
    assert isinstance(figure, go.Figure)
    assert figure.data or figure.layout.annotations[0].text  # an empty figure says what is missing


@pytest.mark.parametrize("spec", FIGURES.values(), ids=FIGURES)
def test_a_study_that_has_what_it_shows_is_drawn_with_titled_axes(spec):
    frames = frames_for(spec.name)
    figure = spec.draw(frames if spec.is_of_the_study else next(parts(frames)).frames)
    assert figure.data
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert titles[-1]


@pytest.mark.parametrize("spec", FIGURES.values(), ids=FIGURES)
def test_says_what_is_good_and_how_to_read_it(spec):
    assert spec.title.endswith("?") and spec.good.endswith(".") and spec.note.endswith(".")
    assert spec.good.replace("{metric}", "").count("{") == 0


def renamed(frames, workload):
    """The same study with names that plotly would take for mark-up; what names mean to figures stays."""
    runs = frames.runs.assign(workload=workload)
    runs["arm"] = [re.sub(r"^(adam|adafisher)\b", r"<s>\1</s>", arm) for arm in runs["arm"]]
    runs["case"] = [case if case in {"", "base"} else f"<s>{case}</s>" for case in runs["case"]]
    arms = tuple(sorted(runs["arm"].unique()))
    return Frames(runs, frames.epochs, frames.steps, frames.metrics, frames.arrays, arms=arms)


def printed(value):
    """Yield what plotly may print of a figure: every string but those that only group traces."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for key, part in value.items() if key != "legendgroup" for text in printed(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in printed(part))


@pytest.mark.parametrize("spec", FIGURES.values(), ids=FIGURES)
def test_names_are_escaped_in_plotly_text(spec):
    workload = "digits" if spec.name == "paper" else "<s>digits</s>"  # which knows workloads by their names
    frames = renamed(frames_for(spec.name), workload)
    figure = spec.draw(frames if spec.is_of_the_study else next(parts(frames)).frames)
    texts = [*printed(json.loads(figure.to_json()))]
    assert figure.data and not [text for text in texts if "<s>" in text]


@pytest.mark.parametrize("color", base.COLORS)
def test_text_on_a_bar_can_be_read(color):
    def luminance(hexadecimal):
        parts_ = [int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts_)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(color), luminance(base.ink_on(color))), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.2, AA


def test_an_arm_keeps_its_style_and_no_two_share_one():
    styles = base.arm_styles([f"arm{i}" for i in range(35)])
    assert len({(s.color, s.dash) for s in styles.values()}) == 35
    whole = STUDIES["whole"]
    expected = base.arm_styles(whole.arms)["adafisher"].color
    for name in ("time_curves", "spread", "history"):
        lines = [t for t in FIGURES[name].draw(whole).data if t.name == "adafisher" and t.mode == "lines"]
        assert {t.line.color for t in lines} == {expected}


@pytest.mark.parametrize(
    ("num_arms", "suffixes"), [(14, ["", " (default)", " (transferred)"]), (11, ["", " (default)"]), (42, [""])]
)
def test_styles_of_many_entries_differ(num_arms, suffixes):
    styles = base.arm_styles([f"arm{i}{suffix}" for i in range(num_arms) for suffix in suffixes])
    assert len({(s.color, s.dash) for s in styles.values()}) == num_arms * len(suffixes)


def test_the_usual_arms_look_the_same_on_every_page_and_others_take_free_places():
    few, many_ = (
        base.arm_styles(["adam", "sgd"]),
        base.arm_styles(["adafisher", "adam", "kfac", "mine", "sgd", "yours"]),
    )
    assert few["adam"] == many_["adam"] and few["sgd"] == many_["sgd"]
    twins = base.arm_styles(["adafisher-released", "adafisher_released", "mine"])
    assert len({(style.color, style.dash) for style in twins.values()}) == 3


def test_entries_of_an_arm_share_their_colour_and_a_dash_says_the_source():
    styles = base.arm_styles(["adam", "adam (default)", "sgd", "sgd (default)"])
    assert styles["adam"].color == styles["adam (default)"].color != styles["sgd"].color
    assert [style.dash for style in styles.values()] == ["solid", "dash", "solid", "dash"]


def test_leaderboard_values():
    board = leaderboard.data(frames_of(runs=race_of({"sgd": [0.9, 0.92], "adam": [0.95, None]})))
    rows = board.rows.set_index(["arm", "quantity"])
    assert list(board.rows["arm"].unique()) == ["sgd", "adam"]  # adam lost a run
    assert rows.loc[("sgd", "test_metric"), "mean"] == pytest.approx(0.91)
    assert rows.loc[("adam", "test_metric"), "note"] == "1 of 2 runs lost"
    assert rows.loc[("sgd", "time_to_target_s"), "note"] == "reached in 0 of 2 runs"
    assert len(board.seeds[board.seeds["quantity"] == "test_metric"]) == 3


def test_time_to_target_has_a_mean_only_if_all_reached_it():
    runs = race_of({"sgd": [0.96, 0.97], "adam": [0.96, 0.97]})
    for row, seconds in zip(runs, [2.0, 4.0, 1.0, None], strict=True):
        row["time_to_target_s"] = seconds
    rows = leaderboard.data(frames_of(runs=runs)).rows
    times = rows[rows["quantity"] == "time_to_target_s"].set_index("arm")["mean"]
    assert times["sgd"] == 3.0 and np.isnan(times["adam"])


def test_band_interpolates_within_each_curves_range():
    long, short = pd.DataFrame({"t": [0.0, 2.0], "v": [0.0, 2.0]}), pd.DataFrame({"t": [0.0, 1.0], "v": [1.0, 3.0]})
    line = bands.band([long, short], "t", "v")
    assert line["x"].tolist() == [0.0, 1.0, 2.0]
    assert line["mean"].tolist() == [0.5, 2.0, 2.0]
    assert line["low"].tolist() == [0.0, 1.0, 2.0] and line["high"].tolist() == [1.0, 3.0, 2.0]


def test_band_is_decimated():
    curve = pd.DataFrame({"t": np.arange(5000.0), "v": np.arange(5000.0)})
    line = bands.band([curve], "t", "v")
    assert len(line) == bands.MAX_POINTS
    assert line["mean"].to_numpy() == pytest.approx(line["x"].to_numpy())


def test_curves_mark_the_end_of_lost_runs():
    epochs = [
        {"run_id": "sgd0", "attempt": 1, "budget_time_s": t, "val_loss": loss, "val_metric": 0.5}
        for t, loss in [(1.0, 2.0), (2.0, 9.0), (3.0, float("nan"))]
    ]
    curves = time_curves.data(frames_of(runs=race_of({"sgd": [None]}), epochs=epochs))
    ends = curves.ends.set_index("quantity")
    assert ends.loc["val_loss", ["x", "y"]].tolist() == [2.0, 9.0]


def test_sensitivity_keeps_lost_trials_and_draws_crosses():
    data = sensitivity.data(frames_of(runs=tune_of("sgd", [({"lr": 0.1}, 0.9), ({"lr": 1.0}, None)])))
    assert data.trials["lr"].tolist() == [0.1, 1.0]
    assert data.trials["score"].isna().tolist() == [False, True]
    assert marks_of(sensitivity.plot(data)) == [(1.0, "x")]


def marks_of(figure):
    """The marks in the strip below the scores."""
    strip = [t for t in figure.data if t.yaxis == "y2"]
    return [pair for t in strip for pair in zip(t.x, t.marker.symbol, strict=True)]


def test_a_pruned_trial_is_in_the_strip_and_has_no_score():
    good, early = searched("sgd", [({"lr": 0.01}, 0.9), ({"lr": 0.02}, None)])
    figure = sensitivity.plot(sensitivity.data(frames_of(runs=[good, pruned(early, 0.99)])))
    assert marks_of(figure) == [(0.02, "triangle-down")]
    assert [list(t.y) for t in figure.data if t.showlegend] == [pytest.approx([0.9, np.nan], nan_ok=True)]
    assert "stopped early" in figure.layout.yaxis2.ticktext


def test_the_arms_of_a_grid_stand_beside_each_other_at_each_learning_rate():
    points = [({"lr": lr, "layers": layers}, 0.9) for lr in LRS["lr"]["choices"] for layers in ("paper", "dense")]
    data = sensitivity.data(frames_of(runs=searched("a", points, LRS) + searched("b", points, LRS)))
    places = data.trials.groupby("arm")["x"].unique()
    assert np.log10(places["b"] / places["a"]) == pytest.approx([sensitivity.GRID_SPREAD] * 4)
    axis = sensitivity.plot(data).layout.xaxis
    assert axis.tickvals == tuple(LRS["lr"]["choices"])


def test_scattered_learning_rates_are_drawn_where_they_are():
    runs = [*searched("a", [({"lr": 0.1 + 0.01 * i}, 0.9) for i in range(9)]), *searched("b", [({"lr": 0.1}, 0.9)])]
    trials = sensitivity.data(frames_of(runs=runs)).trials
    assert trials["x"].tolist() == trials["lr"].tolist()


def test_what_is_calibrated_with_options_has_the_colour_of_its_arm():
    frames = STUDIES["many arms"]
    assert "adafisher" in frames.arms and "adafisher update_interval=1" not in frames.arms
    figure = FIGURES["epoch_time"].draw(frames)
    names = list(figure.layout.yaxis.ticktext)
    color = figure.data[0].marker.color[names.index("adafisher update_interval=10")]
    assert color == base.arm_styles(frames.arms)["adafisher"].color


def test_many_arms_that_never_reached_the_target_have_no_row_for_it():
    figure = FIGURES["leaderboard"].draw(STUDIES["many arms"])
    assert [axis.title.text for axis in figure.select_xaxes()] == ["test accuracy", "test loss"]


def test_entries_that_keep_the_same_are_one_row_of_memory():
    runs = [
        run(arm, arm=arm, optimizer_state_bytes=size, parameter_bytes=100)
        for arm, size in [("sgd", 100), ("sgd (default)", 100), ("adam", 200), ("adam (default)", 300)]
    ]
    assert memory.data(frames_of(runs=runs)).rows["arm"].tolist() == ["adam", "adam (default)", "sgd"]


def test_importances_know_categories():
    rng = np.random.default_rng(0)
    points = [({"lr": rng.uniform(0.01, 0.1), "layers": layers}, 0.0) for layers in ("paper", "dense") * 10]
    points = [(p, 0.9 if p["layers"] == "dense" else 0.5) for p, _ in points]
    rows = tuning.data(frames_of(runs=tune_of("sgd", points))).rows.set_index("hyperparameter")["importance"]
    assert rows["layers"] > 0.8


def test_epoch_time_values():
    calibrate = run(
        "c",
        purpose="calibrate",
        step_s=0.01,
        step_s_low=0.009,
        step_s_high=0.012,
        plain_step_s=0.008,
        refresh_step_s=0.03,
    )
    rows = epoch_time.data(frames_of(runs=[calibrate, run("r", num_steps=200, num_epochs=10.0)])).rows
    values = rows.loc[0, ["epoch_s", "epoch_low_s", "epoch_high_s", "plain_ms", "refresh_ms"]].tolist()
    assert values == pytest.approx([0.2, 0.18, 0.24, 8.0, 30.0])


def test_memory_values():
    runs = [run(str(i), optimizer_state_bytes=size, parameter_bytes=100) for i, size in enumerate([0, 200])]
    rows = memory.data(frames_of(runs=runs)).rows
    assert rows.loc[0, ["arm", "state_bytes", "ratio"]].tolist() == ["sgd", 200.0, 2.0]


def test_history_values():
    scores = [None, 0.8, 0.7, 0.9]
    data = history.data(frames_of(runs=tune_of("sgd", [({"lr": 0.1}, s) for s in scores])))
    assert data.trials["best"].tolist()[1:] == [0.8, 0.8, 0.9]
    assert np.isnan(data.trials["best"].iloc[0])
    assert data.trials["count"].tolist() == [1, 2, 3, 4]


def test_history_of_a_loss_goes_down():
    runs = [row | {"metric_goal": "minimize"} for row in tune_of("sgd", [({"lr": 0.1}, s) for s in (3.0, 2.0, 4.0)])]
    assert history.data(frames_of(runs=runs)).trials["best"].tolist() == [3.0, 2.0, 2.0]


def test_importances_find_the_hyperparameter_that_matters():
    rng = np.random.default_rng(0)
    points = [({"lr": 10 ** rng.uniform(-4, 0), "gamma": rng.uniform(0, 1)}, 0.0) for _ in range(24)]
    points = [(p, 0.9 - 0.1 * (np.log10(p["lr"]) + 2) ** 2) for p, _ in points]
    rows = tuning.data(frames_of(runs=tune_of("sgd", points))).rows.set_index("hyperparameter")["importance"]
    assert rows["lr"] > 0.8
    assert rows.sum() == pytest.approx(1.0)


def test_importances_say_what_they_lack():
    few = tune_of("sgd", [({"lr": 0.1 * i, "gamma": 0.1 * i}, 0.9) for i in range(1, 4)])
    single = tune_of("adam", [({"lr": 0.1 * i}, 0.9) for i in range(1, 10)])
    data = tuning.data(frames_of(runs=few + single))
    assert data.rows.empty
    assert "too few trials (3 finished" in data.skipped["sgd"]
    assert data.skipped["adam"] == "fewer than two hyperparameters vary"
    assert "too few trials" in tuning.plot(data).layout.annotations[0].text


def test_spread_values_and_what_the_note_says():
    metrics = [
        {
            "run_id": f"adafisher{seed}",
            "attempt": 1,
            "step": 10,
            "name": "preconditioner_spread_p95_p05",
            "value": value,
        }
        for seed, value in enumerate([2.0, 4.0])
    ]
    data = spread.data(frames_of(runs=race_of({"adafisher": [0.9, 0.9]}), metrics=metrics))
    assert data.lines[["x", "mean", "low", "high"]].to_numpy().tolist() == [[10.0, 3.0, 2.0, 4.0]]
    assert "(1+λ)/λ" in spread.FIGURE.note and "SGD with momentum" in spread.FIGURE.note


def test_every_figure_is_documented():
    page = Path(__file__).parents[2] / "docs" / "reports.md"
    assert markdown() in page.read_text()
