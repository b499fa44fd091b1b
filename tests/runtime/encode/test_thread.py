"""The encode thread encodes what it has taken, holds nobody up, and tells of what it does not deliver."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from runtime.encode.chunk import EncodedChunk, Encoder, EncoderError, FinishedChunk, Form
from runtime.encode.events import Dropped, Refused, Report, SessionFailed
from runtime.encode.kinds import open_encoder
from runtime.encode.limits import Limits
from runtime.encode.thread import LAST_CHUNK_S, EncodeThread
from scheduler.cluster import SessionId
from tests.runtime.encode.builders import FRAMES, a_chunk, encoded, joined, seen

DRAIN_S = 60.0
BAD = SessionId("bad")


class Client:
    """Takes what a thread delivers and tells; its sink can be held."""

    def __init__(self) -> None:
        self.got: list[EncodedChunk] = []
        self.told: list[Report] = []
        self.entered = threading.Event()  # a chunk is in the sink
        self.open = threading.Event()
        self.open.set()

    def sink(self, made: EncodedChunk) -> None:
        self.entered.set()
        assert self.open.wait(DRAIN_S)
        self.got.append(made)

    def of(self, session: str) -> list[EncodedChunk]:
        return [made for made in self.got if made.session_id == session]


class FailsAt:
    """A real encoder that fails at one chunk of one session, as codecs do."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, form: Form) -> Encoder:
        return _Failing(open_encoder(form), self._number)


class _Failing:
    def __init__(self, encoder: Encoder, number: int) -> None:
        self._encoder, self._number = encoder, number

    def encode(self, chunk: FinishedChunk, *, key_frame: bool) -> EncodedChunk:
        if chunk.session_id == BAD and chunk.number == self._number:
            raise EncoderError("the codec has had enough")
        return self._encoder.encode(chunk, key_frame=key_frame)


@pytest.fixture
def held() -> Iterator[tuple[EncodeThread, Client]]:
    """A thread that hangs in its sink with chunk 0 of session "a"; two more may wait."""
    client = Client()
    client.open.clear()
    thread = EncodeThread(client.sink, client.told.append, limits=Limits(waiting_max=2))
    assert thread.offer(a_chunk(0)) is None
    assert client.entered.wait(DRAIN_S)
    yield thread, client
    client.open.set()
    thread.close(drain_s=DRAIN_S)


def test_sessions_get_their_chunks_in_order_and_as_if_they_were_alone() -> None:
    client = Client()
    thread = EncodeThread(client.sink, client.told.append)
    for number in range(4):
        for session in "abc":
            assert thread.offer(a_chunk(number, session=session, width=48, height=48)) is None
    assert thread.close(drain_s=DRAIN_S)
    alone = [a_chunk(number, width=48, height=48) for number in range(4)]
    for session in "abc":
        assert joined(client.of(session)) == joined(encoded(alone))
    assert client.told == []


def test_a_full_queue_is_told_within_the_callers_patience(held: tuple[EncodeThread, Client]) -> None:
    thread, client = held
    assert thread.offer(a_chunk(1)) is None
    assert thread.offer(a_chunk(2)) is None
    begun_s = time.monotonic()
    refused = thread.offer(a_chunk(3), wait_s=0.2)
    assert isinstance(refused, Refused)
    assert refused.why == "full"
    assert 0.2 <= time.monotonic() - begun_s < 0.2 + DRAIN_S / 10
    client.open.set()
    _hand(thread, a_chunk(3))
    assert thread.close(drain_s=DRAIN_S)
    assert [made.number for made in client.got] == [0, 1, 2, 3]
    assert client.told == []


def test_whoever_waits_for_room_gets_it() -> None:
    client = Client()
    client.open.clear()
    thread = EncodeThread(client.sink, client.told.append, limits=Limits(waiting_max=1), clock=lambda: 0.0)
    assert thread.offer(a_chunk(0)) is None
    assert client.entered.wait(DRAIN_S)
    assert thread.offer(a_chunk(1)) is None
    soon = threading.Timer(0.1, client.open.set)
    soon.start()
    assert thread.offer(a_chunk(2), wait_s=1.0) is None  # by its clock no time goes by
    soon.join()
    assert thread.close(drain_s=DRAIN_S)
    assert [made.number for made in client.got] == [0, 1, 2]


def test_a_chunk_that_its_owner_gave_up_is_told_of(held: tuple[EncodeThread, Client]) -> None:
    thread, client = held
    for number in (1, 2):
        assert thread.offer(a_chunk(number)) is None
    assert thread.offer(a_chunk(3)) is not None
    client.open.set()
    _hand(thread, a_chunk(4))
    assert thread.close(drain_s=DRAIN_S)
    assert client.told == [Dropped(session_id=SessionId("a"), lineage=0, number=3, count=1, reason="not offered")]
    assert client.got[-1].init is not None
    assert [frame.index for frame in seen(joined(client.got[-1:]))] == list(range(4 * FRAMES, 5 * FRAMES))


