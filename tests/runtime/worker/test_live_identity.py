"""A session's chunks are the same bytes alone, in company, after suspension, and after moves between real workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.transfer.messages import Way
from runtime.worker.messages import Moved, Resume, Suspend
from scheduler.cluster import SessionId
from tests.runtime.worker.live import LiveFleet, LiveWorker, a_live_fleet
from tests.runtime.worker.live_migrations import migrate
from tests.runtime.worker.live_sessions import Script, makers_of

CHUNKS = 16  # of each session, at least
_names = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done to one of the sessions."""

    session: int
    way: Way | None  # it moves to the other worker; None: to host memory and back
    more: int  # chunks that have to come of it afterwards


scripts = st.builds(
    Script,
    model=st.just("tiny"),
    profile=st.sampled_from("ab"),
    seed=st.integers(0, 2**63 - 1),
    prompt=st.sampled_from(["red circle", "blue square moves up", ""]),
    changes=st.lists(
        st.tuples(
            st.integers(0, CHUNKS),
            st.sampled_from([None, "green triangle", "white background"]),
            st.sampled_from([None, "", "up", "left", "stop"]),
        ),
        max_size=3,
        unique_by=lambda change: change[0],
    ).map(lambda changes: tuple(sorted(changes))),
)
ways: st.SearchStrategy[Way | None] = st.sampled_from(["tcp", "gloo", None])
steps = st.lists(st.builds(Step, session=st.integers(0, 2), way=ways, more=st.integers(0, 2)), min_size=2, max_size=6)


@pytest.fixture(scope="module")
def fleet() -> Iterator[LiveFleet]:
    with a_live_fleet() as found:
        for name in ("a", "b"):
            found.start(name)
        yield found


@settings(max_examples=4)
@given(asked=st.lists(scripts, min_size=3, max_size=3), schedule=steps)
def test_chunks_are_those_of_a_session_alone(fleet: LiveFleet, asked: list[Script], schedule: list[Step]) -> None:
    """All begin on one worker. The sink compares each chunk with that of a session that has a ChunkModel to itself."""
    sessions = [SessionId(f"session {next(_names)}") for _ in asked]
    for session_id, script in zip(sessions, asked, strict=True):
        fleet.open(session_id, fleet.workers["a"], script)
    for step in schedule:
        session_id = sessions[step.session]
        home = fleet.workers[fleet.owner[session_id][0]]
        if step.way is None:
            _there_and_back(home, session_id)
        else:
            outcome = migrate(fleet, session_id, fleet.workers["b" if home.name == "a" else "a"], step.way)
            assert outcome.committed, outcome.reasons
        fleet.wait_chunks(session_id, fleet.sink.taken[session_id] + step.more)
    for at, session_id in enumerate(sessions):
        fleet.wait_chunks(session_id, CHUNKS)
        moves = sum(step.session == at and step.way is not None for step in schedule)
        assert len(makers_of(fleet.sink.makers[session_id])) <= moves + 1
        fleet.shut(session_id)
    for worker in fleet.workers.values():
        assert worker.settled().device.used == 0


def test_a_change_waits_for_its_chunk_through_a_move(fleet: LiveFleet) -> None:
    """It is told before the session moves twice, and takes effect after that."""
    session_id = SessionId("steered")
    changes = ((1, "blue square", None), (10, None, "up"), (12, "red circle on white", ""))
    fleet.open(session_id, fleet.workers["a"], Script(model="tiny", changes=changes), credit=8)
    assert fleet.until(lambda: fleet.confirmed[session_id] == len(changes))
    for target, way in (("b", "tcp"), ("a", "gloo")):
        assert migrate(fleet, session_id, fleet.workers[target], "tcp" if way == "tcp" else "gloo").committed
    fleet.wait_chunks(session_id, 8)
    fleet.credit[session_id] = None
    fleet.serve(session_id)
    fleet.wait_chunks(session_id, 14)
    fleet.shut(session_id)


def _there_and_back(worker: LiveWorker, session_id: SessionId) -> None:
    for order, state in ((Suspend(session_id=session_id), "suspended"), (Resume(session_id=session_id), "active")):
        while worker.take(Moved, session_id=session_id) is not None:
            pass  # what it has said before is not the answer
        worker.command(order)
        assert worker.wait(Moved, session_id=session_id, state=state) is not None
