"""The ChunkModels of worker processes in tests, by name.

Decides their sizes; must never know in which process they run: the reference is made with the same ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from msgspec.structs import replace

from runtime.chunk_models.chunk_model import ByteRange, Chunk, ChunkModel, ChunkProfile, Head, Seat
from runtime.chunk_models.emulated import EmulatedChunkModel
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.configuration import Configuration, Resolution
from runtime.chunk_models.transformer.network import Network
from runtime.chunk_models.transformer.prompts import VOCABULARY
from runtime.chunk_models.transformer.weights import load_bundled
from tests.builders import a_fleet
from tests.runtime.chunk_models.hosts import a_transformer

# A cache of many chunks: states of 24 and 36 MiB that are cheap to compute with while they are young.
WIDE = Configuration(
    dim=32,
    layers=2,
    heads=2,
    ring_chunks=255,
    noise_levels=(1.0, 0.5),
    resolutions=(Resolution(name="a", height=64, width=64), Resolution(name="b", height=64, width=96)),
)
_EMULATED = {
    "profiles.a": {"chunk_s": 1.0, "state_gib": 2**-6, "latency_ms": {"h100": [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]}},
    "profiles.b": {"chunk_s": 2.0, "state_gib": 2**-5, "latency_ms": {"h100": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]}},
}


def a_wide_transformer() -> ChunkModel:
    torch.manual_seed(3)
    network = Network(WIDE, len(VOCABULARY))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return TransformerChunkModel(network)


def an_emulation(sleep_s: Callable[[float], None] = time.sleep) -> ChunkModel:
    return EmulatedChunkModel(a_fleet(_EMULATED), "h100", sleep_s, passes_per_chunk=3, state_share=1.0)


def _dead(*_: object, **__: object) -> torch.Tensor:
    raise RuntimeError("the device is gone")


def _flat(chunk: Chunk) -> Chunk:
    return replace(chunk, frames=chunk.frames.reshape(-1))


class Poisonous:
    """A ChunkModel whose device fails when it computes certain prompts, after some of the others have advanced.

    "poison" fails in every pass that it is in; "memory" fails beside others and works alone; "refused" is refused;
    what comes of "unfit" are no pictures; after "dead" the device computes nothing for anybody any more.
    """

    def __init__(self, inner: ChunkModel) -> None:
        self._inner = inner

    @property
    def revision(self) -> str:
        return self._inner.revision

    @property
    def profiles(self) -> Mapping[str, ChunkProfile]:
        return self._inner.profiles

    @property
    def alignment_bytes(self) -> int:
        return self._inner.alignment_bytes

    @property
    def passes_per_chunk(self) -> int:
        return self._inner.passes_per_chunk

    def refusal(self, head: Head) -> str | None:
        return "that prompt is refused" if "refused" in head.prompt else self._inner.refusal(head)

    def bind(self, arena: torch.Tensor) -> None:
        self._inner.bind(arena)

    def warm_up(self) -> None:
        self._inner.warm_up()

    def open(self, seat: Seat) -> None:
        self._inner.open(seat)

    def run_pass(self, seats: Sequence[Seat]) -> tuple[Chunk, ...]:
        if any("dead" in seat.head.prompt.split() for seat in seats):
            torch.zeros = _dead
        if torch.zeros is _dead:
            _dead()
        unfit = {seat.head.session for seat in seats if "unfit" in seat.head.prompt}
        whole = [seat for seat in seats if not ({"poison", "memory"} & set(seat.head.prompt.split()))]
        if len(whole) == len(seats) or (len(seats) == 1 and "memory" in seats[0].head.prompt):
            return tuple(_flat(chunk) if chunk.session in unfit else chunk for chunk in self._inner.run_pass(seats))
        if whole:
            self._inner.run_pass(whole)  # nobody hears of it
        if any("memory" in seat.head.prompt for seat in seats):
            raise torch.OutOfMemoryError("no memory is left for a pass of so many")
        raise RuntimeError("the device has stumbled")

    def forget(self, session: str) -> None:
        self._inner.forget(session)

    def dirty(self, head: Head) -> tuple[ByteRange, ...]:
        return self._inner.dirty(head)


MODELS: Mapping[str, Callable[[], ChunkModel]] = {
    "tiny": a_transformer,
    "wide": a_wide_transformer,
    "emulated": an_emulation,
    "poisonous": lambda: Poisonous(a_transformer()),
}
REFERENCES: Mapping[str, Callable[[], ChunkModel]] = {
    **MODELS,
    "bundled": lambda: TransformerChunkModel(load_bundled()),
    "emulated": lambda: an_emulation(lambda _: None),
    "poisonous": a_transformer,
}
