import pytest

from reports.figures import time_split
from reports.frames import prepare
from tests.reports.measured import SPLIT, profiled
from tests.reports.synthetic import cases, frames_of


def frames(*profiles):
    return frames_of(runs=[row for row, _ in profiles], metrics=[m for _, metrics in profiles for m in metrics])


def kinds(**seconds):
    return {f"{kind}/forward": value for kind, value in seconds.items()}


def test_an_arm_has_a_bar_and_one_a_kind_of_step_only_if_it_has_both():
    always = profiled("a", SPLIT | kinds(refresh=2.0), arm="adafisher")
    both = profiled("k", SPLIT | kinds(plain=1.0, refresh=9.0), arm="kfac")
    found = time_split.data(frames(always, both))
    assert found.bars[["arm", "steps", "total_ms"]].to_numpy().tolist() == [
        ["adafisher", "all", 10_000],
        ["kfac", "all", 10_000],
        ["kfac", "plain", 1000],
        ["kfac", "refresh", 9000],
    ]
    assert found.bars.loc[0, ["data", "backward", "communication"]].tolist() == [1000, 4000, 500]
    assert found.bars.loc[2, "data"] == 0 and found.num_left_out == 0
    figure = time_split.plot(found)
    assert list(figure.layout.yaxis.ticktext) == ["adafisher", "kfac", "<i>plain steps</i>", "<i>refresh steps</i>"]


def test_parts_differ_in_colour_and_hatch():
    looks = time_split.STYLES.values()
    assert len({color for color, _ in looks}) == len({hatch for _, hatch in looks}) == len(time_split.PARTS)


def test_a_panel_a_place_says_batch_and_workers_where_they_differ():
    one = profiled("1", SPLIT, case="1 worker", num_workers=1, batch_size=64)
    two = profiled("2", SPLIT, case="<b>2</b>", num_workers=2, batch_size=128)
    found = time_split.data(frames(one, two)).bars["heading"].tolist()
    assert sorted(found) == [
        "digits, &lt;b&gt;2&lt;/b&gt;: batch 128 on 2 workers",
        "digits, 1 worker: batch 64 on 1 worker",
    ]
    assert time_split.data(frames(one)).bars["heading"].tolist() == ["digits, 1 worker"]


@pytest.mark.parametrize(
    ("num_places", "arms", "num_bars", "num_wanted"),
    [(4, "ab", 24, 24), (5, "ab", 10, 30), (13, "ab", 24, 78), (9, ["a", "b", "a (control)"], 18, 81)],
    ids=["all fit", "all steps alone", "without the last places", "without controls"],
)
def test_what_does_not_fit_is_counted(num_places, arms, num_bars, num_wanted):
    parts = SPLIT | kinds(plain=1.0, refresh=9.0)
    found = [profiled(f"{i}{arm}", parts, arm=arm, case=f"{i:02}") for i in range(num_places) for arm in arms]
    bars, num_left_out = time_split.data(frames(*found))
    assert (len(bars), num_left_out) == (num_bars, num_wanted - num_bars)
    title = [*time_split.plot(time_split.TimeSplit(bars, num_left_out)).select_xaxes()][-1].title.text
    assert ("more bar" in title) == (num_left_out > 0)


def test_a_part_that_takes_no_time_anywhere_is_not_in_the_legend():
    figure = time_split.FIGURE.draw(prepare(cases()))
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["data", "forward", "backward", "factors", "optimizer step"]


def test_nothing_was_profiled():
    assert not time_split.FIGURE.draw(frames_of()).data
