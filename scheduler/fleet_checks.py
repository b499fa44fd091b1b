"""What makes a fleet whole: the rules that tie its sections together.

Decides which data is a valid fleet, all mistakes at once; must never know where the data came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from scheduler.fleet import Fleet, GpuType, Pool, Profile
from scheduler.lined_yaml import KeyPath, dotted
from scheduler.validation import Problem, nearest, problems_of, shown

TABLE_OF = {"grouped": "latency_ms", "packed": "per_session_ms", "turboserve": "base_ms"}

POOL_GPUS_MAX = 1_000_000

_Model = TypeVar("_Model", bound=BaseModel)


def check_fleet(data: Any) -> tuple[Fleet | None, list[Problem]]:
    """The fleet that the data describes, or everything that is wrong with it."""
    if not isinstance(data, dict):
        found = "empty" if data is None else shown(data)
        return None, [
            Problem(path=(), message=f"must be a mapping of keys such as format, epoch_s, pools; it is {found}")
        ]
    fleet, problems = None, []
    try:
        fleet = Fleet.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, Fleet)
    broken = {problem.path for problem in problems}
    problems += [problem for problem in _Draft.of(data).problems() if problem.path not in broken]
    return (None if problems else fleet), problems


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """The entries that are valid by themselves, so that one mistake does not hide another."""

    data: Mapping[str, Any]
    gpu_types: Mapping[str, GpuType]
    pools: Mapping[int, Pool]
    profiles: Mapping[str, Profile]
    type_names: frozenset[str]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> _Draft:
        pools = data.get("pools")
        return cls(
            data=data,
            gpu_types=_valid(GpuType, _mapping(data.get("gpu_types"))),
            pools=_valid(Pool, dict(enumerate(pools)) if isinstance(pools, list) else {}),
            profiles=_valid(Profile, _mapping(data.get("profiles"))),
            type_names=frozenset(map(str, _mapping(data.get("gpu_types")))),
        )

    def problems(self) -> Iterator[Problem]:
        yield from self._sections_are_not_empty()
        yield from self._epoch_is_whole_microseconds()
        yield from self._weights_leave_room()
        yield from self._pools_are_possible()
        yield from self._default_profile_exists()
        yield from self._tables_name_known_types()
        yield from self._tables_do_not_decrease()
        yield from self._shared_costs_cover_the_profiles()
        yield from self._profiles_can_run()

    def _sections_are_not_empty(self) -> Iterator[Problem]:
        for key in ("gpu_types", "pools", "profiles"):
            if self.data.get(key) in ({}, []):
                yield Problem(path=(key,), message=f"{key} is empty; it must have at least one entry")

    def _epoch_is_whole_microseconds(self) -> Iterator[Problem]:
        epoch_s = self.data.get("epoch_s")
        if isinstance(epoch_s, float) and epoch_s > 0 and round(epoch_s, 6) != epoch_s and epoch_s != float("inf"):
            yield Problem(path=("epoch_s",), message=f"epoch_s={epoch_s} must be a whole number of microseconds")

    def _weights_leave_room(self) -> Iterator[Problem]:
        for name, gpu in self.gpu_types.items():
            if gpu.weights_gib >= gpu.memory_gib:
                yield _problem(
                    ("gpu_types", name, "weights_gib"), gpu.weights_gib, f"must be < memory_gib={gpu.memory_gib:g}"
                )

    def _pools_are_possible(self) -> Iterator[Problem]:
        for index, pool in self.pools.items():
            if pool.gpu_type not in self.type_names:
                why = f"must be one of gpu_types; {nearest(pool.gpu_type, sorted(self.type_names))}"
                yield _problem(("pools", index, "gpu_type"), pool.gpu_type, why)
            size = pool.nodes * pool.gpus_per_node
            if size > POOL_GPUS_MAX:
                why = f"must be such that nodes * gpus_per_node <= {POOL_GPUS_MAX}"
                yield _problem(("pools", index, "nodes"), pool.nodes, why)
            if pool.gpus_min > size:
                why = f"must be <= {size}, the pool's nodes * gpus_per_node"
                yield _problem(("pools", index, "gpus_min"), pool.gpus_min, why)

    def _default_profile_exists(self) -> Iterator[Problem]:
        name, known = self.data.get("default_profile"), _mapping(self.data.get("profiles"))
        if isinstance(name, str) and name not in known:
            yield _problem(("default_profile",), name, f"must be one of profiles; {nearest(name, map(str, known))}")

    def _tables(self) -> Iterator[tuple[KeyPath, Any]]:
        for name, profile in _mapping(self.data.get("profiles")).items():
            for key in TABLE_OF.values():
                tables = _mapping(_mapping(profile).get(key))
                yield from ((("profiles", name, key, str(t)), table) for t, table in tables.items())
        for key in ("packed", "crowding_ms"):
            yield from (((key, str(t)), value) for t, value in _mapping(self.data.get(key)).items())

    def _tables_name_known_types(self) -> Iterator[Problem]:
        for path, _ in self._tables():
            if path[-1] not in self.type_names:
                known = nearest(str(path[-1]), sorted(self.type_names))
                yield Problem(path=path, message=f"{dotted(path)} must name one of gpu_types; {known}")

    def _tables_do_not_decrease(self) -> Iterator[Problem]:
        for path, table in self._tables():
            if not isinstance(table, list):
                continue
            if not table:
                yield Problem(path=path, message=f"{dotted(path)} is empty; it must have an entry for a batch of 1")
            if not all(isinstance(value, int | float) for value in table):
                continue
            for index in range(1, len(table)):
                if table[index] < table[index - 1]:
                    why = f"must be >= {table[index - 1]:g}, the entry before it"
                    yield _problem((*path, index), table[index], why)

    def _shared_costs_cover_the_profiles(self) -> Iterator[Problem]:
        batching = self.data.get("batching")
        key = {"packed": "packed", "turboserve": "crowding_ms"}.get(str(batching))
        if key is None:
            return
        shared = self.data.get(key)
        if shared is None:
            yield Problem(path=(key,), message=f"{key} is missing; batching={batching} must have it")
            return
        for name, profile in self.profiles.items():
            for gpu_type in getattr(profile, TABLE_OF[str(batching)]) or {}:
                if gpu_type in self.type_names and gpu_type not in _mapping(shared):
                    path = ("profiles", name, TABLE_OF[str(batching)], gpu_type)
                    yield Problem(path=path, message=f"{dotted(path)} must have a counterpart; add {key}.{gpu_type}")

    def _profiles_can_run(self) -> Iterator[Problem]:
        batching = self.data.get("batching")
        if batching not in TABLE_OF or not self.pools:
            return
        key = TABLE_OF[batching]
        offered = sorted({pool.gpu_type for pool in self.pools.values()} & self.gpu_types.keys())
        for name, profile in self.profiles.items():
            table: Mapping[str, Any] | None = getattr(profile, key)
            if table is None:
                path: KeyPath = ("profiles", name, key)
                yield Problem(path=path, message=f"{dotted(path)} is missing; batching={batching} must have it")
                continue
            able = [gpu_type for gpu_type in offered if gpu_type in table]
            if offered and not able:
                why = f"must have figures for a GPU type of the pools ({', '.join(offered)}), or it can run nowhere"
                yield Problem(path=("profiles", name, key), message=f"{dotted(('profiles', name, key))} {why}")
            room = max((_room_gib(self.gpu_types[gpu_type]) for gpu_type in able), default=None)
            if room is not None and profile.state_gib > room:
                why = f"must be <= {room:g}, the memory beside the weights, or it can run nowhere"
                yield _problem(("profiles", name, "state_gib"), profile.state_gib, why)


def _room_gib(gpu: GpuType) -> float:
    return gpu.memory_gib - gpu.weights_gib


def _problem(path: KeyPath, value: Any, must: str) -> Problem:
    text = f"{value:g}" if isinstance(value, float) else shown(value)
    return Problem(path=path, message=f"{dotted(path)}={text} {must}")


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _valid(model: type[_Model], entries: Mapping[Any, Any]) -> dict[Any, _Model]:
    valid = {}
    for key, entry in entries.items():
        try:
            valid[key] = model.model_validate(entry)
        except ValidationError:
            continue
    return valid
