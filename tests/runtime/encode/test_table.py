"""What the table of encoders decides, event by event, and what holds after any sequence of events."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.encode.chunk import FinishedChunk, Form
from runtime.encode.events import (
    Action,
    ChunkEncoded,
    Closing,
    DeadlinePassed,
    Dropped,
    Encode,
    EncodeFailed,
    Event,
    KeyFrameWanted,
    Left,
    LetGo,
    Offered,
    Refused,
    SessionFailed,
    Stop,
    Taken,
    Tell,
)
from runtime.encode.limits import Limits
from runtime.encode.table import EncodeTable
from scheduler.cluster import SessionId
from tests.runtime.encode.builders import a_chunk

CHUNK_BYTES = 12 * 8 * 8 * 3
A, B, C = SessionId("a"), SessionId("b"), SessionId("c")


def small(number: int, session: str = "a", lineage: int = 0, frames: int = 12) -> FinishedChunk:
    return a_chunk(number, session=session, lineage=lineage, width=8, height=8, frames=frames)


def offer(table: EncodeTable, chunk: FinishedChunk) -> tuple[Action, ...]:
    return table.handle(Offered(chunk=chunk))


def begun(steps: tuple[Action, ...]) -> list[tuple[str, int, bool, bool]]:
    """Session, number, fresh, key frame."""
    return [(e.chunk.session_id, e.chunk.number, e.fresh, e.key_frame) for e in steps if isinstance(e, Encode)]


def encode_all(table: EncodeTable, chunks: list[FinishedChunk]) -> list[tuple[str, int, bool, bool]]:
    """One after the other."""
    found = []
    for chunk in chunks:
        found += begun(offer(table, chunk))
        table.handle(ChunkEncoded())
    return found


def test_chunks_are_encoded_one_at_a_time_in_the_order_in_which_they_came() -> None:
    table = EncodeTable(Limits())
    assert begun(offer(table, small(0, "a"))) == [("a", 0, True, True)]
    assert begun(offer(table, small(0, "b"))) == []
    assert begun(offer(table, small(1, "a"))) == []
    assert begun(table.handle(ChunkEncoded())) == [("b", 0, True, True)]
    assert begun(table.handle(ChunkEncoded())) == [("a", 1, False, False)]
    assert table.handle(ChunkEncoded()) == ()


def test_a_key_frame_comes_every_so_many_chunks_and_when_somebody_wants_one() -> None:
    table = EncodeTable(Limits(key_frame_chunks=4))
    found = encode_all(table, [small(number) for number in range(6)])
    assert [number for _, number, _, key in found if key] == [0, 4]
    table.handle(KeyFrameWanted(session_id=A))
    assert encode_all(table, [small(6), small(7)]) == [("a", 6, False, True), ("a", 7, False, False)]
    assert [number for _, number, _, key in encode_all(table, [small(n) for n in range(8, 12)]) if key] == [10]


def test_a_new_lineage_has_a_new_encoder() -> None:
    table = EncodeTable(Limits())
    chunks = [small(0), small(1), small(2, lineage=1), small(3, lineage=1)]
    assert [(number, fresh) for _, number, fresh, _ in encode_all(table, chunks)] == [
        (0, True),
        (1, False),
        (2, True),
        (3, False),
    ]


def test_another_form_has_a_new_encoder_but_chunks_of_a_lineage_play_equally_long() -> None:
    table = EncodeTable(Limits())
    larger = a_chunk(1, width=16, height=16)
    assert [fresh for _, _, fresh, _ in encode_all(table, [small(0), larger])] == [True, True]
    assert offer(table, small(2, frames=11)) == (
        Refused(why="unfit", reason="frames=11 and frames_per_s=16 must stay 12 and 16 within a lineage"),
    )
    assert begun(offer(table, small(0, lineage=1, frames=11))) == [("a", 0, True, True)]


def test_a_chunk_that_does_not_follow_has_a_new_encoder_and_the_missing_ones_are_told_of() -> None:
    table = EncodeTable(Limits())
    encode_all(table, [small(0)])
    steps = offer(table, small(3))
    assert begun(steps) == [("a", 3, True, True)]
    assert Tell(report=Dropped(session_id=A, lineage=0, number=1, count=2, reason="not offered")) in steps


def test_whoever_has_left_is_forgotten_when_its_chunks_are_encoded() -> None:
    table = EncodeTable(Limits())
    offer(table, small(0))
    offer(table, small(1))
    assert table.handle(Left(session_id=A)) == ()
    assert begun(table.handle(ChunkEncoded())) == [("a", 1, False, False)]
    assert table.handle(ChunkEncoded()) == (LetGo(session_id=A),)
    assert table.handle(Left(session_id=A)) == ()
    assert table.sessions == 0


def test_whoever_comes_back_after_others_have_encoded_it_has_a_new_encoder_and_nothing_is_missing() -> None:
    table = EncodeTable(Limits())
    offer(table, small(0))
    table.handle(Left(session_id=A))
    steps = offer(table, small(4))  # before it was gone
    assert steps == (Taken(),)
    assert begun(table.handle(ChunkEncoded())) == [("a", 4, True, True)]
    assert table.handle(ChunkEncoded()) == ()


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(waiting_max=2), "2 chunks wait; waiting_max=2"),
        (Limits(waiting_bytes_max=3 * CHUNK_BYTES - 1), f"chunks of {2 * CHUNK_BYTES} bytes wait"),
    ],
)
def test_a_full_queue_refuses_and_keeps_what_it_has(limits: Limits, text: str) -> None:
    table = EncodeTable(limits)
    for number in range(3):
        assert offer(table, small(number))[0] == Taken()
    (refused,) = offer(table, small(3))
    assert isinstance(refused, Refused)
    assert (refused.why, text in refused.reason) == ("full", True)
    assert begun(table.handle(ChunkEncoded())) == [("a", 1, False, False)]
    assert offer(table, small(3)) == (Taken(),)


def test_a_chunk_that_no_queue_could_hold_is_unfit_rather_than_waiting_for_ever() -> None:
    (refused,) = offer(EncodeTable(Limits(waiting_bytes_max=CHUNK_BYTES - 1)), small(0))
    assert isinstance(refused, Refused)
    assert refused.why == "unfit"
    assert f"waiting_bytes_max={CHUNK_BYTES - 1}" in refused.reason


def test_the_encoder_that_has_waited_longest_makes_room() -> None:
    table = EncodeTable(Limits(encoders_max=2))
    encode_all(table, [small(0, "a"), small(0, "b"), small(1, "a")])
    steps = offer(table, small(0, "c"))
    assert LetGo(session_id=B) in steps
    assert begun(steps) == [("c", 0, True, True)]
    assert table.sessions == 2


def test_a_session_waits_while_every_encoder_has_work() -> None:
    table = EncodeTable(Limits(encoders_max=2))
    offer(table, small(0, "a"))
    offer(table, small(0, "b"))
    assert offer(table, small(0, "c")) == (Refused(why="full", reason="all encoders have work; encoders_max=2"),)
    table.handle(ChunkEncoded())
    assert offer(table, small(0, "c")) == (Taken(), LetGo(session_id=A))


def test_a_failure_ends_its_session_and_no_other() -> None:
    table = EncodeTable(Limits())
    for chunk in (small(0, "a"), small(0, "b"), small(1, "a")):
        offer(table, chunk)
    steps = table.handle(EncodeFailed(reason="broken"))
    assert Tell(report=SessionFailed(session_id=A, lineage=0, number=0, reason="broken")) in steps
    dropped = [step.report for step in steps if isinstance(step, Tell) and isinstance(step.report, Dropped)]
    assert [(report.session_id, report.number) for report in dropped] == [(A, 0), (A, 1)]
    assert LetGo(session_id=A) in steps
    assert begun(steps) == [("b", 0, True, True)]
    assert offer(table, small(2, "a")) == (Refused(why="failed", reason="broken"),)
    table.handle(Left(session_id=A))
    assert offer(table, small(2, "a")) == (Taken(),)


def test_what_a_failure_drops_makes_room() -> None:
    table = EncodeTable(Limits(waiting_bytes_max=2 * CHUNK_BYTES))
    for chunk in (small(0, "a"), small(1, "a"), small(0, "b")):
        assert offer(table, chunk)[0] == Taken()
    table.handle(EncodeFailed(reason="broken"))  # drops a chunk of "a", begins that of "b"
    for number in (1, 2):
        assert offer(table, small(number, "b")) == (Taken(),)


def test_chunks_that_were_taken_before_are_refused() -> None:
    table = EncodeTable(Limits())
    encode_all(table, [small(4, lineage=1)])
    for again in (small(4, lineage=1), small(3, lineage=1), small(9, lineage=0)):
        assert offer(table, again) == (Refused(why="old", reason="chunk 4 of lineage 1 was taken before"),)


def test_closing_encodes_what_waits_and_the_deadline_drops_it() -> None:
    table = EncodeTable(Limits())
    for number in range(4):
        offer(table, small(number))
    assert table.handle(Closing()) == ()
    assert offer(table, small(4)) == (Refused(why="closing", reason="the encode thread is closing"),)
    assert begun(table.handle(ChunkEncoded())) == [("a", 1, False, False)]
    steps = table.handle(DeadlinePassed())
    reports = [step.report for step in steps if isinstance(step, Tell)]
    assert [report.number for report in reports] == [2, 3]
    assert table.handle(ChunkEncoded()) == (Stop(),)


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="waiting_max=0 must be >= 1"):
        Limits(waiting_max=0)


@dataclass
class Carrying:
    """Carries out what the table says, and asserts what must hold."""

    limits: Limits
    encoders: dict[SessionId, tuple[int, int, Form]] = field(default_factory=dict)  # last lineage, number, form
    taken: list[FinishedChunk] = field(default_factory=list)
    ended: list[FinishedChunk] = field(default_factory=list)  # encoded
    dropped: list[tuple[SessionId, int, int]] = field(default_factory=list)
    since_key: dict[SessionId, int] = field(default_factory=dict)
    now: Encode | None = None
    stopped: bool = False

    def carry_out(self, event: Event, steps: tuple[Action, ...]) -> None:
        if isinstance(event, Offered) and steps[0] == Taken():
            self.taken.append(event.chunk)
        for step in steps:
            match step:
                case Encode():
                    assert self.now is None
                    assert not self.stopped
                    self._begin(step)
                case LetGo():
                    self.encoders.pop(step.session_id, None)
                case Tell(report=Dropped() as report) if report.reason != "not offered":
                    self.dropped.append((report.session_id, report.lineage, report.number))
                case Stop():
                    assert self.now is None
                    self.stopped = True
        assert len(self.encoders) <= self.limits.encoders_max

    def _begin(self, step: Encode) -> None:
        self.now = step
        made, session_id = step.chunk, step.chunk.session_id
        if step.fresh:
            assert step.key_frame
        else:
            assert self.encoders[session_id] == (made.lineage, made.number - 1, made.form)
        self.encoders[session_id] = (made.lineage, made.number, made.form)
        self.since_key[session_id] = 0 if step.key_frame else self.since_key[session_id] + 1
        assert self.since_key[session_id] < self.limits.key_frame_chunks


EVENTS = st.one_of(
    st.tuples(st.just("offer"), st.sampled_from("abc"), st.sampled_from([1, 1, 1, 1, 2, 0])),
    st.tuples(st.just("lineage"), st.sampled_from("abc"), st.just(0)),
    st.tuples(st.sampled_from(["left", "key"]), st.sampled_from("abc"), st.just(0)),
    st.tuples(st.sampled_from(["done", "done", "done", "fail"]), st.just(""), st.just(0)),
)


@given(
    st.lists(EVENTS, max_size=80),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 3]),
)
def test_every_chunk_that_was_taken_is_encoded_or_told_of_once_and_in_order(
    events: list[tuple[str, str, int]], encoders_max: int, waiting_max: int, key_frame_chunks: int
) -> None:
    limits = Limits(encoders_max=encoders_max, waiting_max=waiting_max, key_frame_chunks=key_frame_chunks)
    table, carrying = EncodeTable(limits), Carrying(limits)
    at = {session: [0, -1] for session in "abc"}  # lineage and number

    def tell(event: Event) -> None:
        if isinstance(event, ChunkEncoded | EncodeFailed):
            if carrying.now is None:
                return
            if isinstance(event, ChunkEncoded):
                carrying.ended.append(carrying.now.chunk)
            carrying.now = None
        carrying.carry_out(event, table.handle(event))
        assert table.waiting <= waiting_max
        assert table.sessions <= encoders_max

    for verb, session, step in events:
        match verb:
            case "offer" | "lineage":
                at[session] = [at[session][0] + 1, 0] if verb == "lineage" else [at[session][0], at[session][1] + step]
                lineage, number = at[session]
                tell(Offered(chunk=small(max(number, 0), session, lineage)))
            case "left":
                tell(Left(session_id=SessionId(session)))
            case "key":
                tell(KeyFrameWanted(session_id=SessionId(session)))
            case "done":
                tell(ChunkEncoded())
            case "fail":
                tell(EncodeFailed(reason="broken"))
    tell(Closing())
    while carrying.now is not None:
        tell(ChunkEncoded())
    assert carrying.stopped
    gone = [(chunk.session_id, chunk.lineage, chunk.number) for chunk in carrying.ended] + carrying.dropped
    assert sorted(gone) == sorted((chunk.session_id, chunk.lineage, chunk.number) for chunk in carrying.taken)
    order = {id(chunk): position for position, chunk in enumerate(carrying.taken)}
    positions = [order[id(chunk)] for chunk in carrying.ended]
    assert positions == sorted(positions)
