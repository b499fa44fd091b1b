"""A target believes nothing: what does not fit together ends the transfer, and a state counts when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch

from runtime.state.checksum import digest
from runtime.state.ranges import GRANULE_BYTES, Range, what_is_wrong, whole
from runtime.transfer import rounds
from runtime.transfer.attempt import SendRound
from runtime.transfer.messages import HEAD_BYTES_MAX, AttemptId
from runtime.transfer.rounds import RANGES_MAX, Receiver, Round, Sender, Whole
from runtime.transfer.tcp import TcpWay
from runtime.transfer.transport import NOTE_BYTES_MAX, TransferError
from tests.runtime.transfer.test_transports import Ends, Side, soon

BLOCK = 16 * GRANULE_BYTES
ATTEMPT = AttemptId(4)


class Transfer:
    """A source and a target that are connected; the target runs in the background."""

    def __init__(self) -> None:
        self.ends = Ends("tcp", Side(TcpWay()), Side(TcpWay()))
        self.sending, self.receiving = self.ends.connected()
        self.here, self.there = (
            torch.randint(0, 256, (BLOCK,), dtype=torch.uint8),
            torch.zeros(BLOCK, dtype=torch.uint8),
        )
        self.moved: list[int] = []
        self.sender = Sender(ATTEMPT, self.here, self.sending, self.moved.append)
        self.receiver = Receiver(ATTEMPT, self.there, self.receiving, self.moved.append)

    def send(self, number: int, *spans: Range, last: bool = False, head: bytes = b"", recheck: bool = False) -> Any:
        """(checksum at the source, what the target has made of it)."""
        took = self.ends.background(self.receiver.round, soon(5.0))
        order = SendRound(attempt=ATTEMPT, number=number, ranges=spans or whole(BLOCK), last=last)
        sent = self.sender.round(order, head, soon(5.0), recheck=recheck)
        return sent, took.result()

    def claim(self, note: Any) -> None:
        """A note of our own making, and what the target thinks of it."""
        self.sending.send_note(msgspec.msgpack.encode(note), soon(1.0))
        self.receiver.round(soon(1.0))

    def close(self) -> None:
        for transport in (self.sending, self.receiving):
            transport.close(finished=False)
        self.ends.pool.shutdown()


@pytest.fixture
def transfer() -> Iterator[Transfer]:
    found = Transfer()
    yield found
    found.close()


def test_a_state_arrives_in_rounds_with_its_head(transfer: Transfer) -> None:
    assert transfer.send(1) == (None, None)
    transfer.here[5 * GRANULE_BYTES] ^= 1
    span = Range(5 * GRANULE_BYTES, 6 * GRANULE_BYTES)
    sent, arrived = transfer.send(2, span, last=True, head=b"head")
    assert arrived == (sent, b"head")
    assert sent == digest(transfer.here)
    assert torch.equal(transfer.here, transfer.there)
    assert max(transfer.moved) == BLOCK + GRANULE_BYTES


def test_signs_of_life_are_no_rounds(transfer: Transfer) -> None:
    for _ in range(3):
        transfer.sender.alive(soon(1.0))
        assert transfer.receiver.round(soon(1.0)) is None
    assert transfer.send(1, last=True)[1] is not None


def test_writes_that_nobody_told_of_are_found_when_the_whole_is_summed_again(transfer: Transfer) -> None:
    transfer.send(1)
    transfer.here[7] ^= 1
    elsewhere = Range(GRANULE_BYTES, 2 * GRANULE_BYTES)
    with pytest.raises(TransferError, match="checksum"):
        transfer.send(2, elsewhere, last=True, recheck=True)


def test_a_target_waits_while_everything_is_summed_again(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RECHECK_BYTES", GRANULE_BYTES)
    sent, arrived = transfer.send(1, last=True, head=b"head", recheck=True)
    assert arrived == (sent, b"head")
    assert sent == digest(transfer.here)


def test_the_most_ranges_of_the_largest_state_and_the_largest_head_fit_a_note() -> None:
    end = 2**48 - GRANULE_BYTES  # what a message may say of a state's size
    ranges = tuple((start - GRANULE_BYTES, start) for start in range(end, end - RANGES_MAX * 2**14, -(2**14)))
    note = Round(attempt=2**63 - 1, number=6, ranges=ranges[::-1], last=True, head=bytes(HEAD_BYTES_MAX))
    encoded = msgspec.msgpack.encode(note)
    assert len(encoded) <= NOTE_BYTES_MAX
    assert len(ranges) == RANGES_MAX
    assert msgspec.msgpack.decode(encoded, type=Round) == note
    assert what_is_wrong(note.ranges, end) is None


def test_a_wrong_checksum_is_told_on_both_sides(transfer: Transfer) -> None:
    took = transfer.ends.background(transfer.receiver.round, soon(5.0))
    note = Round(attempt=ATTEMPT, number=1, ranges=whole(BLOCK), last=True)
    transfer.sending.send_note(msgspec.msgpack.encode(note), soon(1.0))
    transfer.sending.send(transfer.here, whole(BLOCK), lambda _: None, soon(1.0))
    transfer.sending.send_note(msgspec.msgpack.encode(Whole(digest=1)), soon(1.0))
    with pytest.raises(TransferError, match="checksum"):
        took.result()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"attempt": 3}, "attempt 3 where 4 belongs"),
        ({"number": 2}, "round 2 after round 0"),
        ({"ranges": ((0, 2 * BLOCK),)}, "end by"),
        ({"ranges": ((0, BLOCK - 1),)}, "whole granules"),
        ({"ranges": ((0, GRANULE_BYTES),)}, "in the first round"),
        ({"ranges": ((-4096, BLOCK),)}, "not a note"),
        ({"head": bytes(HEAD_BYTES_MAX + 1)}, "not a note"),
    ],
)
def test_rounds_that_do_not_belong_are_refused(transfer: Transfer, fields: dict[str, Any], says: str) -> None:
    right = Round(attempt=ATTEMPT, number=1, ranges=whole(BLOCK), last=False)
    with pytest.raises(TransferError, match=says) as refused:
        transfer.claim(msgspec.structs.replace(right, **fields))
    assert refused.value.cause == "malformed"
    assert int(transfer.there.count_nonzero()) == 0


def test_a_head_that_is_too_large_does_not_go(transfer: Transfer) -> None:
    order = SendRound(attempt=ATTEMPT, number=1, ranges=whole(BLOCK), last=True)
    with pytest.raises(TransferError, match="refused"):
        transfer.sender.round(order, bytes(HEAD_BYTES_MAX + 1), soon(1.0), recheck=False)
