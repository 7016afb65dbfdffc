"""On what, and with what, a run was done."""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

_PACKAGES = (
    *("torch", "torchvision", "timm", "vit-pytorch", "tokenizers", "ray", "optuna"),
    *("numpy", "scipy", "pandas", "pyarrow", "scikit-learn"),
)
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG")


@cache
def hardware() -> str:
    """Return the model of the accelerator, or of the processor, and the number of cores.

    Returns:
        One line.
    """
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    cpu = f"{processor}, {os.cpu_count()} cores"
    return f"{torch.cuda.get_device_name()}; {cpu}" if torch.cuda.is_available() else cpu


@cache
def environment() -> str:
    """Return versions, commit, platform and the environment variables that matter.

    Returns:
        A JSON object.
    """
    return json.dumps({
        "fisherbench": _version("fisherbench"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit(),
        **{name: _version(name) for name in _PACKAGES},
        **{name: os.environ[name] for name in _VARIABLES if name in os.environ},
    })


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this code runs from.

    Returns:
        The hash, with ``-dirty`` behind it where files differ; ``None`` outside a checkout.
    """
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def usable_cpus() -> int:
    """Return the CPUs that this process may run on.

    Returns:
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Return the 1-minute load average.

    Returns:
        Its value, or ``None`` where the platform has none.
    """
    return os.getloadavg()[0] if sys.platform != "win32" else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
