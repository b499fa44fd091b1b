"""What a session is beside its block, as it travels with it: head, coming changes, credit, how it is delivered.

Decides when a change takes effect; must never know a block, a thread or a socket.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from runtime.chunk_models.chunk_model import Head, advanced
from runtime.transfer.messages import UNREADABLE
from runtime.worker.messages import Encoding, Open
from runtime.worker.process.messages import Credit, Steer

CHANGES_MAX = 16  # that wait for their chunk; a head with all of them stays far below what a transfer takes


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of prompt or control that waits for its chunk."""

    from_chunk: int
    prompt: Annotated[str, Meta(max_length=4096)] | None
    control: Annotated[str, Meta(max_length=64)] | None


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """One session, between two of its chunks or with one in progress (that of `head.chunk_number`)."""

    head: Head
    encoding: Encoding
    scale: int
    changes: Annotated[tuple[Change, ...], Meta(max_length=CHANGES_MAX)] = ()  # in the order in which they were told
    serial: int = 0  # of the last change that was told
    up_to: int = 0  # chunks below this have somebody who takes them

    @property
    def has_credit(self) -> bool:
        return self.head.chunk_number < self.up_to

    def credited(self, credit: Credit) -> Carried:
        return replace(self, up_to=max(self.up_to, credit.up_to))

    def steered(self, steer: Steer) -> Carried | None:
        """Serials are taken without a gap, so that a lost one is noticed. None if too many changes wait already."""
        if steer.serial != self.serial + 1:
            return self
        if len(self.changes) >= CHANGES_MAX:
            return None
        change = Change(from_chunk=steer.from_chunk, prompt=steer.prompt, control=steer.control)
        return replace(self, changes=(*self.changes, change), serial=steer.serial)

    def begun(self) -> Carried:
        """Its next chunk begins, and reads the head with all changes that are due."""
        number, head = self.head.chunk_number, self.head
        for change in self.changes:
            if change.from_chunk <= number:
                head = _changed(head, change.prompt, change.control)
        later = tuple(change for change in self.changes if change.from_chunk > number)
        return replace(self, head=head, changes=later)

    def ended(self) -> Carried:
        """Its chunk is complete."""
        return replace(self, head=advanced(self.head))

    def with_change(self, steer: Steer) -> Head:
        """What its head will be, to see whether a ChunkModel takes it."""
        return _changed(self.head, steer.prompt, steer.control)


def opened(desired: Open, revision: str) -> Carried | str:
    """A session without a past; or why there is none."""
    text = desired.text
    if text is None:
        return "no text came with it: profile, seed and prompt are needed"
    head = Head(
        session=desired.session_id,
        lineage=text.lineage,
        profile=text.profile,
        seed=text.seed,
        prompt=text.prompt,
        control=text.control,
        revision=revision,
    )
    return Carried(head=head, encoding=text.encoding, scale=text.scale)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Carried)


def packed(carried: Carried) -> bytes:
    return _ENCODER.encode(carried)


def unpacked(head: bytes) -> Carried | str:
    """What another worker has packed; or what is wrong with it."""
    try:
        return _DECODER.decode(head)
    except UNREADABLE as error:
        return f"not a head of this version: {error}"


def _changed(head: Head, prompt: str | None, control: str | None) -> Head:
    return replace(
        head,
        prompt=head.prompt if prompt is None else prompt,
        control=head.control if control is None else control,
    )
