"""SIGKILL of the driver, in the tuning and in the race: the same command ends with exactly what was planned."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from suite.config import Arm, Budget
from suite.execution.points import Points
from suite.plan import expand, tuning_runs
from suite.results import Store, load
from suite.study import Race, Study, Tuning

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

    def wait_for_process(self, part: str) -> int:
        """Wait for a process with this in its command line, and return its id."""
        deadline = time.monotonic() + START_S
        while True:
            found = [pid for pid, command in processes_with(self.mark).items() if part in command]
            if found:
                return found[0]
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, f"no process {part!r} in {START_S} s"
            time.sleep(0.05)

    def end(self, *, kill: bool = True) -> None:
        """Wait until the command and all that it started is gone, after killing it where that is said."""
        if kill and self.process.poll() is None and not self._ends_by_itself():
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=300)
        self._wait_for_death()

    def _ends_by_itself(self) -> bool:
        """Give a command whose Ray was killed a moment to notice."""
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            return False
        return True

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


KINDS = {  # what is killed: part of its command line
    "driver": "-m fisherbench",
    "trial": "ray::ImplicitFunc",
    "worker": "ray::RayTrainWorker",
    "node agent": "raylet/raylet",
    "control server": "gcs_server",
}
FEW = ["driver", "trial", "node agent", "worker"]
MANY = ["driver", "trial", "node agent", "driver", "trial", "control server", "driver", "trial", "driver", "worker"]
MAX_DELAY_S = 3.0  # from the first sign of its victim to the kill


def kill_at_random(folder: Path, kinds: list[str], rng: random.Random) -> Counter[str]:
    """Kill what a study consists of at random moments, starting it again where it ended, and return what was killed."""
    killed: Counter[str] = Counter()
    driver, seen = Driver(folder), {}
    for kind in kinds:
        if driver.process.poll() is not None:
            driver.end()
            driver = Driver(folder)
        pid = driver.wait_for_process(KINDS[kind])
        time.sleep(rng.uniform(0.0, MAX_DELAY_S))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed[kind] += 1
        if kind in {"driver", "node agent", "control server"}:
            driver.end()
        earlier, seen = seen, Store(folder / "results").finished() if (folder / "results/study.json").exists() else {}
        assert {run_id: seen[run_id] for run_id in earlier} == earlier, "a finished run was lost or done again"
    driver.end(kill=False)
    return killed


@pytest.mark.parametrize("kinds", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)])
def test_killed_at_random_ends_with_exactly_the_planned_runs(tmp_path: Path, kinds: list[str]) -> None:
    assert kill_at_random(tmp_path, kinds, random.Random(0)) == Counter(kinds)
    Driver(tmp_path).finish()

    runs = load(tmp_path / "results").runs
    assert sorted(runs["run_id"]) == sorted({run.run_id for run in expand(STUDY)})
    assert set(runs["attempt"]) == {1}
    assert set(runs["status"]) == {"completed"}
    end = Store(tmp_path / "results").finished()
    trials = tuning_runs(STUDY)
    points = Points(STUDY.tune, trials, {})  # those of a sweep that was never interrupted
    for run in trials:
        assert points.propose(run).items() <= json.loads(end[run.run_id]["hyperparameters"]).items()

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
