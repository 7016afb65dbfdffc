import json
import re

import pytest

from reports.figures import FIGURES
from reports.page import render
from reports.provenance import provenance
from tests.reports.searches import entries, searched
from tests.reports.synthetic import TableSet, frames_of, race_of, run, study

MAX_BYTES = 8_000_000
NASTY = "<script>alert(1)</script> \"quoted\" & <b>'bold'</b>"


def own(html):
    """The page without plotly.js, whose text is none of ours."""
    return re.sub(r"<script>\s*/\*\*\s*\* plotly\.js.*?</script>", "", html, flags=re.DOTALL)


@pytest.fixture(scope="module")
def html():
    return render(study(), title="Digits", planned=80, provenance={"study": {"name": "digits", "seeds": [100, 101]}})


def test_is_one_small_file_with_plotly_once(html):
    assert len(html.encode()) <= MAX_BYTES
    assert html.count("* plotly.js v") == 1
    assert len(own(html)) < 1_000_000


def test_loads_nothing(html):
    assert not re.search(r"(src|href)\s*=", own(html))
    assert not re.search(r"@import|url\(|https?://", own(html))
    assert "default-src 'none'" in html


def test_has_every_figure_and_table_in_order(html):
    page = own(html)
    headings = [
        *(spec.title for spec in FIGURES.values()),
        "Pairs of arms by test accuracy",
        "Pairs of arms by test loss",
    ]
    headings = [
        "Leaderboard</h2>",
        *headings,
        ">Tuning winners<",
        ">Calibration<",
        ">Runs by status<",
        "Provenance</h2>",
    ]
    places = [page.index(heading) for heading in headings]
    assert places == sorted(places)
    assert page.count('class="plot"') == len(FIGURES)
    assert "68 of 80 planned runs" in page and "not resolved" in page


def test_figures_are_json(html):
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    assert len(blocks) == len(FIGURES)
    assert all(json.loads(block)["data"] for block in blocks)


def test_names_are_escaped_everywhere():
    page = own(render(study(num_trials=3, rename={"adam": NASTY}), title=NASTY, provenance={NASTY: NASTY}))
    assert "<script>alert" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    "tables",
    [TableSet(), TableSet(runs=race_of({"sgd": [0.9]})), TableSet(runs=race_of({"sgd": [None], "adam": [None]}))],
    ids=["empty", "one run", "all lost"],
)
def test_renders_what_little_there_is(tables):
    assert "No winner" in render(tables, title="Little")


def test_a_section_a_workload():
    page = own(render(TableSet(runs=[run("a"), run("b", workload="iris")]), title="Two", planned=4))
    assert "Workload digits" in page and "Workload iris" in page
    assert "2 of 4 planned runs" in page


def test_a_workload_that_was_only_tuned_has_nothing_of_a_race():
    trials = [row | {"workload": "iris"} for row in searched("sgd", [({"lr": 0.01}, 0.8)])]
    page = own(render(TableSet(runs=[*trials, *entries({"sgd": [0.9], "adam": [0.8]})]), title="Transfer"))
    raced, tuned = page.index("Workload digits"), page.index("Workload iris")
    assert raced < tuned
    assert "Tuned, not raced" in page[tuned:] and "<h2>Tuning winners</h2>" in page[tuned:]
    assert not re.search("No winner|Leaderboard|Pairs of arms|No race runs", page[tuned:])
    assert page[tuned:].count('class="plot"') == sum(not spec.is_of_the_race for spec in FIGURES.values())


def test_provenance_names_the_parts_of_a_list():
    facts = dict(provenance(frames_of(), {"arms": [{"name": "sgd", "fixed": {"lr": 0.1}}, {"optimizer": "adam"}]}).rows)
    assert facts["arms.sgd.fixed.lr"] == "0.1" and facts["arms.1.optimizer"] == "adam"


def test_provenance_lists_all_values_of_a_fact():
    environments = [json.dumps({"commit": c, "versions": {"torch": "2.9"}}) for c in ("aaa", "bbb")]
    frames = frames_of(runs=[run(str(i), environment=e) for i, e in enumerate(environments)])
    facts = dict(provenance(frames, {"study": {"seeds": [1, 2]}}).rows)
    assert facts["study.seeds"] == "1, 2"
    assert facts["commit"] == "aaa; bbb"
    assert facts["versions.torch"] == "2.9"
    assert facts["Workers"] == "2"
