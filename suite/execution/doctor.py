"""Whether this machine can run it: what is there, what is missing, and what that means."""

import os
import shutil

import torch

from suite.execution import provenance


def examine() -> list[str]:
    """Look at the machine.

    Returns:
        A line for each finding.
    """
    lines = [f"hardware: {provenance.hardware()}"]
    usable = provenance.usable_cpus()
    lines.append(f"usable CPUs: {usable}" + ("" if usable > 1 else " (two are needed for races with 2 workers)"))
    load = provenance.load_average()
    if load is not None:
        busy = " (something else is running: timings will be distorted)" if load > usable / 2 else ""
        lines.append(f"load average: {load:.1f}{busy}")
    lines.append(
        f"CUDA: {torch.cuda.device_count()} device(s)" if torch.cuda.is_available() else "CUDA: none, runs use the CPU"
    )
    lines.append(f"RAY_ADDRESS: {os.environ.get('RAY_ADDRESS', 'not set, a private Ray is started for each command')}")
    shm = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else None
    if shm is not None:
        lines.append(f"shared memory: {shm >> 20} MiB free" + (" (Ray wants 200)" if shm < 200 << 20 else ""))
    lines.append(f"disk: {shutil.disk_usage('.').free >> 30} GiB free here")
    return lines
