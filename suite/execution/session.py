"""Start Ray, or join a running one; leave nothing behind."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

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
        yield scratch
    finally:
        ray.shutdown()
        watchdog.dismiss()
        shutil.rmtree(scratch, ignore_errors=True)


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
