"""Hosts of sessions: a ChunkModel with an arena, and what a worker does to it.

Decides how sessions are opened, moved and asked for things in tests; must never know which ChunkModel it drives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from runtime.chunk_models.chunk_model import Chunk, ChunkModel, Head, Seat, advanced
from runtime.chunk_models.emulated import EmulatedChunkModel
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.configuration import Configuration, Resolution
from runtime.chunk_models.transformer.network import Network
from runtime.chunk_models.transformer.prompts import VOCABULARY
from tests.builders import a_fleet

PLACES = 4  # blocks of any profile in an arena
DIRT = 255  # NaN in every number format

TINY = Configuration(
    dim=32,
    layers=2,
    heads=2,
    noise_levels=(1.0, 0.5),
    resolutions=(Resolution(name="a", height=16, width=16), Resolution(name="b", height=16, width=24)),
)
TINY_FLEET = {
    "profiles.a": {"chunk_s": 1.0, "state_gib": 2**-16, "latency_ms": {"h100": [4.0, 8.0, 12.0, 16.0]}},
    "profiles.b": {"chunk_s": 2.0, "state_gib": 2**-15, "latency_ms": {"h100": [8.0, 16.0, 24.0, 32.0]}},
}


def tiny_network(seed: int = 0) -> Network:
    """A network of random weights, of which every part tells in the answer."""
    torch.manual_seed(seed)
    network = Network(TINY, len(VOCABULARY))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


_NETWORK = tiny_network()


def a_transformer() -> ChunkModel:
    return TransformerChunkModel(_NETWORK)


def an_emulation(sleep_s: Callable[[float], None] = lambda _: None) -> ChunkModel:
    return EmulatedChunkModel(a_fleet(TINY_FLEET), "h100", sleep_s, passes_per_chunk=3, state_share=1.0)


CHUNK_MODELS: dict[str, Callable[[], ChunkModel]] = {"transformer": a_transformer, "emulated": an_emulation}


@dataclass
class Host:
    """A worker's half: it owns the arena and the heads."""

    model: ChunkModel
    dirt: int = DIRT
    seats: dict[str, Seat] = field(default_factory=dict)
    chunks: dict[tuple[str, int], NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.room = -(-max(p.state_bytes for p in self.model.profiles.values()) // 4096) * 4096
        self.arena = torch.full((PLACES * self.room,), self.dirt, dtype=torch.uint8)
        self.model.bind(self.arena)

    def emptied(self) -> Host:
        """As new, but for what the ChunkModel found out about the machine."""
        for session in self.seats:
            self.model.forget(session)
        self.seats.clear()
        self.chunks.clear()
        self.arena.fill_(self.dirt)
        return self

    def head(self, session: str, profile: str = "a", seed: int = 1, prompt: str = "red circle") -> Head:
        return Head(session=session, profile=profile, seed=seed, prompt=prompt, revision=self.model.revision)

    def open(self, head: Head, place: int | None = None) -> None:
        self.seats[head.session] = Seat(head=head, offset=self.free(place))
        self.model.open(self.seats[head.session])

    def ask(self, session: str, *, prompt: str | None = None, control: str | None = None) -> None:
        changes = {key: value for key, value in (("prompt", prompt), ("control", control)) if value is not None}
        seat = self.seats[session]
        self.seats[session] = Seat(head=msgspec.structs.replace(seat.head, **changes), offset=seat.offset)

    def run_pass(self, *sessions: str) -> Sequence[Chunk]:
        found = self.model.run_pass([self.seats[session] for session in sessions])
        for chunk in found:
            seat = self.seats[chunk.session]
            assert chunk.number == seat.head.chunk_number
            self.chunks[chunk.session, chunk.number] = chunk.frames
            self.advance(chunk.session)
        return found

    def advance(self, session: str) -> None:
        """Its chunk is complete."""
        seat = self.seats[session]
        self.seats[session] = Seat(head=advanced(seat.head), offset=seat.offset)

    def run_chunks(self, count: int, *sessions: str) -> None:
        for _ in range(count * self.model.passes_per_chunk):
            self.run_pass(*sessions)

    def block(self, session: str) -> torch.Tensor:
        """The session's bytes; shares the arena's memory."""
        seat = self.seats[session]
        return self.arena[seat.offset : seat.offset + self.model.profiles[seat.head.profile].state_bytes]

    def take_out(self, session: str) -> tuple[Head, torch.Tensor]:
        """All that a session is; its old bytes become dirt."""
        block = self.block(session).clone()
        self.block(session).fill_(self.dirt)
        return self.seats.pop(session).head, block

    def put_in(self, head: Head, block: torch.Tensor, place: int | None = None) -> None:
        self.seats[head.session] = Seat(head=head, offset=self.free(place))
        self.block(head.session).copy_(block)

    def free(self, place: int | None = None) -> int:
        taken = {seat.offset for seat in self.seats.values()}
        offsets = [index * self.room for index in range(PLACES) if place is None or index == place]
        return next(offset for offset in offsets if offset not in taken)
