"""Random traces and fleets, as a user might write them, small enough for an oracle that tries everything.

Decides what the inputs look like; must never know what is claimed about their plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import strategies as st

from scheduler.fleet import Fleet
from traces.assemble import trace_from_periods
from traces.trace import Trace

TICK_S = 1e-6  # the oracle walks from tick to tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One trace and one fleet, also as the data of their files."""

    fleet_data: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def fleet(self) -> Fleet:
        return Fleet.model_validate(self.fleet_data)

    @property
    def trace(self) -> Trace:
        return trace_from_periods(pl.DataFrame(self.rows))


@st.composite
def inputs(draw: st.DrawFn, *, tick_s: float = TICK_S, periods_max: int = 3, gpus_max: int = 2) -> Input:
    """Up to `periods_max` active periods within twelve ticks, on up to `gpus_max` GPUs; a GPU-tick costs $1 to $3.

    Every profile runs on the first GPU type, late perhaps: other inputs are refused, which is tested elsewhere.
    """
    batching = draw(st.sampled_from(["grouped", "packed", "turboserve"]))
    types = [f"t{index}" for index in range(draw(st.integers(1, 2)))]
    names = [f"p{index}" for index in range(draw(st.integers(1, 2)))]
    epoch = draw(st.integers(2, 4))
    startups = {name: draw(st.sampled_from([0, 1, epoch, epoch + 1, 2 * epoch])) for name in types}
    state_gib = {name: draw(st.sampled_from([0.5, 1.0, 1.5])) for name in names}
    costs, profiles = _costs(draw, batching, types, names)
    for name in names:
        profiles[name] |= {"chunk_s": 1.0, "state_gib": state_gib[name]}
        if draw(st.booleans()):
            profiles[name]["target_ms"] = draw(st.sampled_from([2.0, 4.0, 9.0]))
    fleet = {
        "format": "epochal.fleet/1",
        "epoch_s": round(epoch * tick_s, 6),
        "batching": batching,
        "gpu_types": {
            name: {
                "memory_gib": draw(st.sampled_from([2.0, 2.5, 3.0, 100.0])),
                "weights_gib": draw(st.sampled_from([0.0, 0.5])),
                "price_per_hour": draw(st.integers(1, 3)) * 3600 / tick_s,
                "startup_s": round(startups[name] * tick_s, 6),
            }
            for name in types
        },
        "pools": _pools(draw, types, gpus_max),
        "links": {
            "device_host_gb_s": 50.0,
            "device_device_gb_s": 1e9,
            "node_node_gb_s": 0.8e9,
            "latency_ms": draw(st.sampled_from([0.5, 1.0, 3.0])) * tick_s * 1e3,
        },
        "default_profile": names[0],
        "profiles": profiles,
        "target": {"chunk_latency_ms": draw(st.sampled_from([3.0, 5.0, 20.0])), "first_chunk_ms": 3000.0},
        "budget": _budget(draw),
    } | costs
    return Input(fleet_data=fleet, rows=_rows(draw, names, epoch * draw(st.integers(1, 3)), tick_s, periods_max))


def _costs(
    draw: st.DrawFn, batching: str, types: list[str], names: list[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What the batching model adds to the fleet, and to each profile; some profiles run on the first type alone."""
    where = {name: types if draw(st.booleans()) else types[:1] for name in names}
    millisecond = st.sampled_from([1.0, 2.0, 2.5, 4.0])
    if batching == "packed":
        seats = {t: {"fixed_ms": draw(millisecond), "sessions_max": draw(st.integers(1, 3))} for t in types}
        return {"packed": seats}, {
            name: {"per_session_ms": {t: draw(millisecond) for t in where[name]}} for name in names
        }
    if batching == "turboserve":
        crowding = {t: _table(draw, first_ms=0.0) for t in types}
        return {"crowding_ms": crowding}, {
            name: {"base_ms": {t: draw(millisecond) for t in where[name]}} for name in names
        }
    return {}, {
        name: {"latency_ms": {t: _table(draw, first_ms=draw(millisecond)) for t in where[name]}} for name in names
    }


def _table(draw: st.DrawFn, *, first_ms: float) -> list[float]:
    """Non-decreasing, for batches of up to three."""
    rises = draw(st.lists(st.sampled_from([0.0, 1.0, 1.5, 4.0]), max_size=2))
    return [first_ms + sum(rises[:count]) for count in range(len(rises) + 1)]


def _pools(draw: st.DrawFn, types: list[str], gpus_max: int) -> list[dict[str, Any]]:
    """A pool per type, and `gpus_max` GPUs in all."""
    sizes = [gpus_max] if len(types) == 1 else [1, gpus_max - 1]
    pools = []
    for name, size in zip(types, sizes, strict=True):
        together = draw(st.booleans())
        pools.append(
            {
                "gpu_type": name,
                "nodes": 1 if together else size,
                "gpus_per_node": size if together else 1,
                "gpus_min": draw(st.sampled_from([0, 0, 0, 1])),
            }
        )
    return pools


def _budget(draw: st.DrawFn) -> dict[str, Any]:
    chosen = {
        "moves_per_epoch": draw(st.sampled_from([None, 0, 1])),
        "moves_out_per_gpu": draw(st.sampled_from([None, None, 1])),
        "moves_in_per_gpu": draw(st.sampled_from([None, None, 1])),
        "gib_per_epoch": draw(st.sampled_from([None, None, 1.0])),
    }
    return {name: value for name, value in chosen.items() if value is not None} if draw(st.booleans()) else {}


def _rows(draw: st.DrawFn, names: list[str], ticks: int, tick_s: float, periods_max: int) -> list[dict[str, Any]]:
    """Sessions of one or two periods; now and then several priorities."""
    rows: list[dict[str, Any]] = []
    priorities = [0, 0, 1, -1] if draw(st.booleans()) else [0]
    count = draw(st.integers(1, periods_max))
    while len(rows) < count:
        session = {
            "session_id": f"s{len(rows)}",
            "profile": draw(st.sampled_from(names)),
            "priority": draw(st.sampled_from(priorities)),
        }
        start = draw(st.integers(0, ticks - 1))
        end = draw(st.integers(start + 1, ticks))
        rows.append(session | _times(start, end, tick_s))
        if len(rows) < count and end + 1 < ticks and draw(st.booleans()):
            rows.append(session | _times(end + 1, ticks, tick_s))
    return rows


def _times(start: int, end: int, tick_s: float) -> dict[str, float]:
    return {"start_s": round(start * tick_s, 6), "end_s": round(end * tick_s, 6)}
