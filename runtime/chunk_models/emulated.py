"""A ChunkModel that takes the time of the fleet's latency tables and computes almost nothing.

Decides what a block holds, so that each chunk's bytes prove that its session's whole history was carried; must never
know a clock: how time passes is given as a function.

A block is [parts, window, words], as a transformer's is [2 * layers, window, tokens]: a chunk writes one run of each
part, and reads from the runs before it. What it writes is a hash of what it read and was asked; a byte that was lost or
another session's changes every chunk from there on.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.chunk_models.chunk_model import (
    ByteRange,
    Chunk,
    ChunkProfile,
    Head,
    RefusedError,
    Seat,
    refusal_of,
    revision_of,
)
from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms

FRAMES, SIDE = 3, 16  # of every chunk, whatever the profile
ALIGNMENT_BYTES = 512

_PARTS, _SINK_RUNS, _RING_RUNS = 8, 1, 3
_RUNS = _SINK_RUNS + _RING_RUNS
_WORD_BYTES = 8
_UNFINISHED = -1  # in the first word of each run that a chunk in progress will write
_SEAL = struct.Struct("<32sQ8s8s")
_GIB = 2**30


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk says of itself."""

    history: bytes  # 32 bytes; equal only if seed, prompts, controls and blocks were equal up to this chunk
    number: int
    prompt: bytes  # `mark_of` the text that the chunk read
    control: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    seat: Seat
    done: int  # passes
    seal: Seal


