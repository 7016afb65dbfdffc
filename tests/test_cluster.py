"""A study on a Ray of two nodes: what reaches the nodes, and what happens when one of them dies.

Both nodes are on this machine. Where the kernel permits it, the second one sees neither this project nor the folder of
the user's own module, as another machine would not.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.config import Arm, Budget
from suite.errors import UsageError
from suite.execution import reach, session
from suite.execution.watchdog import descendants
from suite.plan import expand
from suite.results import Store, load
from suite.results.folder import Folder
from suite.study import Race, Study, Tuning

ROOT = Path(__file__).parents[1]
PACKAGES = ("optimizers", "reports", "studies", "suite")
START_S = 150  # for a node, or for trials, to start on a busy machine
END_S = 200
NODE = ["--block", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
PORTS = ["--min-worker-port=0", "--max-worker-port=0"]  # any: the default range is the same for both nodes
# A node that has died is noticed within 3 s rather than 15 s.
QUICK = {"RAY_health_check_initial_delay_ms": "500", "RAY_health_check_period_ms": "500"}

OWN = """
from dataclasses import replace
from optimizers.sgd import SPEC as SGD
from my_helper import NAME
SPEC = replace(SGD, name=NAME)
"""
STUDY = Study(
    name="two",
    question="Does a study end as planned on two nodes, one of which dies?",
    workload="digits",
    arms=(Arm(name="sgd", optimizer="sgd"), Arm(name="own", optimizer="my_opt:SPEC")),
    batch_size=64,
    tune=Tuning(num_trials=3, budget=Budget(kind="steps", amount=200)),
    race=Race(seeds=(1,), num_workers=2, budget=Budget(kind="steps", amount=20)),
)
NUM_TRIALS, NUM_RUNS = 6, 8

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(480),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes of a node in /proc"),
]


class Cluster:
    """Two nodes of Ray with one CPU each.

    Args:
        folder: ``seen`` below it is seen by both nodes, ``blind`` by the first one alone where that can be had.
    """

    def __init__(self, folder: Path) -> None:
        self.seen, self.blind = folder / "seen", folder / "blind"
        for path in (self.seen, self.blind / "tmp"):
            path.mkdir(parents=True)
        (self.blind / "my_helper.py").write_text("NAME = 'own'")
        (self.blind / "my_opt.py").write_text(OWN)
        (self.blind / "study.py").write_text("from tests.test_cluster import STUDY")
        with socket.create_server(("", 0)) as server:
            self.address = f"127.0.0.1:{server.getsockname()[1]}"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},  # of a private Ray
            **QUICK,
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2,
            "RAY_worker_niceness": "0",
        }
        self.temp = Path("/tmp", f"rc{os.getpid()}")  # noqa: S108  # short, as a path of a socket must be
        self.log = folder / "nodes.log"
        self.is_apart = _may_unshare(self.blind)
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the nodes."""
        port = self.address.rpartition(":")[2]
        self._start([
            *("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"),
            f"--temp-dir={self.temp}",
        ])
        self._wait_for(1)
        self.add_node()

    def add_node(self) -> None:
        """Start a second node, or one in its place."""
        second = [f"--address={self.address}", "--node-ip-address=127.0.0.2"]
        hidden = [self.temp, self.blind, *(ROOT / name for name in PACKAGES)] if self.is_apart else []
        self._start(second, hidden)
        self._wait_for(len(self.nodes))

    def _start(self, arguments: list[str], hidden: list[Path] | None = None) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *NODE, *PORTS]
        if hidden:
            mounts = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
            command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command]
        with self.log.open("ab") as log:
            self.nodes.append(
                subprocess.Popen(command, env=self.env, cwd="/", stdout=log, stderr=log, start_new_session=True)
            )

    def _wait_for(self, num_nodes: int) -> None:
        deadline = time.monotonic() + START_S
        while self.log.read_text().count("Ray runtime started") < num_nodes:
            assert self.nodes[-1].poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def processes(self, node: int) -> dict[int, str]:
        """Return the live processes of a node: command lines by process id."""
        found = {}
        for pid in descendants(self.nodes[node].pid):
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # it ended meanwhile
                continue
        return found

    def kill(self, node: int) -> None:
        """End a node as a power cut would."""
        for pid in [self.nodes[node].pid, *descendants(self.nodes[node].pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.nodes[node].wait()

    def command(self, results: Path) -> subprocess.Popen[str]:
        """Start the command on the cluster, from a folder outside of the project."""
        return subprocess.Popen(
            [sys.executable, "-m", "fisherbench", "run", "study.py", "--results", str(results)],
            env={**self.env, "RAY_ADDRESS": self.address, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.blind / "tmp")},
            cwd=self.blind,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _may_unshare(folder: Path) -> bool:
    """Whether a process may be given mounts of its own."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(folder)]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        for node in reversed(range(len(cluster.nodes))):
            cluster.kill(node)
        shutil.rmtree(cluster.temp, ignore_errors=True)


def end(command: subprocess.Popen[str], timeout: float = END_S) -> str:
    """Wait for a command, which does not outlive this, and return what it printed."""
    try:
        return command.communicate(timeout=timeout)[0]
    finally:
        command.kill()


def shipped(cluster: Cluster, node: int) -> set[str]:
    """Return what lies in the folder that Ray made for the code on a node, as a process of a trial there sees it."""
    for pid, name in cluster.processes(node).items():
        if name.startswith("ray::ImplicitFunc"):
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
                paths = [value for value in environment if value.startswith("PYTHONPATH=")][0].partition("=")[2]
                folder = [path for path in paths.split(os.pathsep) if "working_dir_files" in path][0]
                return set(os.listdir(f"/proc/{pid}/root{folder}")) - {"__pycache__"}
            except OSError:  # it ended meanwhile
                continue
    return set()


def test_a_node_writes_nothing_where_it_does_not_see_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "APPEAR_S", 0.0)
    results = tmp_path / "results"
    assert reach._answer(str(results), "probe", "node") == "does not see it"
    assert not results.exists()
    Folder(str(results)).write("probe", b"1")
    assert not reach._answer(str(results), "probe", "node")
    assert (results / "probe-node").read_bytes() == b"1"


@pytest.mark.parametrize("changes", [{"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_MODE": "disabled"}], ids=str)
def test_a_wrong_token_is_refused_in_one_line(cluster, monkeypatch, changes):
    for name, value in {**cluster.env, "RAY_ADDRESS": cluster.address, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="refuses the token: RAY_AUTH_MODE=token .* RAY_AUTH_TOKEN or") as caught:
        session._require_answer(cluster.address)
    assert len(str(caught.value).splitlines()) == 1


def test_results_that_a_node_does_not_reach_are_refused(cluster):
    if not cluster.is_apart:
        pytest.skip("this process may not make mounts: unshare --mount is not permitted")
    command = cluster.command(cluster.blind / "results")
    line = end(command).splitlines()[-1]
    assert command.returncode == 2, line
    assert "is not reached by every node of the Ray" in line
    assert "(127.0.0.2): does not see it" in line
    assert line.count("does not see it") == 1
    assert "s3://" in line
    assert {path.name for path in (cluster.blind / "results").iterdir()} == {"study.json", "plan.json", "lock"}


def test_a_study_uses_both_nodes_and_outlives_one(cluster, monkeypatch):
    results = cluster.seen / "results"
    command = cluster.command(results)

    def wait_for(condition):
        deadline = time.monotonic() + START_S
        while not condition():
            assert command.poll() is None, command.communicate()[0]
            assert time.monotonic() < deadline, f"still not after {START_S} s"
            time.sleep(0.1)

    def num_finished():
        return len(Store(results).finished()) if (results / "study.json").exists() else 0

    try:
        code: dict[int, set[str]] = {}
        for node in (0, 1):
            wait_for(lambda node=node: code.update({node: shipped(cluster, node)}) or code[node])
        wait_for(num_finished)
        cluster.kill(1)
        assert num_finished() < NUM_TRIALS
        wait_for(lambda: num_finished() >= NUM_TRIALS)
        cluster.add_node()  # without which the race, of two workers, would wait
        output = end(command)
    finally:
        command.kill()
    assert command.returncode == 0, output
    for names in code.values():
        assert names == {"fisherbench.py", *PACKAGES, "my_opt.py", "my_helper.py"}
    monkeypatch.syspath_prepend(cluster.blind)
    runs = load(results).runs
    assert len(runs) == NUM_RUNS
    assert sorted(runs["run_id"]) == sorted(run.run_id for run in expand(STUDY))
    assert set(runs["status"]) == {"completed"}
