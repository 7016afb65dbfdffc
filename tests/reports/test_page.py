import json
import re

import pytest
from markupsafe import escape

from reports.answers import REGISTRY
from reports.figures import FIGURES
from reports.frames import prepare
from reports.page import render
from reports.provenance import provenance
from tests.reports.searches import entries, searched
from tests.reports.synthetic import ARMS, TableSet, case_of, cases, frames_of, race_of, run, study

MAX_BYTES = 8_000_000
NASTY = "<script>alert(1)</script> \"quoted\" & <b>'bold'</b>"


def own(html):
    """The page without plotly.js, whose text is none of ours."""
    return re.sub(r"<script>\s*/\*\*\s*\* plotly\.js.*?</script>", "", html, flags=re.DOTALL)


def answered(tables, names):
    """Answers with their tables, as the command line gives them."""
    return [(REGISTRY[name], REGISTRY[name].table(prepare(tables))) for name in names]


def plan_of(tables, **missing):
    """A plan of the runs that are there and of further ones, by arm."""
    plan = {run_id: ("race", "sgd") for run_id in tables.runs["run_id"]}
    return plan | {f"{arm}-missing{i}": ("race", arm) for arm, number in missing.items() for i in range(number)}


@pytest.fixture(scope="module")
def html():
    tables = study()
    plan, facts = plan_of(tables, sgd=10, adam=2), {"study": {"name": "digits", "seeds": [100, 101]}}
    return render(tables, title="Digits", plan=plan, provenance=facts, answers=answered(tables, ["standings"]))


def test_is_one_small_file_with_plotly_once(html):
    assert len(html.encode()) <= MAX_BYTES
    assert html.count("* plotly.js v") == 1
    assert len(own(html)) < 1_000_000


def test_loads_nothing(html):
    assert set(re.findall(r"(?:src|href)\s*=\s*(\S)", own(html))) <= {'"', "U"}  # links, and one that a script makes
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', own(html)))
    assert not re.search(r"src\s*=|@import|url\(|https?://", own(html))
    assert "default-src 'none'" in html


def test_summary_then_figures_then_tables(html):
    page = own(html)
    figures = [f'<figure id="{name}">' for name in FIGURES if f'<figure id="{name}">' in page]
    of_the_study = [f'<figure id="{name}">' for name, spec in FIGURES.items() if spec.is_of_the_study]
    places = [
        page.index(mark)
        for mark in (
            '<p class="headline">',
            *(mark for mark in figures if mark not in of_the_study),
            *(mark for mark in figures if mark in of_the_study),
            ">Leaderboard<",
            ">Pairs of arms by test accuracy<",
            ">Pairs of arms by test loss<",
            ">Tuning winners<",
            ">Calibration<",
            ">Runs by status<",
            ">Standings<",
            "<h2>Provenance<",
        )
    ]
    assert places == sorted(places)
    assert page.count('class="plot"') == len(figures) >= 9


def test_every_figure_is_drawn_or_named_with_what_it_lacks(html):
    page = own(html)
    drawn = {spec.title for name, spec in FIGURES.items() if f'<figure id="{name}">' in page}
    missing = page[page.index("figures have nothing to show here") : page.index('<section id="tables">')]
    named = {spec.title for spec in FIGURES.values() if f"<li>{escape(spec.title)} " in missing}
    assert drawn | named == {spec.title for spec in FIGURES.values()}
    assert not drawn & named


def test_says_what_is_missing(html):
    assert "68 of 80 planned runs" in html and "Missing runs: race: adam 2 and sgd 10." in html
    tables = study(num_trials=2)
    whole = render(tables, title="Whole", plan=plan_of(tables))
    assert "not finished" not in whole and "28 of 28 planned runs" in whole


def test_tables_carry_what_they_are_sorted_and_saved_by(html):
    page = own(html)
    table = page[page.index('<table data-name="standings">') : page.index("<h2>Provenance<")]
    heads = re.findall(r'<th scope="col">(.*?)</th>', table.partition("</thead>")[0])
    frame = REGISTRY["standings"].table(prepare(study()))
    first = re.findall(r"<t[hd][^>]*?(?: data-v=\"([^\"]*)\")?>", table.partition("<tbody>")[2].partition("</tr>")[0])
    assert float(first[heads.index("Mean test metric")]) == frame["mean_test_metric"].iloc[0]  # in full
    assert page.count("<table data-name=") == page.count("</table>")


def test_arms_can_be_hidden_by_keyboard(html):
    page = own(html)
    boxes = re.findall(r'<input type="checkbox" autocomplete="off" checked value="([^"]+)">', page)
    assert boxes == sorted(ARMS)
    assert 'href="#summary"' in page and page.count('id="summary"') == 1


