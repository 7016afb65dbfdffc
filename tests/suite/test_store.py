import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite.errors import UsageError
from suite.results import SCHEMA_VERSION, TABLES, Store, load
from suite.results.folder import Folder
from suite.results.query import query, render
from suite.results.schema import arrow_schema, markdown
from tests.suite.rows import START, long_rows, run_row

LONG = ("epochs", "steps", "metrics", "arrays")
SAMPLES = {
    pa.string(): "text",
    pa.int64(): 2**53 + 1,  # no float holds it
    pa.float64(): 0.1,
    pa.bool_(): True,
    pa.timestamp("us", tz="UTC"): datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
}
DTYPES = {
    pa.string(): "object",
    pa.int64(): "Int64",
    pa.float64(): "float64",
    pa.bool_(): "boolean",
    pa.timestamp("us", tz="UTC"): "datetime64[us, UTC]",
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", "tiny")


def snapshot(path):
    return {p.relative_to(path): p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


def whole(uri):
    """The results with every table read now."""
    results = load(uri)
    for table in TABLES:
        getattr(results, table)
    return results


def assert_same(one, two):
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(one, table), getattr(two, table))


def value_of(table, row):
    return {c.name: SAMPLES[c.type] for c in TABLES[table] if c.name not in {"run_id", "attempt"}} | row


def written(results, run_id="r0"):
    """Return what tells the runs apart in each table: the value that they were written with."""
    frames = {table: getattr(results, table) for table in LONG}
    picked = {table: frame[frame["run_id"] == run_id] for table, frame in frames.items()}
    return {
        "epochs": picked["epochs"]["val_loss"].tolist(),
        "steps": picked["steps"]["loss"].tolist(),
        "metrics": picked["metrics"]["value"].tolist(),
        "arrays": picked["arrays"]["value"].tolist(),
    }


@pytest.mark.parametrize("is_folded", [False, True], ids=["written", "folded"])
def test_every_column_comes_back_by_value_and_type(store, is_folded):
    row = value_of("runs", {"run_id": "r0", "attempt": 1})
    store.write(row, {table: [value_of(table, {})] for table in LONG})
    if is_folded:
        store.fold()
    results = load(store.uri)
    for table in TABLES:
        frame = getattr(results, table)
        assert list(frame.columns) == [c.name for c in TABLES[table]]
        assert len(frame) == 1
        for column in TABLES[table]:
            expected = {"run_id": "r0", "attempt": 1}.get(column.name, SAMPLES[column.type])
            assert frame.loc[0, column.name] == expected, column.name
            if column.type != pa.string():
                assert frame[column.name].dtype == DTYPES[column.type], column.name


@pytest.mark.parametrize("is_folded", [False, True], ids=["written", "folded"])
def test_what_is_left_out_is_null(store, is_folded):
    store.write({"run_id": "r0", "attempt": 1}, {"steps": [{"step": 1}]})
    if is_folded:
        store.fold()
    results = store.load()
    assert results.runs.drop(columns=["run_id", "attempt"]).isna().all(axis=None)
    assert results.steps.drop(columns=["run_id", "attempt", "step"]).isna().all(axis=None)
    assert results.runs["num_steps"].dtype == "Int64"
    assert results.steps["is_refresh"].dtype == "boolean"
    assert len(results.epochs) == len(results.metrics) == 0


def test_the_tables_of_a_new_study_are_empty(store):
    store.create()
    results = load(store.uri)
    for table in TABLES:
        assert list(getattr(results, table).columns) == [c.name for c in TABLES[table]]
        assert len(getattr(results, table)) == 0
    assert store.finished() == {}
    assert store.unfolded() == []


UNKNOWN = {
    "runs": ({"colour": 1}, {}, "'runs' has no column colour"),
    "epochs": ({}, {"epochs": [{"step": 1, "colour": 1}]}, "'epochs' has no column colour"),
    "key": ({}, {"metrics": [{"step": 1, "names": "x", "valu": 1}]}, "'metrics' has no column names, valu"),
}


@pytest.mark.parametrize(("run", "long", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_column_is_refused_and_nothing_is_written(store, tmp_path, run, long, message):
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=message):
        store.write(run_row(**run), long)
    assert snapshot(tmp_path) == before


def fill(store, names, value=0.0):
    for name in names:
        store.write(run_row(name), long_rows(value))


def test_folding_changes_nothing_but_the_place(store):
    fill(store, ["b", "a", "c"])
    before = whole(store.uri)
    store.fold()
    assert_same(store.load(), before)
    assert store.unfolded() == []
    assert store.folder.names("tables") == sorted(f"{table}.parquet" for table in TABLES)
    assert store.finished().keys() == {"a", "b", "c"}


def test_folding_adds_to_what_was_folded(store):
    fill(store, ["a", "b"], 1.0)
    store.fold()
    fill(store, ["c"], 2.0)
    before = whole(store.uri)
    assert set(before.runs["run_id"]) == {"a", "b", "c"}
    store.fold()
    assert_same(store.load(), before)
    assert written(store.load(), "a") == {table: [1, 1] for table in LONG}
    assert written(store.load(), "c") == {table: [2, 2] for table in LONG}


def test_folding_nothing_writes_nothing(store, tmp_path):
    fill(store, ["a"])
    store.fold()
    before = snapshot(tmp_path)
    store.fold()
    assert snapshot(tmp_path) == before


class CrashError(Exception):
    pass


NUM_FOLD_OPERATIONS = len(TABLES) + 2  # tables written, files removed


@pytest.mark.parametrize("num_before", range(NUM_FOLD_OPERATIONS))
@pytest.mark.parametrize("kind", ["new", "again", "retried"])
def test_a_crash_while_folding_loses_and_repeats_nothing(store, monkeypatch, num_before, kind):
    fill(store, ["old"], 1.0)
    store.fold()
    fill(store, ["a"], 2.0)
    name, attempt = {"new": ("b", 1), "again": ("old", 1), "retried": ("old", 2)}[kind]
    store.write(run_row(name, attempt), long_rows(3.0))
    before = whole(store.uri)
    operations = iter(range(num_before))

    def crashing(function):
        def call(*arguments):
            if next(operations, None) is None:
                raise CrashError
            function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store.folder, "write", crashing(store.folder.write))
        patch.setattr(store.folder, "remove", crashing(store.folder.remove))
        with pytest.raises(CrashError):
            store.fold()
    after = Store(store.uri)
    assert_same(after.load(), before)
    assert written(after.load(), name) == {table: [3, 3] for table in LONG}
    after.fold()
    assert_same(after.load(), before)
    assert after.unfolded() == []


@pytest.mark.parametrize("table", TABLES)
def test_what_another_process_folds_meanwhile_is_read(store, monkeypatch, table):
    fill(store, ["a"], 1.0)
    store.fold()
    fill(store, ["b", "c"], 2.0)
    before = whole(store.uri)
    reader = Store(store.uri)
    listed = reader.unfolded

    def listed_then_folded():
        found = listed()
        store.fold()
        return found

    monkeypatch.setattr(reader, "unfolded", listed_then_folded)
    pd.testing.assert_frame_equal(getattr(reader.load(), table), getattr(before, table))


def test_tables_are_read_when_they_are_asked_for(store, monkeypatch):
    fill(store, ["a"])
    store.fold()
    reader, names = Store(store.uri), []
    read = reader.folder.read
    monkeypatch.setattr(reader.folder, "read", lambda name: names.append(name) or read(name))
    results = reader.load()
    assert names == []
    assert results.runs["run_id"].tolist() == ["a"]
    assert names == ["tables/runs.parquet"]
    assert results.epochs is results.epochs
    assert names.count("tables/epochs.parquet") == 1 and "tables/steps.parquet" not in names


@pytest.mark.parametrize("fold_between", [False, True], ids=["files", "folded first"])
def test_the_last_attempt_wins(store, fold_between):
    store.write(run_row(attempt=1, status="failed", error="boom"), long_rows(1.0))
    if fold_between:
        store.fold()
    store.write(run_row(attempt=2), long_rows(2.0))
    store.write(run_row("r1"), long_rows(5.0))
    results = whole(store.uri)
    assert results.runs.set_index("run_id")["attempt"].to_dict() == {"r0": 2, "r1": 1}
    assert written(results) == {table: [2, 2] for table in LONG}
    assert store.finished()["r0"]["status"] == "completed"
    store.fold()
    assert_same(store.load(), results)


def test_the_tenth_attempt_is_later_than_the_ninth(store):
    for attempt in (9, 10):
        store.write(run_row(attempt=attempt), long_rows(float(attempt)))
    assert store.load().runs["attempt"].tolist() == [10]


def test_rows_are_in_order(store):
    for name, second in (("c", 1), ("a", 3), ("b", 2)):
        rows = long_rows()
        rows["steps"].reverse()
        store.write(run_row(name, started_at=START.replace(second=second)), rows)
    results = store.load()
    assert results.runs["run_id"].tolist() == ["c", "b", "a"]
    assert results.steps[["run_id", "step"]].values.tolist() == [[r, s] for r in "abc" for s in (1, 11)]


def test_one_unfolded_file_can_be_read(store):
    fill(store, ["a", "b"])
    [first, second] = store.unfolded()
    assert (first, second) == (("a", 1), ("b", 1))
    assert (store.read_run(*first)["run_id"], store.read_run(*second)["run_id"]) == ("a", "b")
    assert set(store.read_run(*first)) == {c.name for c in TABLES["runs"]}


def test_a_uri_works_like_a_path(tmp_path):
    uri = (tmp_path / "results").as_uri()
    store = Store(uri, "tiny")
    fill(store, ["a"])
    assert store.folder.is_local
    assert_same(load(uri), load(tmp_path / "results"))
    store.fold()
    assert_same(load(uri), load(str(tmp_path / "results")))


def test_a_new_directory_appears_when_it_is_created(store, tmp_path):
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is not a results directory"):
        Store(store.uri)
    store.create()
    assert Store(store.uri).study == "tiny"


def test_the_study_can_be_opened_again(store):
    store.create()
    assert Store(store.uri).study == Store(store.uri, "tiny").study == "tiny"


def test_a_file_half_written_is_not_seen(store, monkeypatch):
    fill(store, ["a"])

    def crash(*_):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", crash)
        with pytest.raises(CrashError):
            fill(store, ["b"])
    assert store.load().runs["run_id"].tolist() == ["a"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def newer(path):
    table = pq.read_table(path).append_column("novelty", pa.array([1]))
    pq.write_table(table.replace_schema_metadata({b"schema_version": str(SCHEMA_VERSION + 1)}), path)


def unversioned(path):
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def marker(**changes):
    content = {"schema_version": SCHEMA_VERSION, "study": "tiny"} | changes
    return lambda path: path.write_text(json.dumps(content))


def stripped(path):
    table = pq.read_table(path).select(["run_id", "attempt"])
    pq.write_table(table.replace_schema_metadata({b"schema_version": str(SCHEMA_VERSION)}), path)


def misversioned(path):
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"schema_version": b"x"}), path)


