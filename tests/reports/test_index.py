from reports.frames import prepare
from reports.index import MAX_HEADLINES, Entry, entry_of, render
from tests.reports.searches import searched
from tests.reports.synthetic import TableSet, cases, race_of, run, study

NASTY = '<script>alert("1")</script> & co'
CLEAR = {"adam": [0.99, 0.98, 0.99, 0.985], "sgd": [0.89, 0.88, 0.9, 0.885]}


def entry(tables, planned=None):
    return entry_of("name", "What?", prepare(tables), None if planned is None else range(planned))


def test_says_who_won_or_that_nothing_is_resolved():
    [(title, clear)] = entry(TableSet(runs=race_of(CLEAR))).findings
    assert title == "" and clear.startswith("adam wins: mean test accuracy 0.986")
    [(_, open_)] = entry(TableSet(runs=race_of({"adam": [0.9, 0.8], "sgd": [0.81, 0.87]}))).findings
    assert open_ == "No winner: not resolved; best mean test accuracy 0.85 by adam."
    [(_, lost)] = entry(TableSet(runs=race_of({"adam": [None, 0.8]}))).findings
    assert lost == "No winner: every arm lost race runs (diverged, out of memory or failed)."
    [(_, tuned)] = entry(TableSet(runs=searched("sgd", [({"lr": 0.01}, 0.8)]))).findings
    assert tuned.startswith("Tuned, not raced")


def test_a_finding_a_part_up_to_a_few():
    found = entry(cases(num_cases=7)).findings
    assert found[0][0] == "digits base" and len(found) == MAX_HEADLINES + 1
    assert found[MAX_HEADLINES:] == (("", "and 3 more parts"),)


def test_says_how_far_a_study_is():
    tables = TableSet(runs=[run("a"), run("b", seed=1)])
    assert entry(tables).state == "2 runs"
    assert entry(tables, 2).state == "2 of 2 runs"
    assert entry(tables, 5).state == "2 of 5 runs: not finished"
    assert entry(study()).finished == "2026-03-01 10:06 UTC"
    assert entry(TableSet(), 3).findings == () and entry(TableSet(), 3).finished == ""


def test_a_page_of_relative_links_and_escaped_names():
    html = render([entry(study()), Entry("a b", NASTY), Entry("broken", problem=f"'x' is damaged: {NASTY}")], title="T")
    assert 'href="name/report.html"' in html and 'href="a%20b/report.html"' in html
    assert "<script" not in html and "&lt;script&gt;" in html and "is damaged" in html
    assert "No study has results here yet." in render([], title="T")
