"""The video transformer as a ChunkModel.

Decides which sessions share a forward pass and what is refused; must never know how a pass computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from runtime.chunk_models.chunk_model import (
    ByteRange,
    Chunk,
    ChunkProfile,
    Head,
    RefusedError,
    Seat,
    refusal_of,
)
from runtime.chunk_models.transformer.attention import pages_work
from runtime.chunk_models.transformer.cache import CacheLayout
from runtime.chunk_models.transformer.network import CONTROLS, Network
from runtime.chunk_models.transformer.passes import Progress, Shape, advance, begin, frames_from
from runtime.chunk_models.transformer.probe import together_max
from runtime.chunk_models.transformer.weights import revision

_BASE_ALIGNMENT_BYTES = 64  # of the arena in memory: the same vectors wherever a block lies


class TransformerChunkModel:
    """Sessions of a resolution share every token-wise product; each attends to its own past alone."""

    def __init__(self, network: Network, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._network = network.to(self._device).eval().requires_grad_(False)
        configuration = network.configuration
        probed = CacheLayout.of(configuration, configuration.resolutions[0], paged=True)
        self._paged = pages_work(probed, self._device)
        self._shapes = {
            one.name: Shape.of(network, one, paged=self._paged, device=self._device)
            for one in configuration.resolutions
        }
        self._layout = self._shapes[configuration.resolutions[0].name].layout
        self._together_max = {name: together_max(network, shape) for name, shape in self._shapes.items()}
        self._profiles = {
            one.name: ChunkProfile(
                name=one.name,
                width=one.width,
                height=one.height,
                frames=configuration.frames,
                frames_per_s=configuration.frames_per_s,
                state_bytes=self._shapes[one.name].layout.state_bytes,
            )
            for one in configuration.resolutions
        }
        self._revision = revision(network, self._layout.dtype, self._device)
        self._arena: Tensor | None = None
        self._running: dict[str, Progress] = {}

    @property
    def revision(self) -> str:
        return self._revision

    @property
    def profiles(self) -> Mapping[str, ChunkProfile]:
        return self._profiles

    @property
    def alignment_bytes(self) -> int:
        return self._layout.alignment_bytes

    @property
    def passes_per_chunk(self) -> int:
        return self._network.configuration.passes_per_chunk

    def refusal(self, head: Head) -> str | None:
        if head.control not in CONTROLS:
            return f"control={head.control!r} must be one of {', '.join(map(repr, CONTROLS))}"
        return refusal_of(self, head)

    def bind(self, arena: Tensor) -> None:
        assert self._arena is None, "bound once"
        assert arena.dtype == torch.uint8, "an arena of bytes"
        assert arena.dim() == 1, "an arena is a row of bytes"
        assert arena.is_contiguous(), "an arena is a row of bytes"
        assert arena.device.type == self._device.type, "the arena lies where the network is"
        assert arena.data_ptr() % _BASE_ALIGNMENT_BYTES == 0, (
            f"the arena begins at a multiple of {_BASE_ALIGNMENT_BYTES}"
        )
        self._arena = arena

    def warm_up(self) -> None:
        for name, profile in self._profiles.items():
            arena = torch.zeros(profile.state_bytes, dtype=torch.uint8, device=self._device)
            head = Head(session="warm-up", profile=name, seed=0, prompt="", revision=self._revision)
            with torch.inference_mode():
                running = begin(self._network, self._shapes[name], Seat(head=head, offset=0))
                for _ in range(self.passes_per_chunk):
                    (running,) = advance(self._network, self._shapes[name], arena, [running], paged=self._paged)

    def open(self, seat: Seat) -> None:
        self._check(seat)
        self._block(seat).zero_()

    def run_pass(self, seats: Sequence[Seat]) -> tuple[Chunk, ...]:
        assert self._arena is not None, "bind comes first"
        assert len({seat.head.session for seat in seats}) == len(seats), "a session is in a pass once"
        for seat in seats:
            self._check(seat)
        with torch.inference_mode():
            groups: dict[str, list[Progress]] = {}
            for seat in seats:
                groups.setdefault(seat.head.profile, []).append(self._progress(seat))
            for name, group in groups.items():
                for first in range(0, len(group), self._together_max[name]):
                    part = group[first : first + self._together_max[name]]
                    advanced = advance(self._network, self._shapes[name], self._arena, part, paged=self._paged)
                    self._running |= {one.seat.head.session: one for one in advanced}
            return tuple(self._finished(seat) for seat in seats if self._is_finished(seat))

    def forget(self, session: str) -> None:
        self._running.pop(session, None)

    def dirty(self, head: Head) -> tuple[ByteRange, ...]:
        return self._shapes[head.profile].layout.dirty(head.chunk_number)

    def _check(self, seat: Seat) -> None:
        why = self.refusal(seat.head)
        if why is not None:
            raise RefusedError(f"session {seat.head.session!r}: {why}")
        assert seat.offset % self.alignment_bytes == 0, "blocks are aligned"
        assert self._arena is not None, "bind comes first"
        end = seat.offset + self._profiles[seat.head.profile].state_bytes
        assert 0 <= seat.offset < end <= self._arena.numel(), "blocks lie in the arena"

    def _block(self, seat: Seat) -> Tensor:
        assert self._arena is not None, "bind comes first"
        return self._arena[seat.offset : seat.offset + self._profiles[seat.head.profile].state_bytes]

    def _progress(self, seat: Seat) -> Progress:
        """The session's chunk in progress, or a new one that reads this head."""
        running = self._running.get(seat.head.session)
        if running is None:
            return begin(self._network, self._shapes[seat.head.profile], seat)
        assert _identity(running.seat) == _identity(seat), "forget a chunk before its session changes"
        return running

    def _is_finished(self, seat: Seat) -> bool:
        return self._running[seat.head.session].done == self.passes_per_chunk

    def _finished(self, seat: Seat) -> Chunk:
        running = self._running.pop(seat.head.session)
        frames = frames_from(self._network, self._shapes[seat.head.profile], running)
        head = running.seat.head
        return Chunk(session=head.session, lineage=head.lineage, number=head.chunk_number, frames=frames.cpu().numpy())


def _identity(seat: Seat) -> tuple[object, ...]:
    head = seat.head
    return seat.offset, head.session, head.lineage, head.profile, head.seed, head.chunk_number
