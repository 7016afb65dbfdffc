"""One process at a time on the same results: a file lock on a local disk, a lease on an object store.

An object store has no locks, and a process that is killed can give nothing back there. So the object ``lock`` says who
is at work and until when; its holder renews it, and whoever finds it run out may take it.
"""

import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from suite.errors import UsageError
from suite.results import Store
from suite.results.folder import Folder

LEASE_S = 60.0  # after a kill, nobody can go on for so long; the clocks of two machines must not differ by as much
SETTLE_S = 3.0  # longer than a rival takes from its look at the lease to its own write
NAME = "lock"


@contextmanager
def exclusive(store: Store) -> Iterator[None]:
    """Keep a second process away from the same results; what keeps it away ends with this process.

    Args:
        store: The results.

    Raises:
        UsageError: If another process is at work on them, or has taken them over.
    """  # noqa: DOC502
    with _locked(store) if store.folder.is_local else _leased(store):
        yield


@contextmanager
def _locked(store: Store) -> Iterator[None]:
    try:
        file = open(store.folder.path(NAME), "w", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise UsageError(f"{store.uri!r} cannot be worked in: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another fisherbench is at work on {store.uri!r}; wait for it, or choose another --results"
            ) from error
        yield


@contextmanager
def _leased(store: Store) -> Iterator[None]:
    lease = Lease(store.folder)
    lease.take()
    with kept(lease, LEASE_S / 4):
        yield


class Lease:
    """The right to work on the results in a folder, for a time.

    Args:
        folder: The results.
        clock: Seconds since the epoch, as all machines that may want the lease have them.
        sleep: Waits for some seconds.
    """

    def __init__(
        self, folder: Folder, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._folder, self._clock, self._sleep = folder, clock, sleep
        self._mine = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
        self._renewed_at = 0.0
        self.is_lost = False

    def take(self) -> None:
        """Take the lease if nobody has it.

        Raises:
            UsageError: If somebody has it, or was quicker.
        """
        holder = self._read()
        if holder is not None and self._clock() < holder["renewed_at"] + LEASE_S:
            raise UsageError(self._refusal(holder))
        self._mine["taken_at"] = self._clock()
        self._write()
        self._sleep(SETTLE_S)
        holder = self._read()
        if holder is None or holder["token"] != self._mine["token"]:
            raise UsageError(self._refusal(holder or self._mine))

    def renew(self) -> bool:
        """Renew the lease while it is ours; where the store does not answer, until it has run out.

        Returns:
            Whether it still is; never again once it was not.
        """
        try:
            holder = self._read()
            is_ours = holder is not None and holder["token"] == self._mine["token"]
            # One that had run out is not written over, even if it is still there: a rival may be about to.
            if is_ours and not self._has_run_out():
                self._write()
        except UsageError:
            is_ours = True
        self.is_lost = self.is_lost or not is_ours or self._has_run_out()
        return not self.is_lost

    def release(self) -> None:
        """Give the lease back if it is ours."""
        holder = self._read()
        if holder is not None and holder["token"] == self._mine["token"]:
            self._folder.remove(NAME)

    def _has_run_out(self) -> bool:
        return self._clock() >= self._renewed_at + LEASE_S

    def _write(self) -> None:
        now = self._clock()
        self._folder.write(NAME, json.dumps({**self._mine, "renewed_at": now}).encode())
        self._renewed_at = now  # the time before the write: what others will read

    def _read(self) -> dict[str, Any] | None:
        """Return the lease that is there; ``None`` if there is none, or nothing that we would have written."""
        if not self._folder.has(NAME):
            return None
        try:
            lease = json.loads(self._folder.read(NAME))
            return {
                **lease,
                **{name: float(lease[name]) for name in ("taken_at", "renewed_at")},
                "token": lease["token"],
            }
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            return None

    def _refusal(self, holder: dict[str, Any]) -> str:
        since, until = holder["taken_at"], holder.get("renewed_at", self._clock()) + LEASE_S
        return (
            f"another fisherbench is at work on {self._folder.uri!r}: process {holder.get('pid')} on "
            f"{holder.get('host')} since {_time(since)}; if it was killed, its lease ends at {_time(until)}"
        )


@contextmanager
def kept(lease: Lease, every_s: float) -> Iterator[None]:
    """Renew a lease for the duration, and end what the main thread does when it is lost.

    The main thread gets what Ctrl-C sends: it is the one way to end whatever it waits for, a sweep of Ray Tune too, and
    every part of the program already ends cleanly by it.

    Args:
        lease: That was taken.
        every_s: Seconds between renewals.

    Raises:
        UsageError: If it was lost.
        KeyboardInterrupt: If it was not, and the person at the keyboard says so.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease, every_s, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if lease.is_lost:
            raise UsageError(
                f"the lease on the results was lost: this process did not renew it for {LEASE_S:.0f} s, or another has "
                "taken it; the same command goes on where it stopped"
            ) from error
        raise
    finally:
        ended.set()
        thread.join()
        if not lease.is_lost:
            lease.release()


def _renew(lease: Lease, every_s: float, ended: threading.Event) -> None:
    while not ended.wait(every_s):
        if not lease.renew():
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
            return


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
