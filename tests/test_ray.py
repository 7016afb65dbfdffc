"""Studies on a real Ray: samplers that learn, and runs that fail in a worker group."""

import json
import os
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from torch import nn

from optimizers import Float, OptimizerSpec
from optimizers.sgd import SPEC as SGD
from suite.config import Arm, Budget
from suite.execution.conduct import conduct
from suite.execution.session import ray_session
from suite.execution.watchdog import descendants
from suite.plan import expand
from suite.results import Store
from suite.study import Race, Study, Tuning

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


class FailingOnWorkerOneError(torch.optim.SGD):
    """Raises in its fifth step, on the second worker alone: the first one waits in a collective."""

    def step(self, closure: object = None) -> None:
        self.num_steps = getattr(self, "num_steps", 0) + 1
        if self.num_steps == 5 and torch.distributed.get_rank() == 1:
            raise ArithmeticError("worker 1 has had enough")
        super().step()


def build_failing(model: nn.Module, config: object) -> FailingOnWorkerOneError:
    return FailingOnWorkerOneError(model.parameters(), lr=config.lr)


FAILING = OptimizerSpec(name="failing", config=SGD.config, build=build_failing, search_space=SGD.search_space)

SHORT = Budget(kind="steps", amount=20)
SWEEP = Study(
    name="tpe",
    question="Does a sampler that learns keep to the planned trial numbers?",
    workload="digits",
    arms=(Arm(name="sgd", optimizer="sgd"),),
    batch_size=64,
    tune=Tuning(num_trials=2, sampler="tpe", budget=SHORT),
)
RACE = Study(
    name="failing",
    question="Does a run that fails on one worker stop the others?",
    workload="digits",
    arms=(Arm(name="failing", optimizer="tests.test_ray:FAILING"), Arm(name="sgd", optimizer="sgd")),
    batch_size=64,
    race=Race(seeds=(1, 2), num_workers=2, budget=SHORT),
)


def test_a_learning_sampler_extends_a_sweep_and_leaves_what_is_finished(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "results"), SWEEP.name)
    conduct(SWEEP, store, print)
    first = store.finished()
    longer = replace(SWEEP, tune=replace(SWEEP.tune, num_trials=4))
    conduct(longer, store, print)
    finished = store.finished()
    assert sorted(row["trial"] for row in finished.values()) == [0, 1, 2, 3]
    assert set(finished) == {run.run_id for run in expand(longer)}
    assert {run_id: finished[run_id] for run_id in first} == first
    assert len({row["lr"] for row in finished.values()}) == 4


PRUNED = Study(
    name="pruned",
    question="Does a sweep stop what is behind, and go on beyond its edge?",
    workload="digits",
    arms=(
        Arm(
            name="sgd",
            optimizer="sgd",
            fixed={"momentum": 0.9},
            search_space={"lr": Float(low=1e-4, high=1e-3, log=True)},
        ),
    ),
    batch_size=64,
    tune=Tuning(num_trials=4, pruner="asha", max_extensions=1, budget=Budget(kind="epochs", amount=4)),
)


def test_a_sweep_prunes_extends_itself_and_calls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FISHERBENCH_CALLBACKS", "ray.tune.logger:TBXLoggerCallback")
    store = Store(str(tmp_path / "results"), PRUNED.name)
    conduct(PRUNED, store, print)
    rows = sorted(store.finished().values(), key=lambda row: row["trial"])
    assert [row["trial"] for row in rows] == list(range(6))
    assert {row["status"] for row in rows} == {"completed", "pruned"}
    assert all(row["num_epochs"] < 4 for row in rows if row["status"] == "pruned")
    assert {row["pruner"] for row in rows} == {"asha"}
    assert all(1e-4 <= row["lr"] <= 1e-3 for row in rows[:4])
    assert all(3e-4 <= row["lr"] <= 3.2e-3 for row in rows[4:])
    assert max(row["lr"] for row in rows[4:]) > 1e-3
    assert json.loads(rows[5]["search_space"])["lr"]["high"] == pytest.approx(10**-2.5)
    assert sorted(store.read_plan()["run_ids"]) == sorted(store.finished())
    assert len(list((tmp_path / "results/ray").rglob("events.out.tfevents*"))) == 6
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "results/optuna.journal"))
    [study] = optuna.get_all_study_summaries(optuna.storages.JournalStorage(backend))
    assert study.n_trials == 6


GROUPED = Study(
    name="grouped",
    question="Are trials of two workers tuned as those of one?",
    workload="digits",
    arms=(Arm(name="sgd", optimizer="sgd"), Arm(name="adam", optimizer="adam")),
    batch_size=64,
    tune=Tuning(num_trials=3, num_workers=2, sampler="tpe", pruner="median", budget=Budget(kind="epochs", amount=2)),
)


def test_trials_of_two_workers_are_proposed_in_their_group(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "results"), GROUPED.name)
    conduct(GROUPED, store, print)
    rows = store.finished()
    assert rows.keys() == {run.run_id for run in expand(GROUPED)}
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert len({row["lr"] for row in rows.values()}) == 6
    assert {row["num_workers"] for row in rows.values()} == {2}


def test_a_run_that_fails_on_one_worker_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "results"), RACE.name)
    conduct(RACE, store, print)
    rows = store.finished().values()
    assert {(row["arm"], row["seed"]): row["status"] for row in rows} == {
        ("failing", 1): "failed",
        ("failing", 2): "failed",
        ("sgd", 1): "completed",
        ("sgd", 2): "completed",
    }
    failed = {row["run_id"] for row in rows if row["status"] == "failed"}
    conduct(RACE, store, print, retry=("failed",))
    again = store.finished()
    assert {run_id for run_id, row in again.items() if row["attempt"] == 2} == failed
    errors = [row["error"] for row in rows if row["status"] == "failed"]
    assert all("worker 1 has had enough" in error for error in errors)


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}  # as /proc writes them


def listening(pids: list[int]) -> dict[int, set[str]]:
    """Return the addresses on which processes listen, by process id."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                sockets[f"socket:[{fields[9]}]"] = fields[1].partition(":")[0]
    found = {}
    for pid in pids:
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
        found[pid] = {sockets[link] for link in links if link in sockets}
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_ray_listens_on_loopback_asks_for_a_token_and_is_not_nice() -> None:
    import ray  # after suite.execution, which sets what Ray reads at its import

    with ray_session():
        niceness, mode = ray.get(ray.remote(lambda: (os.nice(0), os.environ["RAY_AUTH_MODE"])).remote())
        addresses = listening(descendants(os.getpid()))
    assert niceness == os.nice(0)
    assert mode == "token"
    assert any(addresses.values())
    assert set().union(*addresses.values()) <= LOOPBACK
