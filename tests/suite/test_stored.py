"""Commands on stored results: files in every format, pages of many studies, pictures."""

import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite import cli
from suite.results import Store
from suite.stored import Stored, studies_in
from tests.suite.rows import long_rows, run_row

PLAN = {"question": "Which?", "run_ids": ["r0", "r1"], "study": {"answers": ["standings"]}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a study of two arms, raced with two seeds each."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results" / "digits", "digits")
    for number, (arm, seed, score) in enumerate([("sgd", 0, 0.9), ("sgd", 1, 0.8), ("adam", 0, 0.7), ("adam", 1, 0.9)]):
        row = run_row(f"r{number}", arm=arm, seed=seed, purpose="race", trial=None, test_metric=score, source="fixed")
        store.write(row, long_rows(score))
    return tmp_path


def query(*arguments):
    assert cli.main(["query", "digits", *arguments]) == 0


def test_a_table_is_written_in_the_format_that_the_file_says(folder, capsys):
    for suffix in ("csv", "json", "parquet", "md", "tex", "txt"):
        query("--columns", "arm,seed,test_metric", "--where", "seed == 0", "--to", f"x.{suffix}")
    assert capsys.readouterr().out == ""
    rows = [{"arm": "sgd", "seed": 0, "test_metric": 0.9}, {"arm": "adam", "seed": 0, "test_metric": 0.7}]
    for frame in (
        pd.read_csv("x.csv"),
        pd.read_parquet("x.parquet"),
        pd.DataFrame(json.loads((folder / "x.json").read_text())),
    ):
        assert frame.to_dict("records") == rows
    assert (
        folder / "x.md"
    ).read_text() == "| Arm | Seed | Test metric |\n| --- | --- | --- |\n| sgd | 0 | 0.9 |\n| adam | 0 | 0.7 |\n"
    assert "adam & 0 & 0.7 \\\\" in (folder / "x.tex").read_text().splitlines()
    assert (folder / "x.txt").read_text().split() == [
        "arm",
        "seed",
        "test_metric",
        "sgd",
        "0",
        "0.9",
        "adam",
        "0",
        "0.7",
    ]


def test_a_given_format_is_stronger_than_the_name(folder):
    query("--columns", "arm", "--format", "csv", "--to", "x.dat")
    assert (folder / "x.dat").read_text() == "arm\nsgd\nsgd\nadam\nadam\n"


def test_parquet_goes_into_a_pipe(capfdbinary, tmp_path):
    query("--format", "parquet")
    (tmp_path / "piped.parquet").write_bytes(capfdbinary.readouterr().out)
    assert pd.read_parquet(tmp_path / "piped.parquet")["arm"].tolist() == ["sgd", "sgd", "adam", "adam"]


def test_parquet_is_not_printed_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert cli.main(["query", "digits", "--format", "parquet"]) == 2
    assert "add --to FILE.parquet" in capsys.readouterr().err


def test_an_answer_is_a_table_like_any_other(capsys):
    query("--table", "standings", "--columns", "arm,mean_test_metric,num_runs", "--format", "csv")
    assert capsys.readouterr().out == "arm,mean_test_metric,num_runs\nsgd,0.8500000000000001,2\nadam,0.8,2\n"


def test_a_report_without_a_plan_shows_all_and_with_one_what_is_planned(folder):
    store = Store("results/digits")
    assert len(Stored.of(store).frames.runs) == 4 and Stored.of(store).planned is None
    store.write_plan(PLAN)
    found = Stored.of(store)
    assert found.frames.runs["run_id"].tolist() == ["r0", "r1"]
    assert found.planned == {"r0": ("run", ""), "r1": ("run", "")} and found.title == "Which?"
    store.write_plan(PLAN | {"run_ids": ["r0", "x"], "runs": {"r0": ["race", "sgd"], "x": ["tune", "adam"]}})
    assert cli.main(["report", "digits"]) == 0
    page = (folder / "results/digits/report.html").read_text()
    assert "1 of 2 planned runs" in page and "Missing runs: tune: adam 1." in page
    assert (folder / "results/digits/answers/standings.csv").read_text().splitlines()[0].startswith("workload,case,")


def test_pages_of_all_studies_and_their_index(folder, capsys):
    shutil.copytree("results/digits", "results/copy")
    Store("results/empty", "empty").create()
    assert cli.main(["report", "--all"]) == 0
    assert [place.name for place in studies_in("results")] == ["copy", "digits", "empty"]
    assert all((folder / "results" / name / "report.html").is_file() for name in ("copy", "digits", "empty"))
    index = (folder / "results/index.html").read_text()
    assert index.count('/report.html"') == 3 and "best mean test accuracy 0.85 by sgd" in index
    assert capsys.readouterr().out.splitlines()[-1] == "index: results/index.html"


def test_a_damaged_study_keeps_no_other_from_the_index(folder, capsys):
    shutil.copytree("results/digits", "results/broken")
    (folder / "results/broken/study.json").write_text("{")
    assert cli.main(["report", "--all", "results"]) == 2
    assert "results/index.html is written, but something is wrong with these studies: broken" in capsys.readouterr().err
    index = (folder / "results/index.html").read_text()
    assert "is damaged" in index and "by sgd" in index


@pytest.mark.parametrize(
    ("change", "shown"),
    [({"schema_version": 99}, "has schema version 99"), ({"study": None}, "is damaged")],
    ids=["newer schema", "no name"],
)
def test_results_that_cannot_be_read_are_said_in_one_line(folder, capsys, change, shown):
    marker = folder / "results/digits/study.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | change))
    for command in ("report", "query"):
        assert cli.main([command, "digits"]) == 2
        error = capsys.readouterr().err
        assert shown in error and len(error.splitlines()) == 1


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")
def test_a_figure_is_written_as_a_picture(folder, capsys):
    assert cli.main(["figure", "digits", "leaderboard", "--to", "board.svg", "--theme", "dark"]) == 0
    assert "#14171a" in (folder / "board.svg").read_text() or "rgb(20, 23, 26)" in (folder / "board.svg").read_text()
    assert capsys.readouterr().out == "figure: board.svg\n"


def test_results_of_an_older_schema_and_newer_ones_make_one_report(folder):
    old = pa.table({"run_id": ["old"], "attempt": [1], "arm": ["sgd"], "purpose": ["race"], "test_metric": [0.95]})
    sink = pa.BufferOutputStream()
    pq.write_table(old.replace_schema_metadata({b"schema_version": b"1"}), sink)
    place = folder / "results/digits/tables"
    place.mkdir()
    (place / "runs.parquet").write_bytes(sink.getvalue().to_pybytes())
    assert cli.main(["report", "digits"]) == 0
    assert "5 runs" in (folder / "results/digits/report.html").read_text()
    query("--columns", "run_id,arm,case", "--where", "case.isna()", "--to", "x.csv")
    assert len(pd.read_csv("x.csv")) == 5
