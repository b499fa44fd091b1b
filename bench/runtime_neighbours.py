"""What a migration does to those who stay: chunks of neighbours at the source and at the target, quiet and meanwhile.

Decides sizes, phases and the gates; must never know how a state is moved. Two worker processes, each with sessions of
the bundled network that want chunks all the time; a quiet phase and one of migrations take turns in the same run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import get_args

from bench.result import BenchResult, Cell, Gate, Size
from runtime.measure.disturbance import Phase, quiet_and_moving
from runtime.measure.migrations import device, two_peers, ways
from runtime.transfer.messages import Side

_MIB: Mapping[Size, int] = {"small": 256, "standard": 1024}
_NEIGHBOURS: Mapping[Size, int] = {"small": 2, "standard": 4}
_PHASE_S: Mapping[Size, float] = {"small": 1.0, "standard": 15.0}
_ROUNDS: Mapping[Size, int] = {"small": 1, "standard": 3}
_WAYS_MAX: Mapping[Size, int] = {"small": 1, "standard": 4}
_CHUNK_S = 0.25  # of the session that migrates, which writes a seventh of its state each
_DIRTY_SHARE = 1 / 7
_SLOWER_MAX: Mapping[Size, float] = {"small": 10.0, "standard": 4.0}  # small runs beside other work

_Phases = Sequence[tuple[Phase, Phase]]


def run(size: Size) -> BenchResult:
    """Without pre-copy and with it, over the fastest ways."""
    size_bytes, rows, worst = _MIB[size] << 20, [], (0.0, "")
    with two_peers(size_bytes, chunk_s=_CHUNK_S, dirty_share=_DIRTY_SHARE, neighbours=_NEIGHBOURS[size]) as peers:
        for way in ways(device())[: _WAYS_MAX[size]]:
            peers.migration(size_bytes, way, precopy=False)  # makes the pair, and touches every page
            for precopy in (False, True):
                phases = [
                    quiet_and_moving(peers, size_bytes, way, precopy=precopy, seconds=_PHASE_S[size])
                    for _ in range(_ROUNDS[size])
                ]
                for side in get_args(Side):
                    what = f"{way}{', pre-copy' if precopy else ''}"
                    rows.append(_row(what, side, phases))
                    worst = max(worst, (_slower(phases, side, 0.5), f"{what}, {side}"))
    settings: dict[str, Cell] = {
        "size": size,
        "device": device(),
        "MiB": _MIB[size],
        "neighbours per worker": _NEIGHBOURS[size],
        "rounds": _ROUNDS[size],
        "phase s": _PHASE_S[size],
        "load at the end": os.getloadavg()[0],
    }
    gate = Gate(
        claim=f"the median chunk of neighbours takes at most {_SLOWER_MAX[size]:g} times as long while states migrate",
        ok=worst[0] <= _SLOWER_MAX[size],
        measured=f"{worst[0]:.2f} times ({worst[1]})",
    )
    return BenchResult(name="runtime-neighbours", settings=settings, rows=tuple(rows), gates=(gate,))


def _row(what: str, side: Side, phases: _Phases) -> dict[str, Cell]:
    quiet, moving = (_chunks(phases, side, at) for at in (0, 1))
    seconds = [sum(pair[at].seconds for pair in phases) for at in (0, 1)]
    frozen = [each.frozen_s for pair in phases for each in pair[1].migrations]
    return {
        "way": what,
        "side": side,
        "quiet chunks": len(quiet),
        "quiet ms p50": 1000 * _quantile(quiet, 0.5),
        "quiet p99": 1000 * _quantile(quiet, 0.99),
        "quiet max": 1000 * max(quiet),
        "chunks": len(moving),
        "ms p50": 1000 * _quantile(moving, 0.5),
        "p99": 1000 * _quantile(moving, 0.99),
        "max": 1000 * max(moving),
        "times p50": _slower(phases, side, 0.5),
        "times p99": _slower(phases, side, 0.99),
        "throughput %": 100 * len(moving) / seconds[1] * seconds[0] / len(quiet),
        "migrations": len(frozen),
        "moving %": 100 * sum(pair[1].moving_share * pair[1].seconds for pair in phases) / seconds[1],
        "stand-still ms p50": 1000 * _quantile(frozen, 0.5),
    }


def _slower(phases: _Phases, side: Side, share: float) -> float:
    """How many times as long as in the quiet phases."""
    quiet, moving = (_quantile(_chunks(phases, side, at), share) for at in (0, 1))
    return moving / quiet


def _chunks(phases: _Phases, side: Side, at: int) -> list[float]:
    """Of all quiet phases (0), or of all with migrations (1)."""
    return [chunk_s for pair in phases for chunk_s in pair[at].chunks_s[side]]


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
