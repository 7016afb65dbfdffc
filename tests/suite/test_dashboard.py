import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from optimizers import Float
from suite.config import Arm
from suite.errors import UsageError
from suite.execution import dashboard as module
from suite.execution.dashboard import FILE, Dashboard, export
from suite.results import Store
from tests.suite import tiny
from tests.suite.rows import planned_row

SPACE = {"lr": Float(low=1e-4, high=1e-1, log=True)}
START_S = 30  # for optuna-dashboard to answer; it takes 2 s on an idle machine


def trials(arm="a", num=4, **changes):
    arm = Arm(name=arm, optimizer="sgd", search_space=SPACE)
    return [
        tiny.plan(arm=arm, purpose="tune", source="sampled", sampler="sobol", trial=k, **changes) for k in range(num)
    ]


def row(run, lr=0.01, **changes):
    return planned_row(run, lr=lr, hyperparameters=json.dumps({"lr": lr, "momentum": 0.9}), **changes)


def rows_of(runs, **changes):
    return {run.run_id: row(run, **changes) for run in runs}


def reader(path):
    return JournalStorage(JournalFileBackend(str(path)))


def read(source):
    """Return the trials by study, of a reader or a file."""
    storage = source if isinstance(source, JournalStorage) else reader(source)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}


def numbers(source):
    return {name: [trial.user_attrs["trial"] for trial in found] for name, found in read(source).items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "tiny")


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE


class FarFolder:
    """A folder of an object store: files are written whole, or not at all."""

    is_local = False

    def __init__(self):
        self.files, self.error = {}, None

    def write(self, name, content):
        if self.error:
            raise self.error
        self.files[name] = content


class FarStore:
    def __init__(self):
        self.folder = FarFolder()


def start(runs, finished, store):
    said = []
    return Dashboard(runs, finished, store, said.append), said


def test_the_export_holds_each_finished_trial_and_none_that_runs(store, path):
    plans, other = trials(), trials("b", 2)
    rows = {
        plans[0].run_id: row(plans[0], val_metric=0.5),
        plans[1].run_id: row(plans[1], status="diverged", val_metric=None),
        plans[2].run_id: row(plans[2], status="failed", val_metric=None),
        other[1].run_id: row(other[1], 0.02),
    }
    for _ in range(2):  # the second has nothing to do
        export([*plans, *other], rows, store)
    found = read(path)
    assert found.keys() == {"tiny/a", "tiny/b"}
    assert optuna.load_study(study_name="tiny/a", storage=reader(path)).direction.name == "MAXIMIZE"
    assert [trial.state for trial in found["tiny/a"]] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.value for trial in found["tiny/a"]] == [0.5, 0.0, None]
    assert [trial.params for trial in found["tiny/b"]] == [{"lr": 0.02}]


def test_an_open_reader_sees_trials_as_they_finish(store, path):
    a, b = trials(), trials("b")
    dashboard, said = start([*a, *b], rows_of(a[:1]), store)
    early = reader(path)
    assert numbers(early) == {"tiny/a": [0], "tiny/b": []}
    dashboard.add(row(b[0]))
    assert numbers(early) == {"tiny/a": [0], "tiny/b": [0]}
    dashboard.add(row(a[2], status="failed", val_metric=None))
    dashboard.add(row(a[1]))
    assert numbers(early) == {"tiny/a": [0, 2, 1], "tiny/b": [0]}
    assert all(trial.state.is_finished() for found in read(early).values() for trial in found)
    assert said == []
    dashboard.close()
    assert os.listdir(path.parent) == [FILE]


def test_each_trial_is_there_once_after_a_restart(store, path):
    runs = trials()
    with start(runs, {}, store)[0] as dashboard:
        dashboard.add(row(runs[1]))
        dashboard.add(row(runs[0]))
    early = reader(path)
    with start(runs, rows_of(runs[:3]), store)[0] as dashboard:  # the third appeared while nobody looked
        dashboard.add(row(runs[2]))
        dashboard.add(row(runs[3]))
    export(runs, rows_of(runs), store)
    assert numbers(path) == {"tiny/a": [1, 0, 2, 3]}
    assert numbers(early) == numbers(path)  # it was only added to


