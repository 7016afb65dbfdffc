import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.execution import session
from tests.suite.tiny import plan

CPU_NODES = [{"CPU": 4.0, "memory": 1e9}, {"CPU": 3.0}, {"memory": 1e9}]
GPU_NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}, {"CPU": 2.0, "GPU": 4.0}]


@pytest.mark.parametrize(
    ("nodes", "num_threads", "gpus", "expected"),
    [
        (CPU_NODES, 1, 1.0, 7),
        (CPU_NODES, 2, 1.0, 3),
        (CPU_NODES, 3, 1.0, 2),
        (CPU_NODES, 5, 1.0, 0),
        (GPU_NODES, 1, 1.0, 4),  # the second node has no GPU, the third one CPU for two of its four
        (GPU_NODES, 1, 0.5, 6),
        (GPU_NODES, 1, 0.1, 10),  # as many as CPUs
        (GPU_NODES, 4, 0.1, 2),
        ([{"CPU": 8.0, "GPU": 2.0}], 1, 0.6, 2),  # not three: none has its share on two GPUs
        ([{"CPU": 99.0, "GPU": 3.0}], 1, 0.1, 30),
        ([{"CPU": 99.0, "GPU": 3.0}], 1, 2.0, 1),
        (GPU_NODES, 1, 0.0, 74),  # asked for none
        ([], 1, 1.0, 0),
    ],
)
def test_a_worker_has_its_cpus_and_its_share_of_a_gpu_on_one_node(nodes, num_threads, gpus, expected):
    assert session.slots_on(nodes, num_threads, gpus) == expected


@pytest.fixture
def cluster(monkeypatch):
    def connect(nodes):
        monkeypatch.setattr(session, "_resources", lambda: nodes)
        total = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
        monkeypatch.setattr(session.ray, "cluster_resources", lambda: total)

    return connect


def test_runs_that_fit_are_let_through(cluster):
    cluster(CPU_NODES)
    session.require_room([plan(num_workers=2, num_threads=3), plan(num_workers=4, gpus_per_worker=2)])
    cluster(GPU_NODES)
    session.require_room([plan(num_workers=4), plan(num_workers=8, gpus_per_worker=0.25)])


@pytest.mark.parametrize(
    ("nodes", "run", "message"),
    [
        (
            CPU_NODES,
            plan(num_workers=4, num_threads=2),
            "4 worker(s) of 2 CPU(s) each do not fit: Ray has 7 CPUs, 4 on its largest node, and 0 GPUs: room for 3",
        ),
        (
            GPU_NODES,
            plan(num_workers=8, gpus_per_worker=0.6),
            "8 worker(s) of 1 CPU(s) and 0.6 GPU(s) each do not fit: Ray has 74 CPUs, 64 on its largest node, "
            "and 6 GPUs: room for 4",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_what_there_is(cluster, nodes, run, message):
    cluster(nodes)
    with pytest.raises(UsageError) as caught:
        session.require_room([plan(), run])
    assert str(caught.value) == message


def test_the_environment_of_the_driver_decides_on_the_nodes(monkeypatch):
    monkeypatch.setattr(os, "environ", {"FISHERBENCH_DATA": "/data", "OMP_NUM_THREADS": "2", "AWS_SECRET": "s"})
    assert session._forwarded() == {"FISHERBENCH_DATA": "/data", "OMP_NUM_THREADS": "2"}


def staged(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_packages_are_shipped_and_nothing_else(tmp_path):
    files = staged(session._stage([], tmp_path / "code"))
    root = Path(session.__file__).parents[2]
    packages = ("optimizers", "reports", "studies", "suite")
    assert {name.partition("/")[0] for name in files} == {"fisherbench.py", *packages}
    assert {name for name in files if name.endswith(".py")} == {
        "fisherbench.py",
        *(path.relative_to(root).as_posix() for name in packages for path in (root / name).rglob("*.py")),
    }
    assert not [name for name in files if "__pycache__" in name]


def test_modules_of_the_users_own_are_shipped_with_those_beside_them(tmp_path, monkeypatch):
    place, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    for file in ("my_opt.py", "my_helper.py", "my_unused.py", "my_package/part.py", "my_namespace/deep/part.py"):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text("")
    (place / "my_opt.py").write_text("import my_helper")
    (place / "my_package/__init__.py").write_text("")
    (place / "my_package/table.csv").write_text("1")
    elsewhere.mkdir()
    (elsewhere / "my_other.py").write_text("")
    code = """
        import sys
        from pathlib import Path
        import my_opt, my_other
        from suite.execution.session import _stage
        _stage(["my_opt", "my_package", "my_namespace", "suite", "torch", "json", "sys", "no_such"], Path(sys.argv[1]))
    """
    path = os.pathsep.join([str(place), str(elsewhere), str(Path(session.__file__).parents[2])])
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "code")],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    own = {name for name in staged(tmp_path / "code") if name.startswith("my_")}
    assert own == {
        "my_opt.py",
        "my_helper.py",
        "my_package/__init__.py",
        "my_package/part.py",
        "my_package/table.csv",
        "my_namespace/deep/part.py",
    }
    top = {name.partition("/")[0] for name in staged(tmp_path / "code")} - {name.partition("/")[0] for name in own}
    assert top == {"fisherbench.py", "optimizers", "reports", "studies", "suite"}


def refusal(monkeypatch, address, wait_s=None):
    monkeypatch.setenv("RAY_ADDRESS", address)
    if wait_s:
        monkeypatch.setattr(session, "ANSWER_S", wait_s)
    with pytest.raises(UsageError) as caught, session.ray_session():
        pass
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_an_address_that_is_none_is_refused(monkeypatch):
    expected = "no Ray answers at RAY_ADDRESS='garbage': ValueError: Invalid address format: garbage"
    assert refusal(monkeypatch, "garbage") == expected


@pytest.mark.filterwarnings("error")
def test_an_address_where_no_ray_is_is_refused_in_time(monkeypatch):
    with socket.create_server(("", 0)) as server:  # takes the call and says nothing
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert refusal(monkeypatch, address, 3) == f"no Ray answers at RAY_ADDRESS={address!r} within 3 s"
