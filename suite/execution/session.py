"""Start Ray, or join a running one; leave nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import ray
from ray.exceptions import RayError

from suite.config import Run
from suite.errors import UsageError
from suite.execution.provenance import usable_cpus
from suite.execution.watchdog import Watchdog

OBJECT_STORE_BYTES = 200 << 20  # plans and tokens are all that passes through it
ANSWER_S = 30.0  # for a running Ray to answer; it takes 2 s, on a busy machine 10
_PREFIX = "fisherbench-"
_ROOT = Path(__file__).resolve().parents[2]
_SHIPPED = ("fisherbench.py", "optimizers", "reports", "studies", "suite")
_INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_NOT_SHIPPED = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")


class OneSession:
    """Has several studies share one Ray, which is up from the first that needs it; a context manager.

    Attributes:
        current: The one that is entered; ``None``: each session has a Ray of its own.
    """

    current: ClassVar["OneSession | None"] = None

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._scratch: Path | None = None

    def __enter__(self) -> "OneSession":
        OneSession.current = self
        return self

    def __exit__(self, *_: object) -> None:
        OneSession.current = None
        self.close()

    def close(self) -> None:
        """End the Ray that is up; the next study starts another."""
        self._stack.close()
        self._scratch = None

    def scratch(self, modules: Sequence[str]) -> Path:
        """Return a scratch directory of the Ray that is shared; it is started if there is none.

        Args:
            modules: As for :func:`ray_session`; those of the first study count.

        Returns:
            A directory for one study.
        """
        if self._scratch is None:
            self._scratch = self._stack.enter_context(_own_session(modules))
        return Path(tempfile.mkdtemp(dir=self._scratch))


@contextmanager
def ray_session(modules: Sequence[str] = ()) -> Iterator[Path]:
    """Connect to the Ray of ``RAY_ADDRESS``, else start a private one on this machine for the duration.

    Within a :class:`OneSession`, the one that it shares.

    Args:
        modules: Top-level names of modules of the user's own that the runs name.

    Yields:
        A scratch directory for what Ray wants to write; removed afterwards.

    Raises:
        UsageError: If no Ray answers at ``RAY_ADDRESS``, or it refuses the token.
    """  # noqa: DOC502
    if OneSession.current is not None:
        yield OneSession.current.scratch(modules)
        return
    with _own_session(modules) as scratch:
        yield scratch


@contextmanager
def _own_session(modules: Sequence[str]) -> Iterator[Path]:
    """Connect to the Ray of ``RAY_ADDRESS``, else start a private one on this machine for the duration.

    The nodes of a running Ray get a copy of this project's packages, so they need no checkout, but its dependencies.

    Args:
        modules: Top-level names of modules of the user's own that the runs name; they are copied as well.

    Yields:
        A scratch directory for what Ray wants to write; removed afterwards.

    Raises:
        UsageError: If no Ray answers at ``RAY_ADDRESS``, or it refuses the token.
    """  # noqa: DOC502
    address = os.environ.get("RAY_ADDRESS")
    watchdog = Watchdog()
    _remove_left_behind()
    scratch = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        if address:
            _join(address, modules, scratch)
        else:
            ray.init(
                address="local",
                num_cpus=usable_cpus(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level="error",
                _temp_dir=str(scratch / "ray"),
            )
        watchdog.watch()
        signal.signal(signal.SIGTERM, _interrupt)  # Ray has set its own, which prints a stack trace
        yield scratch
    finally:
        ray.shutdown()
        watchdog.dismiss()
        shutil.rmtree(scratch, ignore_errors=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _remove_left_behind() -> None:
    """Remove the scratch directories of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _join(address: str, modules: Sequence[str], scratch: Path) -> None:
    """Connect to a running Ray, whose nodes get a copy of the code."""
    _require_answer(address)
    try:
        ray.init(
            address=address,
            runtime_env={"working_dir": str(_stage(modules, scratch / "code")), "env_vars": _forwarded()},
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise UsageError(f"the Ray at RAY_ADDRESS={address!r} cannot be joined: {_last_line(str(error))}") from error


def _require_answer(address: str) -> None:
    """Ask for an answer in a process of its own: ``ray.init`` itself tries a wrong address for a quarter of an hour."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_S)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"no Ray answers at RAY_ADDRESS={address!r} within {ANSWER_S:.0f} s") from error
    if asked.returncode and "AuthenticationError" in asked.stderr:
        raise UsageError(
            f"the Ray at RAY_ADDRESS={address!r} refuses the token: RAY_AUTH_MODE=token (the default here, now "
            f"{os.environ.get('RAY_AUTH_MODE')!r}) needs the cluster's own in RAY_AUTH_TOKEN or ~/.ray/auth_token; "
            "a cluster without tokens needs RAY_AUTH_MODE=disabled"
        )
    if asked.returncode:
        raise UsageError(f"no Ray answers at RAY_ADDRESS={address!r}: {_last_line(asked.stderr)}")


def _last_line(text: str) -> str:
    """Return the end of a traceback or of a message."""
    return (text.strip().splitlines() or ["no reason was given"])[-1]


def _forwarded() -> dict[str, str]:
    """Return what the environment of a driver decides on all nodes."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("FISHERBENCH_") or name == "OMP_NUM_THREADS"
    }


