"""How fast states are suspended, resumed and migrated, against plain copies of as many bytes in the same run.

Decides sizes, repetitions and gates; must never know how a state is copied. Our times include the checksum at both
ends. The plain copies are one thread's memcpy, and one flat send between the same two processes; the stand-still is
from the freeze until the target serves, with a session whose chunks write a seventh of its state each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.result import BenchResult, Cell, Gate, Size
from runtime.measure.copies import checksum_seconds, copy_seconds
from runtime.measure.migrations import TwoPeers, device, two_peers, ways
from runtime.transfer.messages import Way

_MIB: Mapping[Size, tuple[int, ...]] = {"small": (64, 256), "standard": (64, 256, 1024, 2048)}
_REPETITIONS: Mapping[Size, int] = {"small": 3, "standard": 7}
_DIRTY_SHARE = 1 / 7
_CHUNK_S: Mapping[Size, float] = {"small": 1.0, "standard": 0.25}  # a busy machine must send faster than chunks write
_SHARE_MIN: Mapping[Size, float] = {"small": 0.2, "standard": 0.8}  # small runs beside other work
_COPIES_MIN: Mapping[Size, float] = {"small": 0.2, "standard": 0.7}  # of suspend and resume: copy and sum in one pass
_CORES = 4  # with fewer, two processes have no core for the sums beside their copies
_MIGRATIONS_MIN_CROWDED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One thing that was done several times, and what it is compared with."""

    what: str
    mib: int
    seconds: Sequence[float]
    plain: str
    plain_seconds: Sequence[float]
    frozen_s: Sequence[float] = ()
    frozen_share: float | None = None  # of the bytes, that moved while the session stood still

    @property
    def share(self) -> float:
        """Of the plain copy's throughput."""
        return _median(self.plain_seconds) / _median(self.seconds)

    def row(self) -> dict[str, Cell]:
        giga = self.mib * 2**20 / 1e9
        return {
            "what": self.what,
            "MiB": self.mib,
            "GB/s p50": giga / _median(self.seconds),
            "GB/s min": giga / max(self.seconds),
            "GB/s max": giga / min(self.seconds),
            "against": self.plain,
            "its GB/s p50": giga / _median(self.plain_seconds),
            "share %": 100 * self.share,
            "stand-still ms p50": 1000 * _median(self.frozen_s) if self.frozen_s else None,
            "stand-still ms max": 1000 * max(self.frozen_s) if self.frozen_s else None,
            "moved frozen %": None if self.frozen_share is None else 100 * self.frozen_share,
            "load": os.getloadavg()[0],
        }


def run(size: Size) -> BenchResult:
    """Every size, with the plain copies between ours, so that both see the same machine."""
    repetitions = _REPETITIONS[size]
    rows: list[dict[str, Cell]] = []
    copied: list[Timed] = []
    migrated: list[Timed] = []
    for mib in _MIB[size]:
        sums, copies = _checksums(mib, repetitions), _copies(mib, repetitions)
        with two_peers(mib << 20, chunk_s=_CHUNK_S[size], dirty_share=_DIRTY_SHARE) as peers:
            moves = [_migrations(peers, mib, way, repetitions, precopy) for way in ways(device()) for precopy in (0, 1)]
        copied += copies
        migrated += moves
        rows += [timed.row() for timed in (*sums, *copies, *moves)]
    settings: dict[str, Cell] = {
        "size": size,
        "device": device(),
        "repetitions": repetitions,
        "chunk s": _CHUNK_S[size],
        "written per chunk %": 100 * _DIRTY_SHARE,
        "load at the end": os.getloadavg()[0],
    }
    gates = (_copies_gate(size, copied), _migrations_gate(size, migrated), _precopy_gate(migrated))
    return BenchResult(name="runtime", settings=settings, rows=tuple(rows), gates=gates)


def _checksums(mib: int, repetitions: int) -> list[Timed]:
    found = checksum_seconds(mib << 20, repetitions)
    copy = [each["copy"] for each in found]
    return [
        Timed(what=name, mib=mib, seconds=[each[name] for each in found], plain="memcpy", plain_seconds=copy)
        for name in ("digest", "crc32")
    ]


def _copies(mib: int, repetitions: int) -> list[Timed]:
    found = copy_seconds(mib << 20, repetitions)
    return [
        Timed(
            what=what,
            mib=mib,
            seconds=[each[what] for each in found],
            plain="memcpy" if device() == "cpu" else "plain copy",
            plain_seconds=[each[plain] for each in found],
        )
        for what, plain in (("suspend", "plain out"), ("resume", "plain back"))
    ]


def _migrations(peers: TwoPeers, mib: int, way: Way, repetitions: int, precopy: int) -> Timed:
    size_bytes = mib << 20
    peers.flat_seconds(size_bytes)  # makes the pair, and touches every page
    flat, ours = [], []
    for _ in range(repetitions):
        flat.append(peers.flat_seconds(size_bytes))
        ours.append(peers.migration(size_bytes, way, precopy=bool(precopy)))
    return Timed(
        what=f"migrate {way}{', pre-copy' if precopy else ''}",
        mib=mib,
        seconds=[each.seconds for each in ours],
        plain="flat send",
        plain_seconds=flat,
        frozen_s=[each.frozen_s for each in ours],
        frozen_share=sum(each.frozen_bytes for each in ours) / (repetitions * size_bytes),
    )


def _copies_gate(size: Size, copied: Sequence[Timed]) -> Gate:
    least = _COPIES_MIN[size] if device() == "cpu" else _SHARE_MIN[size]
    return _share_gate("suspend and resume", copied, least)


def _migrations_gate(size: Size, migrated: Sequence[Timed]) -> Gate:
    """TCP is what the others fall back on, and pre-copy sends some bytes twice: neither is measured by this."""
    fast = [timed for timed in migrated if "tcp" not in timed.what and "pre-copy" not in timed.what]
    crowded = device() == "cpu" and (os.cpu_count() or 1) < _CORES
    least = min(_SHARE_MIN[size], _MIGRATIONS_MIN_CROWDED) if crowded else _SHARE_MIN[size]
    return _share_gate("migrations", fast, least)


def _share_gate(what: str, timed: Sequence[Timed], least: float) -> Gate:
    worst = min(timed, key=lambda each: each.share)
    return Gate(
        claim=f"{what} reach {least:.0%} of a plain copy, checksum included",
        ok=worst.share >= least,
        measured=f"{worst.share:.0%} ({worst.what}, {worst.mib} MiB)",
    )


def _precopy_gate(migrated: Sequence[Timed]) -> Gate:
    largest = max(timed.mib for timed in migrated)
    stood = {timed.what: _median(timed.frozen_s) for timed in migrated if timed.mib == largest}
    pairs = [(stood[what], stood[f"{what}, pre-copy"]) for what in stood if "pre-copy" not in what]
    worst = max(short / long for long, short in pairs)
    return Gate(
        claim="with pre-copy the largest state stands still for less time", ok=worst < 1, measured=f"{worst:.0%} of it"
    )


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
