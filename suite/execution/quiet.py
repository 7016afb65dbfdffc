"""Wait until nothing else runs on this machine: what is measured alone has to be alone.

Ray starts helper processes that import torch for several seconds after a worker group is up.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

BUSY_CORES = 0.15  # an idle machine with Ray on it stays below
WINDOW_S = 1.0
PATIENCE_S = 20.0


def wait_until_quiet(
    busy_time: Callable[[], float | None] | None = None,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Sleep until the machine's cores are idle for a second.

    Args:
        busy_time: Seconds that all cores together have worked since boot; ``None`` where that cannot be known.
        now: Monotonic time in seconds.
        sleep: Waits for so many seconds.

    Returns:
        Whether it became quiet; after 20 s the answer is no. Without ``/proc`` it is no at once.
    """
    read = busy_time or _busy_time
    started = now()
    while now() - started < PATIENCE_S:
        before, at = read(), now()
        if before is None:
            return False
        sleep(WINDOW_S)
        after = read()
        if after is not None and after - before < BUSY_CORES * (now() - at):
            return True
    return False


def _busy_time() -> float | None:
    """Return what all cores together have worked since boot, in seconds; ``None`` where there is no ``/proc/stat``."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
