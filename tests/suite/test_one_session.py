"""Several studies share one Ray."""

from contextlib import contextmanager

import pytest

from suite.execution import session
from suite.execution.session import OneSession, ray_session


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Count the Rays that are started and ended, without any."""
    events = []

    @contextmanager
    def own_session(modules):
        scratch = tmp_path / f"ray{len(events)}"
        scratch.mkdir()
        events.append(("up", tuple(modules)))
        yield scratch
        events.append(("down",))

    monkeypatch.setattr(session, "_own_session", own_session)
    return events


def test_a_study_by_itself_has_a_ray_of_its_own(started):
    with ray_session(["mine"]):
        assert started == [("up", ("mine",))]
    assert started == [("up", ("mine",)), ("down",)]


def test_studies_share_the_ray_of_the_first_and_each_has_its_own_scratch(started):
    with OneSession():
        with ray_session() as one:
            pass
        with ray_session() as other:
            assert started == [("up", ())]
        assert one != other
        assert one.parent == other.parent
    assert started == [("up", ()), ("down",)]
    assert OneSession.current is None


def test_after_a_failure_the_next_study_has_a_new_ray(started):
    with OneSession() as shared:
        with ray_session():
            pass
        shared.close()
        with ray_session():
            pass
    assert started == [("up", ()), ("down",), ("up", ()), ("down",)]


def test_no_ray_is_started_where_nothing_is_due(started):
    with OneSession():
        pass
    assert started == []
