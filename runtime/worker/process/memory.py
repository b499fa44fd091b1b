"""Whether what a worker is to hold fits the memory that it was given.

Decides the sizes of its arenas and refuses in numbers; must never know how a figure was found. What does not fit is
told at the start, because later it would be a session that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.chunk_models.chunk_model import ChunkProfile
from runtime.state.blocks import MIB
from runtime.state.ranges import GRANULE_BYTES, round_up
from runtime.worker.process.outbox import CHUNKS_MAX
from traces.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the worker may use, and what is there; all in bytes."""

    device: int  # in all: states, weights, and what a pass needs beside them
    host: int  # states of suspended sessions, and chunks on their way
    device_there: int  # free, as the device says
    host_there: int
    shared: bool  # the device is the host, so that both come out of one memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is left for states."""

    device_bytes: int
    host_bytes: int


def sizes(given: Given, workspace_bytes: int, profiles: Iterable[ChunkProfile], sessions_max: int) -> Sizes:
    """Raises `BadInputError` with the figures if one session of the largest profile would not fit."""
    every = tuple(profiles)
    _check_there(given)
    device = (given.device - workspace_bytes) // GRANULE_BYTES * GRANULE_BYTES
    largest = max(every, key=lambda profile: profile.state_bytes)
    if device < round_up(largest.state_bytes):
        raise BadInputError.of(
            "--device-memory-mib",
            f"{mib(given.device)} MiB are too few: the ChunkModel's weights and passes need {mib(workspace_bytes)} MiB "
            f"and one session of {largest.name} needs {mib(largest.state_bytes)} MiB",
        )
    on_their_way = chunks_bytes(every, sessions_max)
    host = (given.host - on_their_way) // GRANULE_BYTES * GRANULE_BYTES
    if host < round_up(largest.state_bytes):
        raise BadInputError.of(
            "--host-memory-mib",
            f"{mib(given.host)} MiB are too few: chunks on their way may take {mib(on_their_way)} MiB "
            f"(--sessions-max {sessions_max}), and one state of {largest.name} takes {mib(largest.state_bytes)} MiB",
        )
    return Sizes(device_bytes=device, host_bytes=host)


def chunks_bytes(profiles: Sequence[ChunkProfile], sessions_max: int) -> int:
    """At most, of chunks that are computed and not yet sent: twice each, as frames and as a message."""
    largest = max(profile.frames * profile.height * profile.width * 3 for profile in profiles)
    return 2 * CHUNKS_MAX * largest * sessions_max


def mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f}"


def _check_there(given: Given) -> None:
    if given.shared:
        options, where = "--device-memory-mib and --host-memory-mib", "together, as the device is the host"
        _check(given.device + given.host, given.host_there, options, where)
        return
    _check(given.device, given.device_there, "--device-memory-mib", "on the device")
    _check(given.host, given.host_there, "--host-memory-mib", "in host memory")


def _check(wanted_bytes: int, there_bytes: int, option: str, where: str) -> None:
    if wanted_bytes > there_bytes:
        raise BadInputError.of(option, f"{mib(wanted_bytes)} MiB {where}, where {mib(there_bytes)} MiB are free")
