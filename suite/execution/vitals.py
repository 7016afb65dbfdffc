"""End the command in one line if Ray's own servers die: Ray itself would wait for a minute, or print pages."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.execution.watchdog import descendants, is_running, start_time

POLL_S = 0.5
SERVERS = {"raylet/raylet": "node agent", "gcs_server": "control server"}


@contextmanager
def ended_with_ray() -> Iterator[None]:
    """Watch over the servers of a Ray that this process has started; a no-op on a Ray that it has joined."""
    servers = {pid: (name, start_time(pid)) for pid in descendants(os.getpid()) if (name := _server(pid))}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            for pid, (name, started) in servers.items():
                if not is_running(pid, started):
                    _end(name)

    if servers:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _server(pid: int) -> str | None:
    """Return which of Ray's servers a process is."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return next((name for part, name in SERVERS.items() if part in command.partition("\0")[0]), None)


def _end(name: str) -> None:
    """End this process at once: its main thread waits for an answer that will not come. The watchdog clears up."""
    sys.stdout.flush()
    print(f"fisherbench: Ray's {name} has died; the same command goes on where it stopped", file=sys.stderr, flush=True)
    os._exit(2)
