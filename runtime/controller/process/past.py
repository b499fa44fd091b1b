"""What the planner remembers of demand, from one controller to the next.

Decides when it is written down, and what of it still holds later; must never know what is concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from scheduler.cluster import History
from scheduler.fleet import Fleet
from scheduler.history import EPOCHS_MAX, IDLE_TIMES_MAX
from traces.store import write_bytes

EVERY_S = 30.0
FILE_BYTES_MAX = 64 << 20

_Count = Annotated[int, Meta(ge=0, lt=2**31)]
_Seconds = Annotated[float, Meta(ge=0)]


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`epochal.history/1`: counts and times of `scheduler.cluster.History`, without what belongs to one clock."""

    format: Literal["epochal.history/1"]
    written_s: _Seconds  # Unix time
    epoch_s: Annotated[float, Meta(gt=0)]
    active_max: dict[str, Annotated[tuple[_Count, ...], Meta(max_length=EPOCHS_MAX)]]
    idle_s: dict[str, Annotated[tuple[_Seconds, ...], Meta(max_length=IDLE_TIMES_MAX)]]
    gone: dict[str, _Count]


class Past:
    """The file beside a journal. Not being able to write it costs nobody a session: it is said once."""

    def __init__(self, path: Path, fleet: Fleet, say: Callable[[str], None], unix: Callable[[], float]) -> None:
        self._path, self._fleet, self._say, self._unix = path, fleet, say, unix
        self._next_s = float("-inf")
        self._failed = False

    def read(self) -> History | None:
        """None where there is none, or none that can be used."""
        try:
            with self._path.open("rb") as stream:
                body = stream.read(FILE_BYTES_MAX)
            return history_of(body, self._fleet, self._unix())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            self._say(f"{self._path}: cannot be used, and demand is learnt anew: {error}")
            return None

    def keep(self, history: History, now_s: float, *, last: bool = False) -> None:
        """At the end of an epoch, now and then; `last`: in any case."""
        if now_s < self._next_s and not last:
            return
        self._next_s = now_s + EVERY_S
        try:
            write_bytes(self._path, history_to_bytes(history, self._unix()))
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._say(f"{self._path}: cannot be written; the next controller would learn demand anew: {error}")
            self._failed = True


def history_to_bytes(history: History, unix_s: float) -> bytes:
    """As JSON."""
    return msgspec.json.encode(
        _File(
            format="epochal.history/1",
            written_s=unix_s,
            epoch_s=history.epoch_s,
            active_max=dict(history.active_max),
            idle_s=dict(history.idle_s),
            gone=dict(history.gone),
        )
    )


def history_of(body: bytes, fleet: Fleet, unix_s: float) -> History | None:
    """What of it holds for this fleet; in the epochs that nobody saw, demand is taken for what it was before.

    None if epochs had another length. Raises `msgspec.ValidationError` and `msgspec.DecodeError`.
    """
    file = msgspec.json.decode(body, type=_File)
    if file.epoch_s != fleet.epoch_s:
        return None
    unseen = int(min(EPOCHS_MAX, max(0.0, unix_s - file.written_s) // file.epoch_s))
    return History(
        epoch_s=file.epoch_s,
        active_max={
            profile: (*counts, *counts[-1:] * unseen)[-EPOCHS_MAX:]
            for profile, counts in file.active_max.items()
            if profile in fleet.profiles
        },
        idle_s={profile: lengths for profile, lengths in file.idle_s.items() if profile in fleet.profiles},
        gone={profile: count for profile, count in file.gone.items() if profile in fleet.profiles},
        scale_in_wanted_since_s={},
    )
