"""What a real worker does with a poisonous session, too many sessions, a slow client, and signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.worker.messages import (
    Close,
    Closed,
    Demand,
    Encoding,
    Lost,
    Moved,
    Open,
    Refused,
    Resume,
    Suspend,
    Text,
    Unsteered,
)
from runtime.worker.process.messages import WantKeyFrame
from scheduler.cluster import SessionId
from tests.runtime.worker.live import AHEAD, LiveFleet, a_live_fleet
from tests.runtime.worker.live_migrations import migrate
from tests.runtime.worker.live_sessions import Script, state_bytes

LEASE_S = 3.0
S, PEER, OTHER = SessionId("s"), SessionId("peer"), SessionId("other")


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveFleet]:
    with a_live_fleet("poisonous", lease_s=LEASE_S, sessions_max=5) as found:
        found.start("a")
        yield found


@pytest.fixture
def fleet(shared: LiveFleet) -> Iterator[LiveFleet]:
    """With a worker `a` that holds nothing, before and after."""
    yield shared
    shared.silent.clear()
    for session_id in list(shared.owner):
        shared.shut(session_id)
    worker = shared.workers["a"]
    assert worker.settled().device.used == 0
    worker.reports.clear()
    worker.told.clear()


def a_script(**changes: Any) -> Script:
    return Script(model="poisonous", **changes)


def test_a_poisonous_session_is_lost_with_its_reason_and_its_peers_go_on(fleet: LiveFleet) -> None:
    a = fleet.workers["a"]
    for at, session_id in enumerate((PEER, OTHER)):
        fleet.open(session_id, a, a_script(seed=at, profile="ab"[at]))
    fleet.wait_more(2)
    fleet.open(S, a, a_script(prompt="poison"))
    lost = a.wait(Lost, session_id=S)
    assert lost is not None
    assert lost.reason == "its chunk could not be computed: RuntimeError: the device has stumbled"
    fleet.wait_chunks(PEER, fleet.sink.taken[PEER] + 3)
    fleet.wait_chunks(OTHER, fleet.sink.taken[OTHER] + 3)
    assert fleet.sink.taken[S] == 0
    assert {held.session_id: held.state for held in a.ask().sessions}[S] == "lost"


def test_a_device_that_computes_for_nobody_ends_its_worker_and_no_other() -> None:
    """A worker on it could only lose one session after another."""
    with a_live_fleet("poisonous") as fleet:
        a, b = fleet.start("a"), fleet.start("b")
        fleet.open(PEER, a, a_script(seed=1))
        fleet.open(OTHER, b, a_script(seed=2))
        fleet.wait_more(2)
        fleet.open(S, a, a_script(prompt="dead"))
        assert fleet.until(lambda: not a.lives)
        fleet.listen(0)
        assert a.exit_code == 1
        assert a.goodbye is not None
        assert a.goodbye.reason == "failed: the device does not compute any more: the device is gone"
        for session_id in (PEER, S):
            fleet.forget(session_id)
        fleet.check()


def test_who_needs_more_memory_than_is_left_beside_others_is_computed_alone(fleet: LiveFleet) -> None:
    """Nobody is blamed, and nobody's bytes change, though chunks were begun again and again."""
    a = fleet.workers["a"]
    for at, session_id in enumerate((PEER, S, OTHER)):
        fleet.open(session_id, a, a_script(seed=at, prompt="memory" if session_id == S else "red circle"))
    fleet.wait_more(3)
    assert a.take(Lost) is None


def test_a_change_that_the_model_refuses_costs_nothing_but_the_change(fleet: LiveFleet) -> None:
    a = fleet.workers["a"]
    fleet.open(S, a, a_script(changes=((9, "refused", None),)))  # it is refused long before that chunk
    unsteered = a.wait(Unsteered, session_id=S)
    assert unsteered == Unsteered(session_id=S, lineage=0, serial=1, reason="that prompt is refused", prompt="refused")
    assert fleet.confirmed[S] == 0
    fleet.sink.scripts[S] = a_script()  # what is not part of the session is not told again
    fleet.wait_chunks(S, 12)


@pytest.mark.parametrize(
    ("text", "state", "expected"),
    [
        (None, 24576, "no text came with it: profile, seed and prompt are needed"),
        (Text(profile="z", seed=1, prompt=""), 24576, "profile='z' must be one of a, b"),
        (Text(profile="a", seed=1, prompt="refused"), 24576, "that prompt is refused"),
        (Text(profile="a", seed=1, prompt=""), 4096, "state_bytes=4096 must be 24576 for profile a"),
        (
            Text(profile="a", seed=1, prompt="", encoding="h264", scale=64),
            24576,
            None,
        ),
    ],
    ids=["text", "profile", "prompt", "size", "taken"],
)
def test_what_cannot_be_opened_is_refused_with_the_reason(
    fleet: LiveFleet, text: Text | None, state: int, expected: str | None
) -> None:
    a = fleet.workers["a"]
    a.command(Open(session_id=S, state_bytes=state, ownership=1, text=text))
    if expected is None:
        assert a.wait(Moved, session_id=S, state="active") is not None
        a.command(Close(session_id=S))
        assert a.wait(Closed, session_id=S) is not None
        return
    refused = a.wait(Refused, session_id=S)
    assert refused is not None
    assert refused.reason == expected
    assert a.ask().sessions == ()


