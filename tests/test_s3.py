"""Results on an object store: an S3 on this machine stands in for any."""

import json
import os
import urllib.request

import pandas as pd
import pytest

from suite.config import Arm, Budget
from suite.errors import UsageError
from suite.execution import exclusive as module
from suite.execution.conduct import conduct
from suite.execution.exclusive import LEASE_S, NAME, Lease, exclusive
from suite.plan import expand
from suite.results import TABLES, Store, load
from suite.results.folder import Folder
from suite.study import Race, Study, Tuning
from tests.suite.rows import long_rows, run_row
from tests.suite.tiny import FakeClock

SHORT = Budget(kind="steps", amount=20)
STUDY = Study(
    name="far",
    question="Does a study end as planned when its results are far away?",
    workload="digits",
    arms=(Arm(name="sgd", optimizer="sgd"),),
    batch_size=64,
    tune=Tuning(num_trials=2, budget=SHORT),
    race=Race(seeds=(1,), num_workers=2, budget=SHORT),
)


@pytest.fixture(scope="module")
def server():
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def uri(server, monkeypatch, request):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = request.node.name.replace("_", "-")[:60].rstrip("-").lower()
    urllib.request.urlopen(urllib.request.Request(f"http://{server}/{bucket}", method="PUT")).close()
    return f"s3://{bucket}/deep/results?scheme=http&endpoint_override={server}&region=us-east-1"


@pytest.fixture
def store(uri):
    return Store(uri, "tiny")


def test_what_is_written_is_read_folded_or_not(store, uri):
    assert store.finished() == {}
    store.write(run_row("r0"), long_rows(1.0))
    store.write(run_row("r1"), long_rows(2.0))
    assert store.has("r0", 1)
    assert not store.has("r0", 2)
    before = load(uri)
    assert before.runs["run_id"].tolist() == ["r0", "r1"]
    store.fold()
    assert store.unfolded() == []
    assert store.folder.names("tables") == sorted(f"{table}.parquet" for table in TABLES)
    after = Store(uri).load()
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(after, table), getattr(before, table))
    store.write(run_row("r0", attempt=2, status="diverged"), {})
    assert {run_id: row["status"] for run_id, row in store.finished().items()} == {"r0": "diverged", "r1": "completed"}


def test_a_place_is_known_by_its_marker(store, uri):
    with pytest.raises(UsageError, match="is not a results directory"):
        Store(uri)
    store.create()
    assert Store(uri).study == "tiny"
    with pytest.raises(UsageError, match="holds the study 'tiny', not 'other'"):
        Store(uri, "other")


def test_a_plan_is_written_and_read(store):
    assert store.read_plan() == {}
    plan = {"question": "Which?", "run_ids": ["r0"], "study": {"name": "tiny"}}
    store.write_plan(plan)
    assert store.read_plan() == plan


def test_files_come_and_go(store):
    folder = store.folder
    folder.write("checkpoints/r0.pt", b"\x1f\x8b not a gzip file")
    folder.write("checkpoints/r0.starts", b"1")
    assert folder.names("checkpoints", ".pt") == ["r0.pt"]
    assert folder.read("checkpoints/r0.pt") == b"\x1f\x8b not a gzip file"
    folder.write("checkpoints/r0.pt", b"later")
    assert folder.read("checkpoints/r0.pt") == b"later"
    for name in ("r0.pt", "r0.starts", "r0.pt"):  # the last one is gone already
        folder.remove(f"checkpoints/{name}")
    assert folder.names("checkpoints") == []
    folder.write("ray/deep/file", b"1")
    folder.remove_folder("ray")
    assert not folder.has("ray/deep/file")


def test_what_goes_wrong_is_one_line_without_keys(server, uri):
    signed = uri.replace("s3://", "s3://key:secret@").replace("/deep", "-no-such-bucket/deep")
    folder = Folder(signed)
    for call in (lambda: folder.write("x", b"1"), lambda: folder.read("x")):
        with pytest.raises(UsageError) as caught:
            call()
        assert "secret" not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert f"'{folder.shown('x')}' cannot be" in str(caught.value)
    assert folder.shown("x").startswith("s3://")
    assert folder.shown("x").endswith("-no-such-bucket/deep/results/x")
    assert folder.names() == []


def test_a_path_on_a_disk_is_shown_as_it_is(tmp_path):
    for uri in (str(tmp_path), f"file://{tmp_path}"):
        assert Folder(uri).shown("report.html") == f"{tmp_path}/report.html"


def test_one_process_at_a_time(store, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    with exclusive(store):
        assert json.loads(store.folder.read(NAME))["pid"] == os.getpid()
        with (
            pytest.raises(UsageError, match="another fisherbench is at work on .* its lease ends at"),
            exclusive(store),
        ):
            pass
    assert not store.folder.has(NAME)


def test_a_lease_that_nobody_renews_runs_out(store):
    clock = FakeClock()
    first, second = (Lease(store.folder, clock, sleep=lambda _: None) for _ in range(2))
    first.take()
    with pytest.raises(UsageError, match="another fisherbench"):
        second.take()
    clock.advance(LEASE_S)
    second.take()
    assert not first.renew()


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_study_ends_as_planned_and_a_second_time_does_nothing(uri):
    store, said = Store(uri, STUDY.name), []
    assert conduct(STUDY, store, said.append)
    runs = load(uri).runs
    assert sorted(runs["run_id"]) == sorted(run.run_id for run in expand(STUDY))
    assert set(runs["status"]) == {"completed"}
    assert store.unfolded() == []
    assert not store.folder.has(NAME)
    assert store.folder.names("checkpoints") == []

    said.clear()
    assert not conduct(STUDY, Store(uri, STUDY.name), said.append)
    assert said == ["all 3 runs are done"]