DAMAGES = {
    # file, damage, message
    "run truncated": ("runs/a-1.parquet", truncate, "a-1.parquet' is truncated or not a results file"),
    "run emptied": ("runs/a-1.parquet", lambda path: path.write_bytes(b""), "a-1.parquet' is truncated"),
    "run is text": ("runs/a-1.parquet", lambda path: path.write_text("hello"), "a-1.parquet' is truncated"),
    "run is another's": ("runs/a-1.parquet", unversioned, "not a results file"),
    "run lacks columns": ("runs/a-1.parquet", stripped, "not a results file"),
    "run's version is no number": ("runs/a-1.parquet", misversioned, "not a results file"),
    "run is newer": (
        "runs/a-1.parquet",
        newer,
        f"has schema version {SCHEMA_VERSION + 1}, but this fisherbench reads up to {SCHEMA_VERSION}",
    ),
    "table truncated": ("tables/runs.parquet", truncate, "runs.parquet' is truncated"),
    "long table truncated": ("tables/steps.parquet", truncate, "steps.parquet' is truncated"),
    "table is newer": ("tables/runs.parquet", newer, f"has schema version {SCHEMA_VERSION + 1}"),
    "marker truncated": ("study.json", truncate, "study.json' is damaged"),
    "marker emptied": ("study.json", lambda path: path.write_bytes(b""), "study.json' is damaged"),
    "marker is binary": ("study.json", lambda path: path.write_bytes(b"\xff\xfe\x00"), "study.json' is damaged"),
    "marker is a list": ("study.json", lambda path: path.write_text("[1]"), "study.json' is damaged"),
    "marker without a name": ("study.json", lambda path: path.write_text('{"schema_version": 1}'), "is damaged"),
    "marker without a number": ("study.json", marker(schema_version=None), "study.json' is damaged"),
    "marker is newer": (
        "study.json",
        marker(schema_version=SCHEMA_VERSION + 1),
        f"has schema version {SCHEMA_VERSION + 1}",
    ),
}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_or_newer_is_said_in_one_line(store, tmp_path, name, damage, message):
    fill(store, ["b"])
    store.fold()
    fill(store, ["a"])
    damage(tmp_path / "results" / name)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        whole(store.uri)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UsageError):
        Store(store.uri, "tiny").fold()
    assert snapshot(tmp_path) == before


