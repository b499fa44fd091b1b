"""Who owns which session, according to the records so far.

Decides what a controller must know again after a restart, as a value and as bytes; must never know how it came about.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from runtime.worker.messages import Encoding

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Owned(Struct, frozen=True, kw_only=True, array_like=True):
    """One session that somebody was promised."""

    profile: str
    seed: int
    prompt: str
    token_sha256: bytes
    encoding: Encoding = "none"
    scale: int = 1
    tenant: str = ""
    prompt_serial: _Count = 0
    worker: str | None = None  # who owns it; None: nobody, until it is placed
    ownership: _Count = 0  # epoch; grows whenever the owner changes
    lineage: _Count = 0  # grows whenever it begins anew
    lost: bool = False  # it had an owner, who is gone with its state
    fallen: _Count = 0  # owners that have ended under it without being asked to, since it was last cleared


class Handover(Struct, frozen=True, kw_only=True, array_like=True):
    """An attempt that has not ended."""

    session_id: str
    source: str
    target: str
    phase: Literal["prepared", "committed"] = "prepared"


class Truth(Struct, frozen=True, kw_only=True, array_like=True):
    """What holds after all records so far."""

    controller_epoch: _Count = 0
    last_attempt: _Count = 0
    workers: dict[str, int] = {}  # incarnation of those that are there
    sessions: dict[str, Owned] = {}
    handovers: dict[int, Handover] = {}  # by attempt
    withheld: tuple[str, ...] = ()  # workers whose GPUs no plan may use, in order


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Truth)


def truth_to_bytes(truth: Truth) -> bytes:
    """Equal truths give equal bytes, in whichever order they came about."""
    in_order = replace(
        truth,
        workers=dict(sorted(truth.workers.items())),
        sessions=dict(sorted(truth.sessions.items())),
        handovers=dict(sorted(truth.handovers.items())),
    )
    return _encoder.encode(in_order)


def truth_of_bytes(body: bytes) -> Truth:
    """Raises `msgspec.ValidationError` or `msgspec.DecodeError` where it is none."""
    truth: Truth = _decoder.decode(body)
    return truth