def test_figures_are_json(html):
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    assert len(blocks) == html.count("<figure id=")
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
    tables = TableSet(runs=[run("a"), run("b", workload="iris")])
    page = own(render(tables, title="Two", plan=plan_of(tables, adam=2)))
    assert "Workload digits" in page and "Workload iris" in page
    assert "2 of 4 planned runs" in page


def test_a_workload_that_was_only_tuned_has_nothing_of_a_race():
    trials = [row | {"workload": "iris"} for row in searched("sgd", [({"lr": 0.01}, 0.8)])]
    page = own(render(TableSet(runs=[*trials, *entries({"sgd": [0.9], "adam": [0.8]})]), title="Transfer"))
    summaries, _, rest = page.partition('<section id="figures">')
    assert summaries.index("Workload digits") < summaries.index("Tuned, not raced") < len(summaries)
    tuned = rest[rest.rindex('<h2 class="part">Workload iris') : rest.index('<section id="tables">')]
    drawn = re.findall(r'<figure id="([a-z_]+)-1">', tuned)
    assert drawn and not any(FIGURES[name].is_of_the_race for name in drawn)
    tables = rest[rest.rindex("<span>Workload iris</span>") : rest.index('<section id="provenance">')]
    assert ">Tuning winners<" in tables
    assert not re.search("No winner|Leaderboard|Pairs of arms|No race runs", tables)


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
    summaries, _, rest = page.partition('<section id="figures">')
    first, second = summaries.index("Workload digits, case base<"), summaries.index("Workload digits, case lr x0.1<")
    assert first < second
    base, other = summaries[first:second], summaries[second:]
    assert "over its placebo, SGD by the same steps without the curvature" in base
    assert "1 of 15 race runs diverged" in base and "diverged: adam" not in other
    assert "control of sgd: not resolved" in rest
    assert 'id="leaderboard"' in rest and 'id="leaderboard-1"' in rest


@pytest.mark.parametrize(
    ("most", "names"), [(3, {"leaderboard", "placebo", "time_curves"}), (2, set())], ids=["many", "too many"]
)
def test_of_many_parts_few_figures_are_drawn_each(monkeypatch, most, names):
    monkeypatch.setattr("reports.page.MAX_DRAWN", 2)
    monkeypatch.setattr("reports.page.MAX_BRIEF", most)
    html = render(cases(num_cases=3, num_seeds=2), title="Cases")
    ids = re.findall(r'<figure id="([a-z_]+)', html)
    assert {name for name in ids if not FIGURES[name].is_of_the_study} == names
    assert any(FIGURES[name].is_of_the_study for name in ids)
    assert html.count(">Leaderboard<") == 3 and len(html) < 8_000_000


def test_several_races_are_summed_up():
    clear, close = {"adam": [0.99, 0.98, 0.985], "sgd": [0.50, 0.51, 0.49]}, {"adam": [0.9, 0.8], "sgd": [0.81, 0.87]}
    page = own(render(TableSet(runs=[*case_of("a", clear), *case_of("b", close)]), title="Two"))
    assert "Of 2 races adam wins 1; 1 are not resolved." in page
    page = own(render(TableSet(runs=[*case_of("a", close), *case_of("b", close)]), title="None"))
    assert "In none of 2 races is an arm resolved to be better than all others." in page


def test_a_page_that_is_full_names_what_is_left_out(monkeypatch):
    monkeypatch.setattr("reports.page.MAX_JSON", 1000)
    page = own(render(study(num_trials=2), title="Full"))
    assert 'class="plot"' not in page and "the page is full: `fisherbench figure` draws it" in page


def test_answers_are_escaped():
    tables = study(num_trials=2, rename={"adam": NASTY, "adafisher": "adafisher"})
    page = own(render(tables, title="Answers", answers=answered(tables, ["standings", "memory"])))
    start = page.index("<h3>Standings</h3>")
    assert start < page.index("<h3>Memory</h3>")
    assert REGISTRY["standings"].question in page and "In all rows: workload digits" in page
    assert "&lt;script&gt;alert(1)" in page[start : page.index("<h3>Memory</h3>")] and "<script>alert" not in page


def test_a_long_answer_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr("reports.page.MAX_ROWS", 3)
    tables = cases(num_cases=2)
    page = own(render(tables, title="Long", answers=answered(tables, ["sensitivity"])))
    answer = page[page.index("<h3>Sensitivity") : page.index('<section id="provenance">')].partition("</table>")[0]
    assert answer.count("<tr>") == 1 + 3 and "The first 3 of 20 rows" in page


@pytest.mark.parametrize("tables", [TableSet(), TableSet(runs=race_of({"sgd": [None]}))], ids=["empty", "all lost"])
def test_every_answer_is_printed_of_what_little_there_is(tables):
    page = render(tables, title="Little", answers=answered(tables, [*REGISTRY]))
    assert all(str(escape(answer.title)) in page for answer in REGISTRY.values())