def test_an_extended_sweep_is_added_to(store, path):
    runs = trials(num=6)
    dashboard, _ = start(runs[:4], rows_of(runs[:4]), store)
    early = reader(path)
    wider = json.dumps({"lr": {"low": 1e-3, "high": 1.0, "log": True}})
    beyond = {run.run_id: row(run, 0.5, search_space=wider) for run in runs[4:]}
    dashboard.add(beyond[runs[4].run_id])
    export(runs, rows_of(runs[:4]) | beyond, store)
    assert numbers(early) == {"tiny/a": [0, 1, 2, 3, 4, 5]}
    assert [(trial.params["lr"], trial.distributions["lr"].high) for trial in read(path)["tiny/a"]][3:] == [
        (0.01, 0.1),
        (0.5, 1.0),
        (0.5, 1.0),
    ]


def test_a_row_may_say_what_choices_were_searched(store, path):
    runs = trials(num=1)
    said = json.dumps({"layers": {"choices": ["paper", "all"]}, "lr": {"low": 0.1, "high": 1.0, "log": False}})
    values = json.dumps({"layers": "all", "lr": 0.5})
    export(runs, {runs[0].run_id: row(runs[0]) | {"hyperparameters": values, "search_space": said}}, store)
    assert read(path)["tiny/a"][0].params == {"layers": "all", "lr": 0.5}


def test_workloads_have_studies_of_their_own(store, path):
    mlp, easy = trials(num=2), trials(num=2, workload="tests.suite.tiny:EASY")
    dashboard, _ = start([*mlp, *easy], rows_of(mlp[:1]), store)
    dashboard.add(row(easy[1]))
    expected = {"tiny/a on tests.suite.tiny:MLP": [0], "tiny/a on tests.suite.tiny:EASY": [1]}
    assert numbers(path) == expected


def test_rows_of_other_plans_are_left_out(store, path):
    runs = trials()
    dashboard, said = start(runs, rows_of([*runs[:1], *trials("b")]), store)
    dashboard.add(row(trials("c")[0]))
    assert numbers(path) == {"tiny/a": [0]}
    assert said == []


def another_point(store, path):
    export(trials(), rows_of(trials()[:2], lr=0.05), store)


def more_trials(store, path):
    export(trials(num=9), rows_of(trials(num=9)), store)


def another_arm(store, path):
    export(trials("b"), {}, store)


def another_goal(store, path):
    optuna.create_study(study_name="tiny/a", storage=reader(path), direction="minimize")


def twice_the_same(store, path):
    export(trials(), rows_of(trials()[:1]), store)
    study = optuna.load_study(study_name="tiny/a", storage=reader(path))
    study.add_trial(study.trials[0])


def one_that_runs(store, path):
    export(trials(), {}, store)
    optuna.load_study(study_name="tiny/a", storage=reader(path)).ask()


def half_a_line(store, path):
    export(trials(), rows_of(trials()[:2]), store)
    path.write_bytes(path.read_bytes()[:-20])


def no_journal_at_all(store, path):
    path.write_bytes(b"not a journal\n" * 3)


def nothing(store, path):
    path.touch()


@pytest.mark.parametrize(
    "spoil",
    [
        *(another_point, more_trials, another_arm, another_goal, twice_the_same, one_that_runs, half_a_line),
        *(no_journal_at_all, nothing),
    ],
)
@pytest.mark.parametrize("is_live", [True, False])
def test_a_journal_that_disagrees_is_written_anew(store, path, spoil, is_live):
    spoil(store, path)
    if is_live:
        dashboard, said = start(trials(), rows_of(trials()[:2]), store)
        dashboard.add(row(trials()[2]))
        assert said == []
    else:
        export(trials(), rows_of(trials()[:3]), store)
    assert numbers(path) == {"tiny/a": [0, 1, 2]}
    assert all(trial.params == {"lr": 0.01} and trial.state.is_finished() for trial in read(path)["tiny/a"])


LOCKS = {
    "file": Path.touch,
    "link": lambda lock: lock.symlink_to(lock.parent / FILE),
    "link to nowhere": lambda lock: lock.symlink_to("results/tiny/optuna.journal"),
}


@pytest.mark.parametrize("leave", LOCKS.values(), ids=LOCKS)
def test_a_lock_left_behind_holds_nobody_up(store, path, leave, monkeypatch):
    monkeypatch.setattr(module, "LOCK_S", 0.1)
    runs, lock = trials(), Path(f"{path}.lock")
    export(runs, {}, store)
    leave(lock)
    dashboard, said = start(runs, rows_of(runs[:1]), store)
    leave(lock)
    dashboard.add(row(runs[1]))
    leave(lock)
    export(runs, rows_of(runs[:3]), store)
    assert numbers(path) == {"tiny/a": [0, 1, 2]}
    assert said == []
    assert not os.path.lexists(lock)


