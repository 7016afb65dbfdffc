"""SIGKILL of the driver, in the tuning and in the race: the same command ends with exactly what was planned."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from suite import workloads
from suite.config import Arm, Budget
from suite.execution.sampling import proposer
from suite.results import Store, load
from suite.study import Race, Study, Tuning, expand, tuning_runs

STUDY = Study(
    name="mini",
    question="Does a killed study end as planned?",
    workload="digits",
    arms=(Arm(name="sgd", optimizer="sgd"), Arm(name="adafisher", optimizer="adafisher")),
    batch_size=64,
    tune=Tuning(num_trials=4, budget=Budget(kind="wall_clock", amount=1)),
    race=Race(seeds=(1, 2), num_workers=2, budget=Budget(kind="wall_clock", amount=1.5)),
)
RACE = Study(
    name="mini",
    question="Does a race survive its workers?",
    workload="digits",
    arms=STUDY.arms,
    batch_size=64,
    race=Race(seeds=(1,), num_workers=2, budget=Budget(kind="steps", amount=600)),
)
ROOT = Path(__file__).parents[1]
START_S = 120  # for Ray and its workers to come up on a busy machine
DEATH_S = 30  # for everything that the killed driver started to be gone


class Driver:
    """The command in a process of its own, whose descendants are known by a mark in their environment."""

    def __init__(self, folder: Path, study: str = "STUDY") -> None:
        file = folder / "mini.py"
        file.write_text(f"from tests.test_kill import {study} as STUDY")
        self.mark = f"FISHERBENCH_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.results = folder / "results"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fisherbench", "run", str(file), "--results", str(self.results)],
            env={**os.environ, name: value, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, purpose: str, at_least: int) -> None:
        """Wait until so many runs of a purpose are finished."""
        deadline = time.monotonic() + START_S
        while self._count(purpose) < at_least:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, f"no {at_least} {purpose} runs in {START_S} s"
            time.sleep(0.05)

    def kill_when(self, purpose: str, at_least: int) -> dict[str, dict[str, object]]:
        """Kill it once so many runs of a purpose are finished, and return the finished ones."""
        self.wait_for(purpose, at_least)
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self._wait_for_death()
        return Store(self.results).finished()

    def _count(self, purpose: str) -> int:
        if not (self.results / "study.json").exists():
            return 0
        return sum(row["purpose"] == purpose for row in Store(self.results).finished().values())

    def _wait_for_death(self) -> None:
        deadline = time.monotonic() + DEATH_S
        while alive := processes_with(self.mark):
            assert time.monotonic() < deadline, f"still alive {DEATH_S} s after the kill: {alive}"
            time.sleep(0.5)

    def interrupt(self) -> tuple[int, str]:
        """Send what Ctrl-C sends, and return exit code and output."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        self._wait_for_death()
        return self.process.returncode, output

    def kill_worker(self) -> None:
        """Kill one of the Train workers once they have started a run."""
        deadline = time.monotonic() + START_S
        while not list(self.results.glob("checkpoints/*.starts")):
            assert time.monotonic() < deadline, f"no run was started in {START_S} s"
            time.sleep(0.1)
        workers = [pid for pid, name in processes_with(self.mark).items() if "RayTrainWorker" in name]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)

    def finish(self) -> str:
        """Let it run to its end and return what it printed."""
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, output
        return output


def processes_with(mark: str) -> dict[int, str]:
    """Return command lines by process id of all live processes that have the mark in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100]
                if command:  # a zombie has none
                    found[int(folder.name)] = command
        except OSError:  # it ended meanwhile
            continue
    return found


pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(480),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the descendants of the driver in /proc"),
]


def test_killed_twice_ends_with_exactly_the_planned_runs(tmp_path: Path) -> None:
    after_tune_kill = Driver(tmp_path).kill_when("tune", at_least=3)
    assert not any(row["purpose"] == "race" for row in after_tune_kill.values())
    after_race_kill = Driver(tmp_path).kill_when("race", at_least=1)
    Driver(tmp_path).finish()

    runs = load(tmp_path / "results").runs
    assert sorted(runs["run_id"]) == sorted({run.run_id for run in expand(STUDY)})
    assert set(runs["attempt"]) == {1}
    assert set(runs["status"]) <= {"completed"}
    end = Store(tmp_path / "results").finished()
    for earlier in (after_tune_kill, after_race_kill):
        assert {run_id: end[run_id] for run_id in earlier} == earlier

    for arm in STUDY.arms:  # the points of a sweep that was never interrupted
        trials = [run for run in tuning_runs(STUDY) if run.arm.name == arm.name]
        points = proposer(trials, workloads.find("digits"), [])
        for run in trials:
            assert points.propose(run.trial).items() <= json.loads(end[run.run_id]["hyperparameters"]).items()

    started = time.monotonic()
    output = Driver(tmp_path).finish()
    assert f"all {len(runs)} runs are done" in output
    assert "starting Ray" not in output
    assert time.monotonic() - started < 15


def test_a_killed_worker_costs_a_start_and_no_run(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "RACE")
    driver.kill_worker()
    driver.finish()
    runs = load(tmp_path / "results").runs
    assert sorted(runs["run_id"]) == sorted(run.run_id for run in expand(RACE))
    assert set(runs["status"]) == {"completed"}


def test_an_interrupted_sweep_says_so_and_leaves_nothing_running(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.wait_for("tune", at_least=1)
    code, output = driver.interrupt()
    assert code == 130, output
    assert output.rstrip().endswith("fisherbench: interrupted; the same command goes on where it stopped")
