"""What a user may name as a source of sessions or arrivals: `KIND:PATH`.

Decides which kinds there are and what each can give; must never know how a trace is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from traces.demand import ArrivalSource, Bodies, arrivals_of, bodies_of
from traces.errors import BadInputError
from traces.importers.azure import azure_arrivals
from traces.importers.kv_cache_tester import kv_cache_tester_bodies
from traces.importers.mapping import RequestMapping
from traces.importers.mooncake import mooncake_trace
from traces.importers.servegen import servegen_rates
from traces.recorded import recorded
from traces.store import read_trace


class Kind(StrEnum):
    """The formats that can be read."""

    azure = "azure"
    mooncake = "mooncake"
    servegen = "servegen"
    kv_cache_tester = "kv-cache-tester"
    native = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOption:
    """One `KIND:PATH` from the command line."""

    kind: Kind
    path: Path


def parse_source(text: str, option: str) -> SourceOption:
    """`servegen:rates.csv.gz`; a path without a kind is a trace of ours. Raises `BadInputError`."""
    kind, colon, path = text.partition(":")
    if not colon:
        return SourceOption(kind=Kind.native, path=Path(text))
    if kind not in {known.value for known in Kind} or not path:
        kinds = ", ".join(known.value for known in Kind)
        raise BadInputError.of(option, f"source={text} must be KIND:PATH with KIND one of {kinds}")
    return SourceOption(kind=Kind(kind), path=Path(path))


def read_bodies(source: SourceOption, mapping: RequestMapping) -> Bodies:
    """Session bodies; raises `BadInputError` where the set has none."""
    match source.kind:
        case Kind.kv_cache_tester:
            return kv_cache_tester_bodies(source.path, mapping)
        case Kind.mooncake:
            return bodies_of(mooncake_trace(source.path, mapping))
        case Kind.native:
            return bodies_of(read_trace(source.path))
        case Kind.azure | Kind.servegen:
            message = f"source={source.kind.value} must be kv-cache-tester, mooncake or native: it has no sessions"
            raise BadInputError.of("--bodies", message)
        case _:
            assert_never(source.kind)


def read_arrivals(source: SourceOption, mapping: RequestMapping, model: str | None) -> ArrivalSource:
    """Arrivals at any rate; raises `BadInputError` where the set has none."""
    match source.kind:
        case Kind.servegen:
            return servegen_rates(source.path, model=model)
        case Kind.azure:
            return recorded(azure_arrivals(source.path))
        case Kind.mooncake:
            return recorded(arrivals_of(mooncake_trace(source.path, mapping)))
        case Kind.native:
            return recorded(arrivals_of(read_trace(source.path)))
        case Kind.kv_cache_tester:
            message = (
                f"source={source.kind.value} must be servegen, azure, mooncake or native: it has no absolute times"
            )
            raise BadInputError.of("--arrivals", message)
        case _:
            assert_never(source.kind)


def parse_shares(given: list[str], option: str) -> dict[str, float]:
    """`["a=0.4", "b=0.3"]`, or the same with commas. Raises `BadInputError`."""
    out: dict[str, float] = {}
    for item in (part for text in given for part in text.split(",") if part):
        name, equals, share = item.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            equals = ""
        if not (equals and name) or name in out:
            raise BadInputError.of(option, f"share={item} must be NAME=SHARE, each name once, like wan-1.3b-480p=0.4")
        out[name] = value
    return out
