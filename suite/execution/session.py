"""Start Ray, or join a running one; leave nothing behind."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray

from suite.config import Run
from suite.errors import UsageError
from suite.execution.provenance import usable_cpus
from suite.execution.watchdog import Watchdog

OBJECT_STORE_BYTES = 200 << 20  # plans and tokens are all that passes through it
_PREFIX = "fisherbench-"
_NOT_SHIPPED = ["/.venv/", "/results/", "/.git/", "/docs/", "/tests/"]


@contextmanager
def ray_session() -> Iterator[Path]:
    """Connect to the Ray of ``RAY_ADDRESS``, else start a private one on this machine for the duration.

    Yields:
        A scratch directory for what Ray wants to write; removed afterwards.

    Raises:
        UsageError: If there is no Ray at ``RAY_ADDRESS``.
    """  # noqa: DOC502
    address = os.environ.get("RAY_ADDRESS")
    watchdog = Watchdog()
    _remove_left_behind()
    scratch = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        if address:
            _join(address)
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


def _join(address: str) -> None:
    root = Path(__file__).parents[2]
    try:
        ray.init(
            address=address,
            runtime_env={"working_dir": str(root), "excludes": _NOT_SHIPPED},
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray answers at RAY_ADDRESS={address!r}: {str(error).splitlines()[0]}") from error


def require_room(runs: Sequence[Run]) -> None:
    """Refuse runs that the connected Ray has no room for, which would wait for ever.

    Args:
        runs: Planned.

    Raises:
        UsageError: If one needs more CPUs or GPUs than there are.
    """
    for run in runs:
        cpus = run.num_workers * run.num_threads
        if cpus > num_cpus() or run.num_threads > largest_node_cpus():
            need = f"{run.num_workers} worker(s) x {run.num_threads} thread(s)"
            raise UsageError(
                f"{need} need {cpus} CPUs, but Ray has {num_cpus()}, {largest_node_cpus()} on its largest node"
            )
        if 0 < num_gpus() < run.num_workers:
            raise UsageError(f"{run.num_workers} workers need a GPU each, but Ray has {num_gpus()}")


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
    return int(max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))


def num_gpus() -> int:
    """Return the GPUs of the connected Ray.

    Returns:
        Whole GPUs.
    """
    return int(ray.cluster_resources().get("GPU", 0))
