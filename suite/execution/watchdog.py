"""Ends what a killed driver leaves behind: Ray's agents would outlive it by a minute.

When the driver is killed outright, Ray's servers and workers die with it, but two agents wait 60 s for an answer from
the dead server. So the driver starts this file as a process of its own that holds the other end of a pipe: it closes
when the driver ends, however it ends. Only processes that the driver named are ended, and only if their start time
shows that they are still the same.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 5.0  # for Ray's own clean-up


class Watchdog:
    """Watches over the processes that this one starts from now on; a no-op where there is no ``/proc``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._others = set(descendants(os.getpid()))
        if Path("/proc/self/stat").exists():
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True, text=True
            )

    def watch(self) -> None:
        """Name what was started since as that to end."""
        if self._process is not None and self._process.stdin is not None:
            ours = set(descendants(os.getpid())) - self._others - {self._process.pid}
            found = [(pid, start_time(pid)) for pid in ours]
            self._process.stdin.writelines(f"{pid} {started}\n" for pid, started in found)
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """End the watch; what was named and is still there is ended after a moment."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on.

    Args:
        pid: Of the process.

    Returns:
        Process ids.
    """
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = list(children.get(pid, []))
    for child in found:  # grows while it is walked
        found += children.get(child, [])
    return found


def start_time(pid: int) -> str | None:
    """Return when a process started.

    Args:
        pid: Of the process.

    Returns:
        In clock ticks since boot, as text; ``None`` if it is gone.
    """
    fields = _stat(pid)
    return fields[19] if fields else None


def is_running(pid: int, started: str | None) -> bool:
    """Tell whether a process is still there, and is no zombie.

    Args:
        pid: Of the process.
        started: What :func:`start_time` said of it.

    Returns:
        Whether it runs.
    """
    fields = _stat(pid)
    return fields is not None and fields[19] == started and fields[0] not in {"Z", "X"}


def _stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/<pid>/stat`` from the state on, which follows the name in parentheses."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def main() -> None:
    """Read what to watch until the driver ends, then end what is left of it."""
    named = [line.split() for line in sys.stdin]
    deadline = time.monotonic() + GRACE_S
    while alive := [int(pid) for pid, started in named if start_time(int(pid)) == started]:
        if time.monotonic() > deadline:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.2)


if __name__ == "__main__":
    main()