def test_an_encoder_that_fails_fails_its_session_alone_and_says_why() -> None:
    client = Client()
    thread = EncodeThread(client.sink, client.told.append, opened=FailsAt(2))
    chunks = [a_chunk(number, session=session) for number in range(5) for session in ("bad", "good")]
    answers = [thread.offer(chunk) for chunk in chunks]
    assert thread.close(drain_s=DRAIN_S)
    assert [made.number for made in client.of("good")] == list(range(5))
    assert [made.number for made in client.of("bad")] == [0, 1]
    failed = [report for report in client.told if isinstance(report, SessionFailed)]
    assert failed == [SessionFailed(session_id=BAD, lineage=0, number=2, reason="the codec has had enough")]
    refused = [answer for answer in answers if answer is not None]
    assert all((answer.why, answer.reason) == ("failed", "the codec has had enough") for answer in refused)
    dropped = [report for report in client.told if isinstance(report, Dropped)]
    assert {report.session_id for report in dropped} == {BAD}
    assert len(dropped) + len(refused) == 3  # chunks 2, 3 and 4: no more and no less


def test_encoders_that_are_let_go_are_freed_at_once() -> None:
    client = Client()
    alive: weakref.WeakSet[Encoder] = weakref.WeakSet()

    def opened(form: Form) -> Encoder:
        encoder = open_encoder(form)
        alive.add(encoder)
        return encoder

    thread = EncodeThread(client.sink, client.told.append, limits=Limits(encoders_max=2), opened=opened)
    gc.disable()  # nothing may wait for the collector: an encoder holds megabytes
    try:
        for session in "abcde":
            _hand(thread, a_chunk(0, session=session))
        _until(lambda: len(client.got) == 5 and len(alive) == 2)
        thread.leave(SessionId("e"))
        _until(lambda: len(alive) == 1)
        assert thread.close(drain_s=DRAIN_S)
        assert len(alive) == 0
    finally:
        gc.enable()


def test_a_session_that_left_and_comes_back_begins_again() -> None:
    client = Client()
    thread = EncodeThread(client.sink, client.told.append)
    assert thread.offer(a_chunk(0)) is None
    thread.leave(SessionId("a"))
    assert thread.offer(a_chunk(3)) is None
    assert thread.close(drain_s=DRAIN_S)
    assert [made.init is not None for made in client.got] == [True, True]
    assert client.told == []


def test_a_key_frame_comes_with_the_next_chunk_when_a_client_wants_one() -> None:
    client = Client()
    thread = EncodeThread(client.sink, client.told.append)
    for number in range(4):
        if number == 2:
            _until(lambda: len(client.got) == 2)
            thread.want_key_frame(SessionId("a"))
        assert thread.offer(a_chunk(number)) is None
    assert thread.close(drain_s=DRAIN_S)
    assert [made.key_frame for made in client.got] == [True, False, True, False]
    assert [made.init is not None for made in client.got] == [True, False, False, False]


def test_closing_drops_what_is_late_and_tells_of_each(held: tuple[EncodeThread, Client]) -> None:
    thread, client = held
    for number in (1, 2):
        assert thread.offer(a_chunk(number)) is None
    begun_s = time.monotonic()
    assert not thread.close(drain_s=0.1)  # the sink still holds chunk 0
    assert time.monotonic() - begun_s < 0.1 + LAST_CHUNK_S + DRAIN_S / 10
    late = "the deadline for closing has passed"
    assert client.told == [
        Dropped(session_id=SessionId("a"), lineage=0, number=number, count=1, reason=late) for number in (1, 2)
    ]
    refused = thread.offer(a_chunk(3))
    assert isinstance(refused, Refused)
    assert refused.why == "closing"
    client.open.set()
    assert thread.close(drain_s=DRAIN_S)
    assert [made.number for made in client.got] == [0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sink_that_raises_ends_the_thread_and_nobody_waits_for_it() -> None:
    told: list[Report] = []
    entered = threading.Event()
    proceed = threading.Event()

    def sink(made: EncodedChunk) -> None:
        entered.set()
        assert proceed.wait(DRAIN_S)
        raise OSError(f"no room for chunk {made.number}")

    thread = EncodeThread(sink, told.append)
    assert thread.offer(a_chunk(0)) is None
    assert entered.wait(DRAIN_S)
    assert thread.offer(a_chunk(1)) is None
    proceed.set()
    _until(lambda: thread.offer(a_chunk(1)) == Refused(why="closing", reason="the encode thread has ended"))
    assert not thread.close(drain_s=DRAIN_S)
    assert [(report.number, type(report)) for report in told] == [(1, Dropped)]


def _hand(thread: EncodeThread, chunk: FinishedChunk) -> None:
    """Offer until it is taken, however slow this machine is."""
    _until(lambda: thread.offer(chunk, wait_s=1.0) is None)


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DRAIN_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)
