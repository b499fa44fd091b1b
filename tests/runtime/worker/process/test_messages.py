"""Whatever bytes come, they are a message of whom the connection is with, or nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.transfer.messages import UNREADABLE
from runtime.worker.messages import Command, Demand, Steered, StreamReport, Uncredited, Undelivered, Unsteered
from runtime.worker.process.messages import (
    MESSAGE_BYTES_MAX,
    AskInventory,
    Credit,
    Delivered,
    FromController,
    FromGateway,
    Goodbye,
    Renew,
    Said,
    Steer,
    Told,
    WantKeyFrame,
    encoded,
    from_controller,
    from_gateway,
    from_worker,
    to_gateway,
)

ASK = AskInventory(controller_epoch=1, incarnation=2, question=7)
STEER = Steer(controller_epoch=1, incarnation=2, session_id="s", lineage=0, serial=1, prompt="p")
UNDELIVERED = Undelivered(session_id="s", lineage=1, number=3, count=2, reason="r")
CONTROLLERS: list[FromController] = [
    Command(controller_epoch=1, incarnation=2, version=3, body=Demand(session_id="s", active=True)),
    Renew(controller_epoch=1, incarnation=2, sent_s=1.5),
    ASK,
]
GATEWAYS: list[FromGateway] = [
    STEER,
    Credit(controller_epoch=1, incarnation=2, session_id="s", lineage=0, up_to=3),
    WantKeyFrame(controller_epoch=1, incarnation=2, session_id="s"),
]
TOLD: list[StreamReport] = [
    Steered(session_id="s", serial=4, lineage=1),
    Unsteered(session_id="s", serial=4, reason="r", lineage=1, prompt="p", control=None),
    Uncredited(session_id="s", lineage=1, chunk_number=9),
    UNDELIVERED,
]


def read(frame: bytes) -> tuple[FromController | None, FromGateway | None]:
    return from_controller([frame]), from_gateway([frame])


@pytest.mark.parametrize("message", CONTROLLERS, ids=lambda message: type(message).__name__)
def test_messages_of_a_controller_come_back_as_they_were_and_no_gateway_can_say_them(message: FromController) -> None:
    assert read(encoded(message)) == (message, None)


@pytest.mark.parametrize("message", GATEWAYS, ids=lambda message: type(message).__name__)
def test_messages_of_a_gateway_come_back_as_they_were_and_no_controller_can_say_them(message: FromGateway) -> None:
    assert read(encoded(message)) == (None, message)


@pytest.mark.parametrize("report", TOLD, ids=lambda report: type(report).__name__)
def test_what_the_gateway_is_told_comes_back_as_it_was_and_is_not_said_to_a_controller(report: StreamReport) -> None:
    told = Told(worker="w", incarnation=2, controller_epoch=1, report=report)
    assert to_gateway(encoded(told)) == told
    with pytest.raises(UNREADABLE):
        from_worker(encoded(told))
    said = msgspec.msgpack.encode(["Said", "w", 2, 1, report])
    if report == UNDELIVERED:
        assert from_worker(said) == Said(worker="w", incarnation=2, controller_epoch=1, report=UNDELIVERED)
    else:
        with pytest.raises(UNREADABLE):
            from_worker(said)


def test_chunks_are_for_the_gateway_and_no_word_of_the_process_is() -> None:
    chunk = Delivered(
        worker="w",
        incarnation=2,
        controller_epoch=1,
        session_id="s",
        ownership=1,
        lineage=0,
        number=0,
        encoding="none",
        body=b"frames",
    )
    assert to_gateway(encoded(chunk)) == chunk
    with pytest.raises(UNREADABLE):
        to_gateway(encoded(Goodbye(worker="w", incarnation=2, reason="")))


@given(st.sampled_from([*CONTROLLERS, *GATEWAYS]), st.data())
def test_a_message_with_a_wrong_byte_is_another_message_or_none(
    message: FromController | FromGateway, data: st.DataObject
) -> None:
    frame = bytearray(encoded(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    of_controller, of_gateway = read(bytes(frame))
    assert of_controller is None or isinstance(of_controller, FromController)
    assert of_gateway is None or isinstance(of_gateway, FromGateway)
    assert None in (of_controller, of_gateway)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(frame: bytes) -> None:
    of_controller, of_gateway = read(frame)
    assert of_controller is None or isinstance(of_controller, FromController)
    assert of_gateway is None or isinstance(of_gateway, FromGateway)


def test_nesting_without_an_end_is_none() -> None:
    """Where a newer version might have one more field."""
    frame = bytearray(encoded(ASK))
    frame[0] += 1
    assert from_controller([bytes(frame) + b"\x01"]) == ASK
    assert from_controller([bytes(frame) + b"\x91" * 100_000]) is None


def test_more_than_one_frame_or_too_long_a_frame_is_none() -> None:
    frame = encoded(STEER)
    assert from_gateway([frame, frame]) is None
    long = Steer(controller_epoch=1, incarnation=2, session_id="s", lineage=0, serial=1, prompt="p" * 4097)
    assert from_gateway([encoded(long)]) is None
    assert from_gateway([frame + b"\x00" * MESSAGE_BYTES_MAX]) is None
