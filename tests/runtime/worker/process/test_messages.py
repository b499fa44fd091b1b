"""Whatever bytes come, they are a message of the protocol or nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.worker.messages import Command, Demand
from runtime.worker.process.messages import (
    MESSAGE_BYTES_MAX,
    AskInventory,
    Credit,
    Renew,
    Steer,
    ToWorker,
    WantKeyFrame,
    encoded,
    to_worker,
)

MESSAGES: list[ToWorker] = [
    Command(controller_epoch=1, incarnation=2, version=3, body=Demand(session_id="s", active=True)),
    Steer(controller_epoch=1, incarnation=2, session_id="s", serial=1, prompt="p"),
    Credit(controller_epoch=1, incarnation=2, session_id="s", up_to=3),
    WantKeyFrame(controller_epoch=1, incarnation=2, session_id="s"),
    Renew(controller_epoch=1, incarnation=2, sent_s=1.5),
    AskInventory(controller_epoch=1, incarnation=2, question=7),
]


@given(st.sampled_from(MESSAGES))
def test_messages_come_back_as_they_were(message: ToWorker) -> None:
    assert to_worker([encoded(message)]) == message


@given(st.sampled_from(MESSAGES), st.data())
def test_a_message_with_a_wrong_byte_is_another_message_or_none(message: ToWorker, data: st.DataObject) -> None:
    frame = bytearray(encoded(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    found = to_worker([bytes(frame)])
    assert found is None or isinstance(found, ToWorker)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(frame: bytes) -> None:
    found = to_worker([frame])
    assert found is None or isinstance(found, ToWorker)


def test_nesting_without_an_end_is_none() -> None:
    """Where a newer version might have one more field."""
    frame = bytearray(encoded(AskInventory(controller_epoch=1, incarnation=2, question=7)))
    frame[0] += 1
    assert to_worker([bytes(frame) + b"\x01"]) == MESSAGES[-1]
    assert to_worker([bytes(frame) + b"\x91" * 100_000]) is None


def test_more_than_one_frame_or_too_long_a_frame_is_none() -> None:
    frame = encoded(MESSAGES[0])
    assert to_worker([frame, frame]) is None
    long = Steer(controller_epoch=1, incarnation=2, session_id="s", serial=1, prompt="p" * 4097)
    assert to_worker([encoded(long)]) is None
    assert to_worker([frame + b"\x00" * MESSAGE_BYTES_MAX]) is None
