"""What sessions of Wan 2.1 occupy at real sizes, how many fit, and what moving one takes at least.

Decides memories and links; must never know a device: everything here is computed, nothing is measured. A block map of
each memory is filled with states, and takes as many as the arithmetic says.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.result import BenchResult, Cell, Gate, Size
from runtime.chunk_models.wan_sizes import WAN_SIZES, WanSize, seconds_over
from runtime.state.blocks import BlockMap, NoRoom
from runtime.state.ranges import GRANULE_BYTES, round_up

_MEMORY_GB = (80, 141)
_LINKS_GB_S: Mapping[str, float] = {"100 Gb/s": 12.5, "400 Gb/s": 50.0, "PCIe 5 x16": 63.0, "NVLink 4": 450.0}


def run(size: Size) -> BenchResult:
    """The same for both sizes: it takes no time."""
    settings: dict[str, Cell] = {
        "size": size,
        "video": "480x832, 1560 tokens to a latent frame",
        "chunk": "3 latent frames",
        "numbers": "bfloat16",
        "links": ", ".join(f"{name} {rate:g} GB/s" for name, rate in _LINKS_GB_S.items()),
    }
    rows = tuple(_row(one) for one in WAN_SIZES.values())
    return BenchResult(name="wan-sizes", settings=settings, rows=rows, gates=(_gate(),))


def _row(one: WanSize) -> dict[str, Cell]:
    fits: dict[str, Cell] = {f"fit in {memory_gb} GB": one.sessions_in(memory_gb * 10**9) for memory_gb in _MEMORY_GB}
    whole: dict[str, Cell] = {f"s at {name}": seconds_over(one.state_bytes, rate) for name, rate in _LINKS_GB_S.items()}
    last: dict[str, Cell] = {
        f"last round ms at {name}": 1000 * seconds_over(one.chunk_bytes, rate) for name, rate in _LINKS_GB_S.items()
    }
    return {
        "session": one.name,
        "keys and values GB": one.cache_bytes / 1e9,
        "state GB": one.state_bytes / 1e9,
        "a layer MB": one.layer_bytes / 1e6,
        "a latent frame MB": one.frame_bytes / 1e6,
        "written per chunk MB": one.chunk_bytes / 1e6,
        "in ranges": len(one.layout().dirty(1)),
        "weights GB": one.weights_bytes / 1e9,
        **fits,
        **whole,
        **last,
    }


def _gate() -> Gate:
    cases = [(one, memory_gb * 10**9) for one in WAN_SIZES.values() for memory_gb in _MEMORY_GB]
    counts = [(one.sessions_in(memory), _filled(one, memory - one.weights_bytes)) for one, memory in cases]
    return Gate(
        claim="the rest of each memory takes as many states as the arithmetic says",
        ok=all(said == taken for said, taken in counts),
        measured=", ".join(str(taken) for _, taken in counts),
    )


def _filled(one: WanSize, room_bytes: int) -> int:
    """How many blocks of that size a block map of so much room takes."""
    blocks, count = BlockMap(room_bytes // GRANULE_BYTES * GRANULE_BYTES), 0
    while not isinstance(blocks.take(round_up(one.state_bytes)), NoRoom):
        count += 1
    return count