def foreign(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def foreign_folder(path):
    (path / "photos").mkdir(parents=True)


PLACES = {
    # what is there, study, message
    "nothing": (lambda path: None, None, "is not a results directory"),
    "an empty directory": (lambda path: path.mkdir(), None, "is not a results directory"),
    "a foreign directory": (foreign, None, "is not a results directory"),
    "a foreign directory to write": (foreign, "tiny", "is not empty and not a results directory"),
    "a foreign folder to write": (foreign_folder, "tiny", "is not empty and not a results directory"),
    "a file": (lambda path: path.write_text("x"), None, "results'"),
    "a file to write": (lambda path: path.write_text("x"), "tiny", "results'"),
    "another study": (lambda path: Store(path, "other").create(), "tiny", "holds the study 'other', not 'tiny'"),
}


@pytest.mark.parametrize(("prepare", "study", "message"), PLACES.values(), ids=PLACES)
def test_a_place_that_is_not_ours_is_left_alone(tmp_path, prepare, study, message):
    path = tmp_path / "results"
    prepare(path)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        Store(path, study)
    assert len(str(caught.value).splitlines()) == 1
    assert snapshot(tmp_path) == before


URIS = ["nowhere://bucket/x", "file://relative", "://", "http://example.org/x", "hdfs://nowhere.invalid/x"]


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_that_is_none_is_refused(uri):
    with pytest.raises(UsageError, match="is not a URI|hdfs"):
        Folder(uri)


def test_an_empty_directory_may_be_used(tmp_path):
    assert Store(tmp_path, "tiny").load().runs.empty


def aged(path, version):
    """Make a file what the first schema wrote: without the columns that came later."""
    table = pq.read_table(path).drop_columns(["data_version"])
    pq.write_table(table.replace_schema_metadata({b"schema_version": str(version)}), path)


@pytest.mark.parametrize("is_folded", [True, False], ids=["folded", "file of a run"])
def test_columns_that_an_older_schema_lacked_are_null(store, tmp_path, is_folded):
    fill(store, ["a"])
    if is_folded:
        store.fold()
    aged(tmp_path / "results" / ("tables/runs.parquet" if is_folded else "runs/a-1.parquet"), 1)
    fill(store, ["b"])
    store.fold()
    runs = load(store.uri).runs
    assert sorted(runs["run_id"]) == ["a", "b"]
    assert runs["data_version"].isna().all()


def test_columns_that_a_file_of_this_schema_lacks_are_damage(store, tmp_path):
    fill(store, ["a"])
    aged(tmp_path / "results/runs/a-1.parquet", SCHEMA_VERSION)
    with pytest.raises(UsageError, match="not a results file"):
        whole(store.uri)


def test_the_schema_documents_every_column():
    for table, columns in TABLES.items():
        assert len({c.name for c in columns}) == len(columns)
        assert [c.name for c in columns[:2]] == ["run_id", "attempt"]
        assert all(c.doc for c in columns), table
        assert arrow_schema(table).names == [c.name for c in columns]


FRAME = pd.DataFrame({"arm": ["sgd", "adam", "sgd"], "lr": [0.1, 0.2, 0.3], "trial": pd.array([0, None, 2], "Int64")})

QUERIES = {
    # where, columns, expected
    "all": (None, None, [["sgd", "adam", "sgd"], ["arm", "lr", "trial"]]),
    "where": ("arm == 'sgd' and lr > 0.2", None, [["sgd"], ["arm", "lr", "trial"]]),
    "columns": (None, "lr, arm", [["sgd", "adam", "sgd"], ["lr", "arm"]]),
    "null": ("trial.isna()", "arm", [["adam"], ["arm"]]),
    "none": ("lr > 9", None, [[], ["arm", "lr", "trial"]]),
    "unknown column": (None, "arm,colour", "unknown column 'colour'; known: arm, lr, trial"),
    "empty column": (None, "arm,", "unknown column ''"),
    "unknown name": ("colour == 1", None, "cannot be answered"),
    "syntax": ("arm ==", None, "cannot be answered"),
    "types": ("arm > 3", None, "cannot be answered"),
    "not a question": ("lr", None, "cannot be answered"),
    "a number": ("1 + 1", None, "cannot be answered"),
}


@pytest.mark.parametrize(("where", "columns", "expected"), QUERIES.values(), ids=QUERIES)
def test_queries(where, columns, expected):
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            query(FRAME, where, columns)
    else:
        answer = query(FRAME, where, columns)
        assert [answer["arm"].tolist(), list(answer.columns)] == expected


RENDERED = {
    "csv": "arm,lr,trial\nsgd,0.1,0\nadam,0.2,\nsgd,0.3,2",
    "json": '[{"arm":"sgd","lr":0.1,"trial":0},{"arm":"adam","lr":0.2,"trial":null},{"arm":"sgd","lr":0.3,"trial":2}]',
}


@pytest.mark.parametrize(("fmt", "text"), RENDERED.items())
def test_a_frame_as_text(fmt, text):
    assert render(FRAME, fmt).decode() == text


def test_a_frame_as_a_table():
    lines = render(FRAME, "table").decode().splitlines()
    assert [line.split() for line in lines[:2]] == [["arm", "lr", "trial"], ["sgd", "0.1", "0"]]
    assert len(lines) == 4


def test_a_frame_as_parquet_comes_back(tmp_path):
    (tmp_path / "frame.parquet").write_bytes(render(FRAME, "parquet"))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), FRAME.reset_index(drop=True))


def test_an_unknown_format_is_refused():
    with pytest.raises(UsageError, match="unknown format 'xml'; known: csv, json, parquet, table"):
        render(FRAME, "xml")


def test_every_column_is_documented():
    page = Path(__file__).parents[2] / "docs" / "results.md"
    assert markdown() in page.read_text()


PLANS = ["", "[]", '{"question": 5, "run_ids": [], "study": {}}', '{"question": "", "run_ids": 3, "study": {}}', "{}"]


@pytest.mark.parametrize("text", PLANS)
def test_a_damaged_plan_is_said_in_one_line(store, text):
    store.create()
    Path(store.folder.path("plan.json")).write_text(text)
    with pytest.raises(UsageError, match=r"plan.json' is damaged"):
        store.read_plan()


def test_a_plan_comes_back_and_picks_its_runs(store):
    assert store.read_plan() == {}
    fill(store, ["a", "b"])
    plan = {"question": "Which?", "run_ids": ["b"], "study": {"name": "tiny"}}
    store.write_plan(plan)
    assert store.read_plan() == plan
    picked = store.load().only(plan["run_ids"])
    assert all(set(getattr(picked, table)["run_id"]) == {"b"} for table in TABLES)
