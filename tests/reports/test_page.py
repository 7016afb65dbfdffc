import json
import re

import pytest

from reports.answers import REGISTRY
from reports.figures import FIGURES
from reports.page import render
from reports.provenance import provenance
from tests.reports.searches import entries, searched
from tests.reports.synthetic import TableSet, cases, frames_of, race_of, run, study

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


def test_a_part_a_case_with_its_controls_and_placebos():
    page = own(render(cases(num_cases=2), title="Cases"))
    first, second = page.index("Workload digits, case base</h2>"), page.index("Workload digits, case lr x0.1</h2>")
    assert first < second and page.count('class="plot"') == 2 * len(FIGURES)
    assert "control of sgd: not resolved" in page[first:second]
    assert "over its placebo, SGD by the same steps without the curvature" in page[first:second]
    assert "1 of 15 race runs diverged" in page[first:second] and "diverged: adam" not in page[second:]


def test_many_parts_have_no_figures_and_are_folded_up():
    html = render(cases(num_cases=7), title="Cases")
    assert html.count("<details>") == html.count("</details>") == 7
    assert 'class="plot"' not in html and "plotly.js v" not in html and "newPlot" not in html
    assert html.count("Leaderboard</h2>") == 7 and len(html) < 300_000


def test_answers_come_first_and_are_escaped():
    names = {"adam": NASTY, "adafisher": "adafisher"}
    page = own(render(study(num_trials=2, rename=names), title="Answers", answers=["standings", "memory"]))
    start = page.index("<h2>Standings</h2>")
    assert start < page.index("<h2>Memory</h2>") < page.index("Leaderboard</h2>")
    assert REGISTRY["standings"].question in page and "In all rows: workload digits" in page
    assert "&lt;script&gt;alert(1)" in page[start : page.index("<h2>Memory</h2>")] and "<script>alert" not in page
    assert "Nothing yet." in page[page.index("<h2>Memory</h2>") :]


def test_a_long_answer_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr("reports.page.MAX_ROWS", 3)
    page = own(render(cases(num_cases=7), title="Long", answers=["sensitivity"]))
    answer = page[page.index("<h2>Sensitivity") : page.index("Workload digits")]
    assert answer.count("<tr>") == 1 + 3 and "The first 3 of 40 rows" in answer


@pytest.mark.parametrize("answer", REGISTRY)
@pytest.mark.parametrize("tables", [TableSet(), TableSet(runs=race_of({"sgd": [None]}))], ids=["empty", "all lost"])
def test_every_answer_is_printed_of_what_little_there_is(answer, tables):
    assert REGISTRY[answer].title in render(tables, title="Little", answers=[answer])


def test_an_unknown_answer_is_refused():
    with pytest.raises(ValueError, match="unknown answer 'x'"):
        render(TableSet(), title="Unknown", answers=["x"])