def test_opening_beyond_room_is_refused_in_numbers(fleet: LiveFleet) -> None:
    """In memory, and in the number of sessions."""
    size = state_bytes("poisonous", "b")
    small = fleet.start("small", device_bytes=2 * size)
    names = [SessionId(f"s{at}") for at in range(3)]
    for session_id in names:
        fleet.open(session_id, small, a_script(profile="b"), credit=0)
    refused = small.wait(Refused)
    assert refused is not None
    assert refused.reason == "needs 0.035 MiB, largest free run is 0 MiB of 0 MiB free"
    del fleet.owner[SessionId(refused.session_id)]
    for session_id in list(fleet.owner):
        fleet.shut(session_id)
    a = fleet.workers["a"]
    for at in range(6):
        fleet.open(SessionId(f"t{at}"), a, a_script(), credit=0)
    refused = a.wait(Refused)
    assert refused is not None
    assert refused.reason == "5 sessions are here; sessions_max=5"
    del fleet.owner[SessionId(refused.session_id)]
    fleet.stop("small")
    del fleet.workers["small"]


def test_a_slow_client_holds_up_nobody_but_its_own_session(fleet: LiveFleet) -> None:
    a = fleet.workers["a"]
    fleet.open(S, a, a_script(), credit=2)
    fleet.open(PEER, a, a_script(seed=2))
    fleet.wait_chunks(PEER, 10)
    assert fleet.sink.taken[S] == 2
    numbers = {held.session_id: held.chunk_number for held in a.ask().sessions}
    assert numbers[S] == 2  # nothing is computed for later
    fleet.credit[S] = None
    fleet.give_credit(S)
    fleet.wait_chunks(S, 6)


def test_who_has_nothing_to_compute_uses_no_processor(fleet: LiveFleet) -> None:
    """An idle session, and one without credit."""
    a = fleet.workers["a"]
    fleet.open(S, a, a_script(), credit=1)
    fleet.open(PEER, a, a_script(seed=2))
    fleet.demand(PEER, active=False)
    fleet.wait_chunks(S, 1)
    a.at_rest()
    before_s, begun_s = _processor_s(a.pid), time.monotonic()
    fleet.until(lambda: False, 3.0)
    assert _processor_s(a.pid) - before_s < 0.2 * (time.monotonic() - begun_s)


def _processor_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as numbers:
        fields = numbers.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("encoding", ["h264", "mjpeg"])
def test_encoded_chunks_begin_anew_with_a_key_frame_after_a_move(fleet: LiveFleet, encoding: Encoding) -> None:
    a, b = fleet.workers["a"], fleet.workers.get("b") or fleet.start("b")
    fleet.open(S, a, a_script(), encoding=encoding)
    fleet.wait_chunks(S, 4)
    assert migrate(fleet, S, b, "gloo").committed
    fleet.wait_chunks(S, fleet.sink.taken[S] + 3)
    chunks = fleet.sink.encoded[S]
    (first,) = [at for at, chunk in enumerate(chunks) if at and chunk.worker != chunks[at - 1].worker]
    assert chunks[first].key_frame
    if encoding == "h264":
        assert [chunk.key_frame for chunk in chunks[1:first]] == [False] * (first - 1)
        assert chunks[first].init == chunks[0].init is not None
    b.tell(WantKeyFrame(controller_epoch=fleet.controller_epoch, incarnation=b.incarnation, session_id=S))
    assert fleet.until(lambda: any(chunk.key_frame for chunk in fleet.sink.encoded[S][first + AHEAD + 1 :]))
    fleet.shut(S)
    fleet.stop("b")
    del fleet.workers["b"]


def test_a_worker_that_is_stopped_finishes_its_chunks_and_says_goodbye(fleet: LiveFleet) -> None:
    """Suspended sessions do not hold it up, and what was computed is delivered."""
    c = fleet.start("c")
    for at, session_id in enumerate((S, PEER)):
        fleet.open(session_id, c, a_script(seed=at))
    fleet.wait_more(2)
    c.command(Suspend(session_id=PEER))
    assert c.wait(Moved, session_id=PEER, state="suspended") is not None
    c.command(Demand(session_id=PEER, active=False))
    fleet.stop("c")
    assert c.goodbye is not None
    assert c.goodbye.reason == "stopped"
    assert c.heartbeat is not None
    fleet.owner.clear()


def test_a_stopped_process_is_not_alive_and_goes_on_where_it_was(fleet: LiveFleet) -> None:
    """SIGSTOP for longer than the lease: no heartbeat. Afterwards the sessions are there, with the same bytes."""
    a = fleet.workers["a"]
    fleet.open(S, a, a_script())
    fleet.wait_chunks(S, 2)
    a.signal(signal.SIGSTOP)
    fleet.until(lambda: False, 0.5)
    last, taken = a.heartbeat, fleet.sink.taken[S]
    fleet.until(lambda: False, LEASE_S + 1.0)
    assert a.heartbeat is last
    assert fleet.sink.taken[S] == taken
    a.signal(signal.SIGCONT)
    fleet.wait_chunks(S, taken + 3)


def test_a_suspended_session_is_steered_and_resumed(fleet: LiveFleet) -> None:
    a = fleet.workers["a"]
    script = a_script(changes=((3, "green triangle", None),))
    fleet.open(S, a, a_script(), credit=3)
    fleet.wait_chunks(S, 3)
    a.command(Suspend(session_id=S))
    assert a.wait(Moved, session_id=S, state="suspended") is not None
    fleet.sink.scripts[S], fleet.credit[S] = script, None
    fleet.serve(S)
    assert fleet.until(lambda: fleet.confirmed[S] == 1)
    a.command(Resume(session_id=S))
    fleet.wait_chunks(S, 6)