class EmulatedChunkModel:
    """Sessions of a fleet's profiles on one of its GPU types.

    `sleep_s` is called once per pass, with that pass's share of the batch's chunk latency. `state_share` scales the
    fleet's states (2**-10: a GiB becomes a MiB). Of each run that is read, `words_read` words spread over it are looked
    at; None looks at all.
    """

    def __init__(
        self,
        fleet: Fleet,
        gpu_type: str,
        sleep_s: Callable[[float], None],
        *,
        passes_per_chunk: int = 4,
        state_share: float = 2**-10,
        words_read: int | None = 16,
    ) -> None:
        assert passes_per_chunk >= 1, "a chunk takes a pass"
        self._fleet, self._gpu_type, self._sleep_s = fleet, gpu_type, sleep_s
        self._passes, self._words_read = passes_per_chunk, words_read
        self._profiles = {
            name: ChunkProfile(
                name=name,
                width=SIDE,
                height=SIDE,
                frames=FRAMES,
                frames_per_s=FRAMES / profile.chunk_s,
                state_bytes=_state_bytes(profile.state_gib * state_share),
            )
            for name, profile in fleet.profiles.items()
        }
        sizes = {name: str(profile.state_bytes).encode() for name, profile in self._profiles.items()}
        self._revision = revision_of(sizes | {"emulated/1": str(words_read).encode()})
        self._arena: Tensor | None = None
        self._running: dict[str, _Progress] = {}

    @property
    def revision(self) -> str:
        return self._revision

    @property
    def profiles(self) -> Mapping[str, ChunkProfile]:
        return self._profiles

    @property
    def alignment_bytes(self) -> int:
        return ALIGNMENT_BYTES

    @property
    def passes_per_chunk(self) -> int:
        return self._passes

    def refusal(self, head: Head) -> str | None:
        return refusal_of(self, head)

    def bind(self, arena: Tensor) -> None:
        assert self._arena is None, "bound once"
        assert arena.dtype == torch.uint8, "an arena of bytes"
        assert arena.dim() == 1, "an arena is a row of bytes"
        assert arena.is_contiguous(), "an arena is a row of bytes"
        self._arena = arena

    def warm_up(self) -> None:
        """Nothing is slow at first."""

    def open(self, seat: Seat) -> None:
        self._check(seat)
        self._block(seat).zero_()

    def run_pass(self, seats: Sequence[Seat]) -> tuple[Chunk, ...]:
        assert len({seat.head.session for seat in seats}) == len(seats), "a session is in a pass once"
        for seat in seats:
            self._check(seat)
        self._sleep_s(self._pass_s(seats))
        complete = []
        for seat in seats:
            running = self._running.get(seat.head.session) or self._begun(seat)
            assert _identity(running.seat) == _identity(seat), "forget a chunk before its session changes"
            running = replace(running, done=running.done + 1)
            if running.done == self._passes:
                complete.append(self._completed(running))
            else:
                self._running[seat.head.session] = running
        return tuple(complete)

    def forget(self, session: str) -> None:
        self._running.pop(session, None)

    def dirty(self, head: Head) -> tuple[ByteRange, ...]:
        run_bytes = self._profiles[head.profile].state_bytes // (_PARTS * _RUNS)
        begins = ((part * _RUNS + _run(head.chunk_number)) * run_bytes for part in range(_PARTS))
        return tuple(ByteRange(begin, begin + run_bytes) for begin in begins)

    def _pass_s(self, seats: Sequence[Seat]) -> float:
        names = list(self._fleet.profiles)
        counts = np.zeros((1, len(names)), np.int64)
        for seat in seats:
            counts[0, names.index(seat.head.profile)] += 1
        latency_ms = float(chunk_latency_ms(self._fleet, self._gpu_type, counts)[0])
        if latency_ms == float("inf"):
            content = ", ".join(f"{count} of {name}" for name, count in zip(names, counts[0], strict=True) if count)
            raise RefusedError(f"the fleet has no latency for {content} on {self._gpu_type}: run fewer at once")
        return latency_ms / 1000 / self._passes

    def _check(self, seat: Seat) -> None:
        why = self.refusal(seat.head)
        if why is not None:
            raise RefusedError(f"session {seat.head.session!r}: {why}")
        assert self._arena is not None, "bind comes first"
        end = seat.offset + self._profiles[seat.head.profile].state_bytes
        assert seat.offset % ALIGNMENT_BYTES == 0, "blocks are aligned"
        assert 0 <= seat.offset < end <= self._arena.numel(), "blocks lie in the arena"

    def _block(self, seat: Seat) -> Tensor:
        """[parts, window, words], sharing the arena's memory."""
        assert self._arena is not None, "bind comes first"
        size = self._profiles[seat.head.profile].state_bytes
        return self._arena[seat.offset : seat.offset + size].view(torch.int64).view(_PARTS, _RUNS, -1)

    def _begun(self, seat: Seat) -> _Progress:
        """Read the head and the block once, and leave the runs to be written unfinished."""
        head, block, run = seat.head, self._block(seat), _run(seat.head.chunk_number)
        total = hashlib.blake2b(digest_size=32)
        for text in (str(head.seed), str(head.chunk_number), head.profile, head.prompt, head.control):
            total.update(f"{len(text)}:{text}".encode())
        stride = 1 if self._words_read is None else max(1, block.shape[2] // self._words_read)
        for before in range(min(head.chunk_number, _RUNS)):
            if before != run:
                total.update(block[:, before, head.chunk_number % stride :: stride].cpu().numpy().tobytes())
        block[:, run, 0] = _UNFINISHED
        seal = Seal(
            history=total.digest(),
            number=head.chunk_number,
            prompt=mark_of(head.prompt),
            control=mark_of(head.control),
        )
        return _Progress(seat=seat, done=0, seal=seal)

    def _completed(self, running: _Progress) -> Chunk:
        head, seal = running.seat.head, running.seal
        self._running.pop(head.session, None)
        words = hashlib.shake_128(seal.history).digest(_PARTS * _WORD_BYTES)
        column = torch.from_numpy(np.frombuffer(words, np.int64).copy())
        block = self._block(running.seat)
        block[:, _run(head.chunk_number)] = column.to(block.device)[:, None]
        return Chunk(session=head.session, lineage=head.lineage, number=head.chunk_number, frames=_frames(seal))


def mark_of(text: str) -> bytes:
    """How a seal names a prompt or a control."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def seal_of(frames: NDArray[np.uint8]) -> Seal:
    """What an emulated chunk's frames say of it."""
    history, number, prompt, control = _SEAL.unpack(frames.tobytes()[: _SEAL.size])
    return Seal(history=history, number=number, prompt=prompt, control=control)


def _frames(seal: Seal) -> NDArray[np.uint8]:
    """The seal over and over."""
    packed = _SEAL.pack(seal.history, seal.number, seal.prompt, seal.control)
    return np.resize(np.frombuffer(packed, np.uint8), (FRAMES, SIDE, SIDE, 3))


def _run(chunk: int) -> int:
    return chunk if chunk < _SINK_RUNS else _SINK_RUNS + (chunk - _SINK_RUNS) % _RING_RUNS


def _state_bytes(state_gib: float) -> int:
    return max(1, round(state_gib * _GIB / ALIGNMENT_BYTES)) * ALIGNMENT_BYTES


def _identity(seat: Seat) -> tuple[object, ...]:
    head = seat.head
    return seat.offset, head.session, head.lineage, head.profile, head.seed, head.chunk_number