def test_a_lock_is_waited_for(path):
    held, events = module._Lock(str(path)), []
    held.acquire()
    other = threading.Timer(0.1, lambda: (events.append("released"), held.release()))
    other.start()
    module._Lock(str(path)).acquire()
    events.append("acquired")
    other.join()
    assert events == ["released", "acquired"]


def test_a_lock_that_was_taken_away_is_no_error(path):
    lock = module._Lock(str(path))
    lock.acquire()
    Path(f"{path}.lock").unlink()
    lock.release()


def test_a_journal_that_cannot_be_written_is_said_once(store, path, monkeypatch):
    runs = trials()
    dashboard, said = start(runs, {}, store)

    def fail(*_):
        raise OSError(28, "No space left\non device")

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", fail)
        dashboard.add(row(runs[0]))
    for run in runs[1:3]:
        dashboard.add(row(run))
    dashboard.close()
    assert said == ["optuna.journal is not kept up, but the sweep goes on: OSError: [Errno 28] No space left on device"]
    assert numbers(path) == {"tiny/a": []}
    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", fail)
        with pytest.raises(UsageError, match=r"optuna.journal' cannot be written: \[Errno 28\]"):
            export(runs, rows_of(runs[:3]), store)
    export(runs, rows_of(runs[:3]), store)
    assert numbers(path) == {"tiny/a": [0, 1, 2]}


@pytest.mark.parametrize("is_new", [True, False])
def test_a_row_that_makes_no_trial_stops_nothing(store, is_new):
    runs = trials()
    broken = row(runs[0]) | {"hyperparameters": "{}"}
    dashboard, said = start(runs, {} if is_new else {runs[0].run_id: broken}, store)
    dashboard.add(broken)
    dashboard.add(row(runs[1]))
    assert said == ["optuna.journal is not kept up, but the sweep goes on: KeyError: 'lr'"]


def test_a_place_where_no_journal_can_be_is_said_once_and_raised_at_the_end(store, path):
    path.mkdir()
    dashboard, said = start(trials(), {}, store)
    dashboard.add(row(trials()[0]))
    assert len(said) == 1
    assert "cannot be written" in said[0]
    with pytest.raises(UsageError, match="cannot be written"):
        export(trials(), {}, store)


def test_on_an_object_store_it_is_written_at_the_end(path):
    runs, store = trials(), FarStore()
    with start(runs, rows_of(runs[:1]), store)[0] as dashboard:
        dashboard.add(row(runs[2]))
        dashboard.add(row(runs[2]))
        assert store.folder.files == {}
    path.write_bytes(store.folder.files[FILE])
    assert numbers(path) == {"tiny/a": [0, 2]}


def test_an_object_store_that_fails_is_said(path):
    store = FarStore()
    store.folder.error = UsageError("there is no such bucket")
    dashboard, said = start(trials(), {}, store)
    dashboard.close()
    dashboard.close()
    assert said == ["optuna.journal is not kept up, but the sweep goes on: UsageError: there is no such bucket"]


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def served(store, path, port):
    """Return the address of an optuna-dashboard that has the journal open, and the sweep that goes on."""
    runs = trials()
    dashboard, _ = start(runs, rows_of(runs[:1]), store)
    command = [Path(sys.executable).with_name("optuna-dashboard"), path, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}", dashboard
    finally:
        process.terminate()
        process.wait(timeout=START_S)


def get(address):
    give_up = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read()
        except urllib.error.URLError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


@pytest.mark.skipif(find_spec("optuna_dashboard") is None, reason="the extra 'dashboard' is not installed")
def test_optuna_dashboard_shows_a_sweep_as_it_goes(served):
    address, dashboard = served
    assert b"<html" in get(f"{address}/dashboard/")
    studies = json.loads(get(f"{address}/api/studies"))["study_summaries"]
    assert [study["study_name"] for study in studies] == ["tiny/a"]
    trials_at = f"{address}/api/studies/{studies[0]['study_id']}?after=0"
    assert [trial["state"] for trial in json.loads(get(trials_at))["trials"]] == ["Complete"]
    dashboard.add(row(trials()[1]))
    give_up = time.monotonic() + START_S  # it looks again every few seconds
    while len(found := json.loads(get(trials_at))["trials"]) < 2 and time.monotonic() < give_up:
        time.sleep(0.2)
    assert [trial["state"] for trial in found] == ["Complete"] * 2
