"""Each finished chunk is delivered in order, or somebody is told that it is not."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.chunk_models.chunk_model import Chunk, ChunkProfile, Head
from runtime.encode.chunk import EncodedChunk, Encoder, EncoderError, FinishedChunk, Form
from runtime.encode.kinds import OpenEncoder, open_encoder
from runtime.encode.limits import Limits
from runtime.worker.messages import Encoding, Undelivered
from runtime.worker.process.carried import Carried
from runtime.worker.process.delivery import Delivery
from runtime.worker.process.messages import Delivered, to_gateway
from runtime.worker.process.outbox import ChunkKey, Outbox
from scheduler.cluster import SessionId

S = SessionId("s")
PROFILE = ChunkProfile(name="a", width=32, height=32, frames=3, frames_per_s=8.0, state_bytes=4096)
PATIENCE_S = 30.0


class Failing:
    """A codec that fails at its second chunk."""

    def __init__(self) -> None:
        self._encoded = 0

    def encode(self, chunk: FinishedChunk, *, key_frame: bool) -> EncodedChunk:
        self._encoded += 1
        if self._encoded > 1:
            raise EncoderError("the codec has failed")
        return EncodedChunk(
            session_id=chunk.session_id,
            lineage=chunk.lineage,
            number=chunk.number,
            kind=chunk.kind,
            init=None,
            body=b"first",
            key_frame=key_frame,
        )


def open_failing(form: Form) -> Encoder:
    assert form.frames == PROFILE.frames
    return Failing()


class House:
    """A delivery, and what comes out of it."""

    def __init__(self, opened: OpenEncoder = open_encoder, limits: Limits | None = None) -> None:
        self._news = threading.Condition()
        self.told: list[Undelivered] = []
        self.outbox = Outbox(self._wake, self._wake)
        self.delivery = Delivery(self.outbox, self._tell, self._named, limits, opened)

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def _tell(self, report: Undelivered) -> None:
        with self._news:
            self.told.append(report)
            self._news.notify_all()

    def _named(self, key: ChunkKey, ownership: int) -> Delivered:
        session_id, lineage, number = key
        return Delivered(
            worker="w",
            incarnation=1,
            controller_epoch=1,
            session_id=session_id,
            ownership=ownership,
            lineage=lineage,
            number=number,
            encoding="none",
            body=b"",
        )

    def complete(self, number: int, encoding: Encoding) -> NDArray[np.uint8]:
        frames = np.full((3, 32, 32, 3), number, dtype=np.uint8)
        chunk = Chunk(session=S, lineage=2, number=number, frames=frames)
        self.delivery.completed(chunk, a_session(encoding), PROFILE, ownership=7)
        return frames

    def next_chunk(self) -> Delivered:
        with self._news:
            assert self._news.wait_for(lambda: self.outbox.next_for("gateway") is not None, PATIENCE_S)
        frame = self.outbox.next_for("gateway")
        assert frame is not None
        self.outbox.taken_for("gateway")
        chunk = to_gateway(frame)
        assert isinstance(chunk, Delivered)
        return chunk

    def next_told(self) -> Undelivered:
        with self._news:
            assert self._news.wait_for(lambda: self.told, PATIENCE_S)
            return self.told.pop(0)


def a_session(encoding: Encoding, scale: int = 1) -> Carried:
    head = Head(session=S, lineage=2, profile="a", seed=1, prompt="", revision="r")
    return Carried(head=head, encoding=encoding, scale=scale)


def test_raw_frames_are_delivered_as_they_are() -> None:
    house = House()
    frames = house.complete(0, "none")
    chunk = house.next_chunk()
    assert (chunk.number, chunk.lineage, chunk.ownership, chunk.encoding) == (0, 2, 7, "none")
    assert np.array_equal(np.frombuffer(chunk.body, np.uint8).reshape(chunk.shape), frames)
    assert house.delivery.close(1.0)


@pytest.mark.parametrize("encoding", ["h264", "mjpeg"])
def test_encoded_chunks_keep_their_order_and_their_ownership(encoding: Encoding) -> None:
    house = House()
    for number in range(2):
        house.complete(number, encoding)
    chunks = [house.next_chunk() for _ in range(2)]
    assert [(chunk.number, chunk.ownership, chunk.encoding) for chunk in chunks] == [(0, 7, encoding), (1, 7, encoding)]
    assert chunks[0].key_frame
    assert house.delivery.close(1.0)


def test_a_session_whose_encoder_has_failed_is_told_of_and_not_computed_any_more() -> None:
    """Until it is here anew."""
    house = House(open_failing)
    house.complete(0, "mjpeg")
    assert house.next_chunk().body == b"first"
    house.complete(1, "mjpeg")
    told = house.next_told()
    assert (told.number, told.count, told.reason) == (1, 1, "the session's encoder has failed")
    assert not house.delivery.has_chunks(S)
    assert not house.delivery.may_compute(S)
    house.delivery.left(S)
    assert house.delivery.may_compute(S)
    assert house.delivery.close(1.0)


def test_what_the_encode_thread_does_not_take_is_given_up_and_told() -> None:
    house = House()
    for number in (1, 0):
        house.complete(number, "mjpeg")
    told = house.next_told()
    assert (told.number, told.reason) == (0, "chunk 1 of lineage 2 was taken before")
    assert house.next_chunk().number == 1
    assert not house.delivery.has_chunks(S)
    assert house.delivery.close(1.0)


def test_what_could_never_be_encoded_is_refused_before_it_is_opened() -> None:
    house = House(limits=Limits(waiting_bytes_max=1000))
    assert house.delivery.refusal(a_session("none"), PROFILE) is None
    assert house.delivery.refusal(a_session("h264"), PROFILE) == (
        "a chunk has 9216 bytes of frames; waiting_bytes_max=1000"
    )
    assert house.delivery.close(1.0)
    house = House()
    refusal = house.delivery.refusal(a_session("h264", scale=64), replace_side(PROFILE, 128))
    assert refusal == "width=128 times scale=64 must be >= 2 and <= 4096"
    assert house.delivery.close(1.0)


def replace_side(profile: ChunkProfile, side: int) -> ChunkProfile:
    return ChunkProfile(
        name=profile.name,
        width=side,
        height=side,
        frames=profile.frames,
        frames_per_s=profile.frames_per_s,
        state_bytes=profile.state_bytes,
    )
