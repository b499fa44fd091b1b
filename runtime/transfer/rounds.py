"""What source and target say to each other over a transport, and what they do in each round.

Decides the notes and their limits, and when a state counts as whole; must never know threads or attempts of others.

A round is a note, the bytes of its ranges, and a checksum in a second note if it is the last. The target answers the
last with a verdict. Between rounds the source says that it still lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from torch import Tensor

from runtime.state.checksum import GranuleSums, digest
from runtime.state.ranges import Range, Ranges, at_most, bytes_in, what_is_wrong
from runtime.transfer.attempt import SendRound
from runtime.transfer.messages import HEAD_BYTES_MAX, UNREADABLE, AttemptId
from runtime.transfer.transport import TransferError, Transport

RANGES_MAX = 8192  # of one round

Note = TypeVar("Note")
Progress = Callable[[int], None]  # bytes of this attempt so far

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Digest = Annotated[int, msgspec.Meta(ge=0)]


class Round(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Before the bytes of a round."""

    attempt: _Count
    number: _Count
    ranges: Annotated[tuple[tuple[_Count, _Count], ...], msgspec.Meta(max_length=RANGES_MAX)]
    last: bool
    head: Annotated[bytes, msgspec.Meta(max_length=HEAD_BYTES_MAX)] = b""


class Whole(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """After the bytes of the last round: the checksum of the whole block."""

    digest: _Digest


class Alive(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Instead of a round: there is nothing to send yet."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """The target's answer to the last round."""

    digest: _Digest


_ENCODER = msgspec.msgpack.Encoder()
_ROUND = msgspec.msgpack.Decoder(Round | Alive)
_WHOLE = msgspec.msgpack.Decoder(Whole)
_VERDICT = msgspec.msgpack.Decoder(Verdict)


class Sender:
    """The source's end of one attempt."""

    def __init__(self, attempt: AttemptId, memory: Tensor, transport: Transport, progress: Progress) -> None:
        self._attempt, self._memory, self._transport, self._progress = attempt, memory, transport, progress
        self._sums = GranuleSums(memory.numel())
        self._moved = 0

    def alive(self, end_s: float) -> None:
        self._transport.send_note(_ENCODER.encode(Alive()), end_s)

    def round(self, order: SendRound, head: bytes, end_s: float, *, recheck: bool) -> int | None:
        """The checksum of the whole block after the last round.

        `recheck` sums clean ranges anew: it finds what was written and not reported, and costs the time of one reading.
        """
        if len(head) > HEAD_BYTES_MAX:
            raise TransferError("refused", f"a head of {len(head)} bytes, at most {HEAD_BYTES_MAX} may go")
        ranges = at_most(order.ranges, RANGES_MAX)
        note = Round(attempt=self._attempt, number=order.number, ranges=ranges, last=order.last, head=head)
        self._transport.send_note(_ENCODER.encode(note), end_s)
        self._transport.send(self._memory, ranges, self._part_done, end_s)
        if not order.last:
            return None
        whole = digest(self._memory) if recheck else self._sums.digest()
        self._transport.send_note(_ENCODER.encode(Whole(digest=whole)), end_s)
        verdict = _decoded(_VERDICT, self._transport.receive_note(end_s))
        if verdict.digest != whole:
            raise TransferError(
                "malformed", f"checksum {verdict.digest:016x} at the target, {whole:016x} at the source"
            )
        return whole

    def _part_done(self, span: Range) -> None:
        self._moved += span.end - span.start
        self._progress(self._moved)
        self._sums.add(self._memory, span)


class Receiver:
    """The target's end of one attempt."""

    def __init__(self, attempt: AttemptId, memory: Tensor, transport: Transport, progress: Progress) -> None:
        self._attempt, self._memory, self._transport, self._progress = attempt, memory, transport, progress
        self._sums = GranuleSums(memory.numel())
        self._number = 0
        self._moved = 0

    def round(self, end_s: float) -> tuple[int, bytes] | None:
        """Take what comes next: a sign of life, a round, or the last one, after which (checksum, head) are known."""
        note = _decoded(_ROUND, self._transport.receive_note(end_s))
        if isinstance(note, Alive):
            return None
        ranges = self._checked(note)
        self._number = note.number
        self._transport.receive(self._memory, ranges, self._part_done, end_s)
        if not note.last:
            return None
        theirs = _decoded(_WHOLE, self._transport.receive_note(end_s)).digest
        ours = self._sums.digest()
        self._transport.send_note(_ENCODER.encode(Verdict(digest=ours)), end_s)
        if ours != theirs:
            raise TransferError("malformed", f"checksum {ours:016x} at the target, {theirs:016x} at the source")
        return ours, note.head

    def _checked(self, note: Round) -> Ranges:
        wrong = what_is_wrong(note.ranges, self._memory.numel())
        if note.attempt != self._attempt:
            wrong = f"attempt {note.attempt} where {self._attempt} belongs"
        elif note.number != self._number + 1:
            wrong = f"round {note.number} after round {self._number}"
        elif wrong is None and self._number == 0 and bytes_in(_ranges(note)) != self._memory.numel():
            wrong = f"{bytes_in(_ranges(note))} bytes in the first round, where {self._memory.numel()} belong"
        if wrong is not None:
            raise TransferError("malformed", wrong)
        return _ranges(note)

    def _part_done(self, span: Range) -> None:
        self._moved += span.end - span.start
        self._progress(self._moved)
        self._sums.add(self._memory, span)


def _ranges(note: Round) -> Ranges:
    return tuple(Range(start, end) for start, end in note.ranges)


def _decoded(decoder: msgspec.msgpack.Decoder[Note], note: bytes) -> Note:
    try:
        return decoder.decode(note)
    except UNREADABLE as error:
        raise TransferError("malformed", f"not a note that belongs here: {error}") from error
