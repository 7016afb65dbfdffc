import json
import signal
import time

import pytest

from suite.errors import UsageError
from suite.execution import exclusive as module
from suite.execution.exclusive import LEASE_S, NAME, SETTLE_S, Lease, exclusive, kept
from suite.results import Store
from suite.results.folder import Folder
from tests.suite.tiny import FakeClock


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results", "tiny")
    store.create()
    return store


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


class Broken(Folder):
    """A store that does not answer."""

    is_broken = False

    def has(self, name):
        if self.is_broken:
            raise UsageError("no answer")
        return super().has(name)


def lease_of(folder, clock, meanwhile=lambda: None):
    def sleep(seconds):
        assert seconds == SETTLE_S
        clock.advance(seconds)
        meanwhile()

    return Lease(folder, clock, sleep)


def written(folder):
    return json.loads(folder.read(NAME))


def test_a_second_process_is_kept_away_from_a_local_directory(store):
    with (
        exclusive(store),
        pytest.raises(UsageError, match="another fisherbench is at work on .*; wait for it, or choose"),
        exclusive(store),
    ):
        pass
    with exclusive(store):
        pass


def test_a_local_directory_that_is_not_there_cannot_be_worked_in(tmp_path):
    with pytest.raises(UsageError, match="cannot be worked in"), exclusive(Store(tmp_path / "results", "tiny")):
        pass


def test_a_lease_is_taken_renewed_and_given_back(folder):
    clock = FakeClock()
    lease = lease_of(folder, clock)
    lease.take()
    assert written(folder)["renewed_at"] == 100
    clock.advance(20)
    assert lease.renew()
    assert (written(folder)["taken_at"], written(folder)["renewed_at"]) == (100, 123)
    lease.release()
    assert not folder.has(NAME)


def test_a_lease_that_somebody_holds_is_refused_with_who_since_when_and_until(folder):
    clock = FakeClock()
    lease_of(folder, clock).take()
    clock.advance(LEASE_S - SETTLE_S - 1)
    with pytest.raises(UsageError) as caught:
        lease_of(folder, clock).take()
    host, pid = written(folder)["host"], written(folder)["pid"]
    assert str(caught.value) == (
        f"another fisherbench is at work on {folder.uri!r}: process {pid} on {host} since 1970-01-01T00:01:40+00:00; "
        "if it was killed, its lease ends at 1970-01-01T00:02:40+00:00"
    )


def test_a_lease_that_has_run_out_is_free_and_its_holder_notices(folder):
    clock = FakeClock()
    first, second = lease_of(folder, clock), lease_of(folder, clock)
    first.take()
    clock.advance(LEASE_S - SETTLE_S)
    second.take()
    assert not first.renew()
    first.release()
    assert second.renew()


@pytest.mark.parametrize("content", [b"", b"not JSON", b"[]", b"{}", b'{"token": "t", "taken_at": 1}'])
def test_what_is_no_lease_keeps_nobody_away(folder, content):
    folder.write(NAME, content)
    lease = lease_of(folder, FakeClock())
    lease.take()
    assert lease.renew()


def test_of_two_that_start_at_once_the_later_writer_goes_on(folder):
    clock = FakeClock()
    rival = lease_of(folder, clock)

    def overwrite():
        folder.remove(NAME)  # as the rival saw it before we wrote
        rival.take()

    with pytest.raises(UsageError, match="another fisherbench is at work"):
        lease_of(folder, clock, meanwhile=overwrite).take()
    assert rival.renew()


def test_a_lease_whose_object_was_removed_is_lost(folder):
    lease = lease_of(folder, FakeClock())
    lease.take()
    folder.remove(NAME)
    assert not lease.renew()
    assert not folder.has(NAME)


def test_a_lease_that_ran_out_while_the_process_stood_still_is_not_written_over(folder):
    clock = FakeClock()
    lease = lease_of(folder, clock)
    lease.take()
    clock.advance(LEASE_S)
    assert not lease.renew()
    assert written(folder)["renewed_at"] == 100
    clock.advance(-LEASE_S)
    assert not lease.renew()  # never again


def test_a_store_that_does_not_answer_costs_the_lease_only_when_it_has_run_out(tmp_path):
    clock, folder = FakeClock(), Broken(str(tmp_path))
    lease = lease_of(folder, clock)
    lease.take()
    folder.is_broken = True
    clock.advance(LEASE_S - SETTLE_S - 1)
    assert lease.renew()
    clock.advance(1)
    assert not lease.renew()


def test_a_lease_is_renewed_while_the_work_goes_on(folder):
    lease = Lease(folder, sleep=lambda _: None)
    lease.take()
    first = written(folder)["renewed_at"]
    with kept(lease, 0.01):
        deadline = time.monotonic() + 10
        while written(folder)["renewed_at"] == first:
            assert time.monotonic() < deadline
    assert not folder.has(NAME)


def test_work_is_ended_when_the_lease_is_lost_and_the_rival_keeps_its_own(folder):
    lease = Lease(folder, sleep=lambda _: None)
    lease.take()
    started = time.monotonic()
    with pytest.raises(UsageError, match="the lease on the results was lost"), kept(lease, 0.01):
        folder.write(NAME, json.dumps({"token": "rival", "taken_at": 0, "renewed_at": 0}).encode())
        time.sleep(30)
    assert time.monotonic() - started < 10
    assert written(folder)["token"] == "rival"


def test_an_interrupt_is_an_interrupt_and_gives_the_lease_back(folder):
    lease = Lease(folder, sleep=lambda _: None)
    lease.take()
    with pytest.raises(KeyboardInterrupt), kept(lease, 60):
        signal.raise_signal(signal.SIGINT)
    assert not folder.has(NAME)


def test_an_object_store_is_leased(monkeypatch, store):
    monkeypatch.setattr(Folder, "is_local", False)
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    with exclusive(store):
        assert written(store.folder)["token"]
        with pytest.raises(UsageError, match="another fisherbench is at work"), exclusive(store):
            pass
    assert not store.folder.has(NAME)