def _stage(modules: Sequence[str], folder: Path) -> Path:
    """Copy into a folder what the nodes need: the project's packages, and modules of the user's own.

    An own folder, rather than the project's with exclusions, as nobody can list what else may lie there.

    Args:
        modules: Top-level names; with each go the modules beside it that this process has imported.
        folder: To be made.

    Returns:
        The folder.
    """
    own = [place for place in map(_place, modules) if place]
    beside = {place.parent for place in own}
    imported = [place for place in map(_place, list(sys.modules)) if place and place.parent in beside] if own else []
    folder.mkdir()
    for source in dict.fromkeys([*(_ROOT / name for name in _SHIPPED), *own, *imported]):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=_NOT_SHIPPED)
        else:
            shutil.copy2(source, folder)
    return folder


def _place(module: str) -> Path | None:
    """Return file or folder of a top-level module of a user's own; ``None`` for Python's and installed ones."""
    try:
        spec = find_spec(module) if "." not in module else None
    except (ImportError, ValueError):  # ValueError: a module without a spec, as __main__
        spec = None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])  # a package without __init__.py has nothing else
    if not folders and not spec.has_location:
        return None
    place = Path(folders[0] if folders else spec.origin or "").resolve()
    return None if any(place.is_relative_to(folder) for folder in _INSTALLED) else place


def require_room(runs: Sequence[Run]) -> None:
    """Refuse runs that the connected Ray has no room for, which would wait for ever.

    Args:
        runs: Planned.

    Raises:
        UsageError: If one has more workers than fit on the nodes at once.
    """
    gpus = num_gpus()
    for run in runs:
        share = run.gpus_per_worker if gpus else 0.0
        slots = worker_slots(run.num_threads, share)
        if run.num_workers > slots:
            needs = f"{run.num_threads} CPU(s)" + (f" and {share:g} GPU(s)" if share else "")
            raise UsageError(
                f"{run.num_workers} worker(s) of {needs} each do not fit: Ray has {num_cpus()} CPUs, "
                f"{largest_node_cpus()} on its largest node, and {gpus} GPUs: room for {slots}"
            )


def worker_slots(num_threads: int, gpus_per_worker: float = 1.0) -> int:
    """Return how many workers the connected Ray can hold at once.

    Args:
        num_threads: CPUs that each takes.
        gpus_per_worker: GPUs that each takes where the cluster has any.

    Returns:
        Their number.
    """
    return slots_on(_resources(), num_threads, gpus_per_worker)


def slots_on(nodes: Sequence[Mapping[str, float]], num_threads: int, gpus_per_worker: float) -> int:
    """Return how many workers fit on nodes.

    Args:
        nodes: Resources of each, as Ray names them.
        num_threads: CPUs that a worker takes, all on one node.
        gpus_per_worker: GPUs that it takes if any node has one; of less than 1, as many as fit share a GPU.

    Returns:
        Their number.
    """
    has_gpus = gpus_per_worker > 0 and any(node.get("GPU", 0) for node in nodes)
    return sum(
        min(
            int(node.get("CPU", 0) // num_threads),
            _gpu_slots(int(node.get("GPU", 0)), gpus_per_worker) if has_gpus else sys.maxsize,
        )
        for node in nodes
    )


def _gpu_slots(num_gpus: int, share: float) -> int:
    if share >= 1:
        return int(num_gpus // share)
    return num_gpus * int(1 / share + 1e-6)  # 1 / 0.1 workers on each GPU: none gets its share from two


def _resources() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def num_cpus() -> int:
    """Return the CPUs of the connected Ray.

    Returns:
        Whole CPUs.
    """
    return int(ray.cluster_resources().get("CPU", 0))


def largest_node_cpus() -> int:
    """Return the CPUs of the node that has most, which a task that wants to be alone on a node can ask for.

    Returns:
        Whole CPUs.
    """
    return int(max(node.get("CPU", 0) for node in _resources()))


def num_gpus() -> int:
    """Return the GPUs of the connected Ray.

    Returns:
        Whole GPUs.
    """
    return int(ray.cluster_resources().get("GPU", 0))
