"""One layer of a Wan session in its real shapes, suspended, resumed and migrated: a dry run of real sizes.

Decides sizes and repetitions; must never know how a state is copied. Keys and values of one layer lie as in a real
state, and of the computing there is next to nothing. The session goes on elsewhere with the chunks of one that stayed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from bench.result import BenchResult, Cell, Gate, Size
from runtime.chunk_models.wan_sizes import WAN_SIZES, WanSize
from runtime.measure.copies import copy_seconds
from runtime.measure.migrations import SESSION, Migration, TwoPeers, device, two_peers, ways
from runtime.measure.one_layer import QUERY_TOKENS, stayed
from runtime.transfer.messages import Way

_NAMES: Mapping[Size, tuple[str, ...]] = {"small": ("wan-1.3b-12",), "standard": tuple(WAN_SIZES)}
_REPETITIONS: Mapping[Size, int] = {"small": 1, "standard": 5}
_CHUNK_S = 0.25  # or as long as one takes
_CHUNKS_BEFORE = 2  # that a session makes before it is migrated


def run(size: Size) -> BenchResult:
    """Copies, and migrations with pre-copy while chunks are made."""
    rows: list[dict[str, Cell]] = []
    compared = wrong = 0
    for name in _NAMES[size]:
        one, repetitions = WAN_SIZES[name], _REPETITIONS[size]
        rows += _copies(one, repetitions)
        with two_peers(one.layer_bytes, chunk_s=_CHUNK_S, layer_of=name) as peers:
            made: list[dict[int, bytes]] = []
            for way in ways(device()):
                found = [_moved(peers, one, way) for _ in range(repetitions)]
                rows.append(_row(one, f"migrate {way}", [each.seconds for each, _ in found], [m for m, _ in found]))
                made += [marks for _, marks in found]
        right = stayed(name, device(), SESSION, max(map(max, made)) + 1)
        rows.append(_row(one, "make a chunk", [each.seconds for each in right[1:]], []))
        compared += sum(map(len, made))
        wrong += sum(right[number].mark != mark for marks in made for number, mark in marks.items())
    settings: dict[str, Cell] = {
        "size": size,
        "device": device(),
        "repetitions": _REPETITIONS[size],
        "tokens that attend": f"{QUERY_TOKENS} of 4680",
        "load at the end": os.getloadavg()[0],
    }
    gate = Gate(
        claim="sessions that moved make the chunks of one that stayed",
        ok=wrong == 0 < compared,
        measured=f"{wrong} of {compared} chunks differ",
    )
    return BenchResult(name="wan-layer", settings=settings, rows=tuple(rows), gates=(gate,))


def _copies(one: WanSize, repetitions: int) -> list[dict[str, Cell]]:
    found = copy_seconds(one.layer_bytes, repetitions)
    return [_row(one, what, [each[what] for each in found], []) for what in ("suspend", "resume")]


def _moved(peers: TwoPeers, one: WanSize, way: Way) -> tuple[Migration, dict[int, bytes]]:
    """A migration, and the marks of chunks before and after it, by number."""
    peers.open(one.layer_bytes)
    before = [peers.made("source") for _ in range(_CHUNKS_BEFORE)]
    migration = peers.migrate(way, precopy=True)
    after = peers.made("target")
    peers.close()
    peers.forget_made()
    return migration, {made.number: made.mark for made in (*before, after)}


def _row(one: WanSize, what: str, seconds: Sequence[float], moves: Sequence[Migration]) -> dict[str, Cell]:
    median_s = sorted(seconds)[len(seconds) // 2]
    frozen_ms = sorted(1000 * each.frozen_s for each in moves)
    return {
        "session": one.name,
        "what": what,
        "MB of one layer": one.layer_bytes / 1e6,
        "ms p50": 1000 * median_s,
        "GB/s p50": one.layer_bytes / median_s / 1e9,
        "GB/s min": one.layer_bytes / max(seconds) / 1e9,
        "GB/s max": one.layer_bytes / min(seconds) / 1e9,
        "all layers s, computed": one.cache_bytes / one.layer_bytes * median_s,
        "stand-still ms p50": frozen_ms[len(frozen_ms) // 2] if frozen_ms else None,
        "stand-still ms max": frozen_ms[-1] if frozen_ms else None,
        "moved %": 100 * sum(each.moved_bytes for each in moves) / (len(moves) * one.layer_bytes) if moves else None,
    }
