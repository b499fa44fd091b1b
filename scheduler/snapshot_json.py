"""A snapshot of the fleet as JSON, format `epochal.snapshot/1`.

Decides what such a file may say and how mistakes in it are told; must never know what is planned from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler.cluster import (
    Gpu,
    GpuId,
    GpuStatus,
    History,
    Migrated,
    MoveInFlight,
    MoveKind,
    NodeId,
    Session,
    SessionId,
    SessionStatus,
    Snapshot,
)
from scheduler.cluster_checks import validate
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.state import read_json
from scheduler.validation import nearest, problems_of
from traces.errors import BadInputError, Finding

SNAPSHOT_FORMAT = "epochal.snapshot/1"

_Number = Annotated[float, Field(allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Gpu(_Part):
    gpu_id: str
    status: GpuStatus
    since_s: _Number = 0.0
    ready_s: _Number | None = None


class _Session(_Part):
    session_id: str
    profile: str
    status: SessionStatus
    since_s: _Number = 0.0
    tenant: str = ""
    priority: int = 0
    gpu: str | None = None
    node: str | None = None
    slack_ms: _Number | None = None
    moved_s: _Number | None = None


class _Move(_Part):
    session_id: str
    kind: MoveKind
    source: str | None = None
    target: str | None = None
    started_s: _Number


class _Migrated(_Part):
    source: str
    target: str
    profile: str


class _History(_Part):
    active_max: dict[str, list[_Count]] = {}
    idle_s: dict[str, list[_NonNegative]] = {}
    gone: dict[str, _Count] = {}
    scale_in_wanted_since_s: dict[str, _Number] = {}
    active_max_now: dict[str, _Count] = {}
    migrated_now: list[_Migrated] = []


class SnapshotJson(_Part):
    """What a file of this format holds; GPUs that it does not list are off."""

    format: Literal["epochal.snapshot/1"]
    version: _Count = 0
    gpus: list[_Gpu]
    sessions: list[_Session] = []
    moves: list[_Move] = []
    history: _History = _History()


def load_snapshot(path: Path | str, fleet: Fleet) -> Snapshot:
    """Read a snapshot file and hold it against the fleet; raises `BadInputError` with every mistake."""
    return parse_snapshot(read_json(Path(path)), fleet, str(path))


def parse_snapshot(data: Any, fleet: Fleet, source: str, at: str = "") -> Snapshot:
    """A snapshot from JSON data, which is at the key `at` of its file; raises `BadInputError` with every mistake."""
    prefix = f"{at}." if at else ""
    if not isinstance(data, Mapping):
        raise BadInputError.of(source, f'{at + " " if at else ""}must be an object with format="{SNAPSHOT_FORMAT}"')
    try:
        file = SnapshotJson.model_validate(data)
    except ValidationError as error:
        messages = [problem.message for problem in problems_of(error, SnapshotJson)]
    else:
        messages = [*_wrong_names(file, fleet)]
        if not messages:
            snapshot = _snapshot(file, fleet)
            messages = validate(snapshot, fleet)
            if not messages:
                return snapshot
            prefix = f"{at}: " if at else ""
    raise BadInputError([Finding(source=source, message=prefix + message) for message in messages])


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """JSON-ready; GPUs that have always been off, and values that are their defaults, are left out."""
    history = snapshot.history
    return {
        "format": SNAPSHOT_FORMAT,
        "version": snapshot.version,
        "gpus": [
            _given(gpu, "gpu_type", "node")
            for gpu in snapshot.gpus.values()
            if (gpu.status, gpu.since_s) != ("off", 0.0)
        ],
        "sessions": [_given(session) for session in snapshot.sessions.values()],
        "moves": [_given(move) for move in snapshot.moves.values()],
        "history": {
            "active_max": {name: list(counts) for name, counts in history.active_max.items()},
            "idle_s": {name: list(lengths) for name, lengths in history.idle_s.items()},
            "gone": dict(history.gone),
            "scale_in_wanted_since_s": dict(history.scale_in_wanted_since_s),
            "active_max_now": dict(history.active_max_now),
            "migrated_now": [dataclasses.asdict(migrated) for migrated in history.migrated_now],
        },
    }


def latest_s(snapshot: Snapshot) -> float:
    """The latest time that a snapshot speaks of as past; 0 for an empty one."""
    times = [gpu.since_s for gpu in snapshot.gpus.values()]
    times += [session.since_s for session in snapshot.sessions.values()]
    times += [session.moved_s for session in snapshot.sessions.values() if session.moved_s is not None]
    times += [move.started_s for move in snapshot.moves.values()]
    return max(times, default=0.0)


def _given(value: Gpu | Session | MoveInFlight, *but: str) -> dict[str, Any]:
    """Fields that differ from their default."""
    fields = [field for field in dataclasses.fields(value) if field.name not in but]
    found = {field.name: getattr(value, field.name) for field in fields}
    return {field.name: found[field.name] for field in fields if found[field.name] not in (field.default, None)}


def _wrong_names(file: SnapshotJson, fleet: Fleet) -> Iterator[str]:
    gpus = all_off(fleet).gpus
    nodes = {gpu.node for gpu in gpus.values()}
    names = [("gpus", "gpu_id", [gpu.gpu_id for gpu in file.gpus])]
    names.append(("sessions", "session_id", [session.session_id for session in file.sessions]))
    names.append(("moves", "session_id", [move.session_id for move in file.moves]))
    for part, key, listed in names:
        seen: dict[str, int] = {}
        for index, name in enumerate(listed):
            if name in seen:
                yield f'{part}[{index}].{key}="{name}" must be unique; {part}[{seen[name]}] has it too'
            seen.setdefault(name, index)
    for index, gpu in enumerate(file.gpus):
        yield from _unknown(f"gpus[{index}].gpu_id", gpu.gpu_id, gpus, "a GPU of the fleet")
    for index, session in enumerate(file.sessions):
        yield from _unknown(f"sessions[{index}].profile", session.profile, fleet.profiles, "a profile of the fleet")
        yield from _unknown(f"sessions[{index}].gpu", session.gpu, gpus, "a GPU of the fleet")
        yield from _unknown(f"sessions[{index}].node", session.node, nodes, "a node of the fleet")
    sessions = {session.session_id for session in file.sessions}
    for index, move in enumerate(file.moves):
        yield from _unknown(f"moves[{index}].session_id", move.session_id, sessions, "a session of the file")
        yield from _unknown(f"moves[{index}].source", move.source, gpus, "a GPU of the fleet")
        yield from _unknown(f"moves[{index}].target", move.target, gpus, "a GPU of the fleet")
    for index, past in enumerate(file.history.migrated_now):
        yield from _unknown(f"history.migrated_now[{index}].source", past.source, gpus, "a GPU of the fleet")
        yield from _unknown(f"history.migrated_now[{index}].target", past.target, gpus, "a GPU of the fleet")
        yield from _unknown(
            f"history.migrated_now[{index}].profile", past.profile, fleet.profiles, "a profile of the fleet"
        )


def _unknown(key: str, name: str | None, known: Mapping[Any, Any] | set[Any], what: str) -> Iterator[str]:
    if name is not None and name not in known:
        yield f'{key}="{name}" must be {what}; {nearest(name, map(str, known))}'


def _snapshot(file: SnapshotJson, fleet: Fleet) -> Snapshot:
    empty = all_off(fleet)
    gpus = dict(empty.gpus)
    for gpu in file.gpus:
        name = GpuId(gpu.gpu_id)
        gpus[name] = replace(gpus[name], status=gpu.status, since_s=gpu.since_s, ready_s=gpu.ready_s)
    return Snapshot(
        gpus=gpus,
        sessions={SessionId(session.session_id): _session(session) for session in file.sessions},
        moves={SessionId(move.session_id): _move(move) for move in file.moves},
        history=History(
            epoch_s=fleet.epoch_s,
            active_max={name: tuple(counts) for name, counts in file.history.active_max.items()},
            idle_s={name: tuple(lengths) for name, lengths in file.history.idle_s.items()},
            gone=dict(file.history.gone),
            scale_in_wanted_since_s=dict(file.history.scale_in_wanted_since_s),
            active_max_now=dict(file.history.active_max_now),
            migrated_now=tuple(
                Migrated(source=GpuId(one.source), target=GpuId(one.target), profile=one.profile)
                for one in file.history.migrated_now
            ),
        ),
        version=file.version,
    )


def _session(session: _Session) -> Session:
    return Session(
        session_id=SessionId(session.session_id),
        profile=session.profile,
        status=session.status,
        since_s=session.since_s,
        tenant=session.tenant,
        priority=session.priority,
        gpu=None if session.gpu is None else GpuId(session.gpu),
        node=None if session.node is None else NodeId(session.node),
        slack_ms=session.slack_ms,
        moved_s=session.moved_s,
    )


def _move(move: _Move) -> MoveInFlight:
    return MoveInFlight(
        session_id=SessionId(move.session_id),
        kind=move.kind,
        source=None if move.source is None else GpuId(move.source),
        target=None if move.target is None else GpuId(move.target),
        started_s=move.started_s,
    )
