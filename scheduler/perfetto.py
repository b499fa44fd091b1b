"""A run as a trace for ui.perfetto.dev: Chrome's JSON trace format, which also chrome://tracing reads.

Decides which tracks, slices, flows and counters there are; must never know where the text is written.

Format: "Trace Event Format", Google 2016. Times are microseconds from the first GPU's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from scheduler.report.lanes import lowest_free_slots
from scheduler.report.schedule import Int, microseconds
from scheduler.report.steps import Steps, steps_of
from scheduler.simulation.outcome import Tables

Event = dict[str, Any]
_COUNTERS, _NOWHERE, _FIRST_GPU = 1, 2, 10  # processes: counters, sessions on no GPU, then one per GPU
_POWER, _ROUNDS, _FIRST_SEAT = 1, 2, 10  # threads of a GPU: on and starting, rounds, then one per seat
COUNTER_POINTS_MAX = 200_000


def perfetto_trace(tables: Tables) -> dict[str, Any]:
    """One process per GPU with a track per seat, rounds where they were kept, moves as flows, and counters."""
    zero_us = min(0, int(microseconds(tables.gpus["on_s"]).min(initial=0)))
    gpu_ids = tables.gpus["gpu_id"].unique().sort().to_list()
    process_of = {gpu_id: _FIRST_GPU + index for index, gpu_id in enumerate(gpu_ids)}
    stays = _seated(tables.stays, process_of)
    events = [
        *_names(process_of, stays),
        *_power(tables.gpus, process_of),
        *_sessions(stays),
        *([] if tables.rounds is None else _rounds(tables.rounds, process_of)),
        *_flows(tables.moves, stays, process_of),
        *_counters(tables),
    ]
    for event in events:
        if "ts" in event:
            event["ts"] -= zero_us
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"trace_begins_at_us": -zero_us}}


def _seated(stays: pl.DataFrame, process_of: dict[str, int]) -> pl.DataFrame:
    """Stays with process, thread and microseconds; slices of one track never overlap."""
    rows = stays.with_columns(
        pid=pl.col("gpu_id").replace_strict(process_of, default=_NOWHERE, return_dtype=pl.Int64),
        start_us=pl.Series(microseconds(stays["start_s"])),
        end_us=pl.Series(microseconds(stays["end_s"])),
    ).sort("pid", "start_us", maintain_order=True)
    slot = lowest_free_slots(rows["pid"].to_numpy(), rows["start_us"].to_numpy(), rows["end_us"].to_numpy())
    return rows.with_columns(tid=pl.Series(slot + _FIRST_SEAT))


def _names(process_of: dict[str, int], stays: pl.DataFrame) -> Iterator[Event]:
    named = {"counters": _COUNTERS, "sessions on no GPU": _NOWHERE, **process_of}
    for order, (name, pid) in enumerate(named.items()):
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": order}}
    for pid in process_of.values():
        for tid, name in ((_POWER, "power"), (_ROUNDS, "rounds")):
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
    for pid, tid in stays.select("pid", "tid").unique().sort("pid", "tid").iter_rows():
        name = f"seat {tid - _FIRST_SEAT}" if pid != _NOWHERE else f"row {tid - _FIRST_SEAT}"
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}


def _power(gpus: pl.DataFrame, process_of: dict[str, int]) -> Iterator[Event]:
    ready = microseconds(gpus["ready_s"].fill_null(gpus["off_s"]))
    on, off = microseconds(gpus["on_s"]), microseconds(gpus["off_s"])
    for gpu_id, end, on_us, ready_us, off_us in zip(gpus["gpu_id"], gpus["end"], on, ready, off, strict=True):
        for name, start, stop in (("starting up", on_us, min(ready_us, off_us)), ("on", ready_us, off_us)):
            if start < stop:
                yield _slice(name, "gpu", process_of[gpu_id], _POWER, int(start), int(stop), {"end": end})


def _sessions(stays: pl.DataFrame) -> Iterator[Event]:
    columns = stays.select("session_id", "status", "pid", "tid", "start_us", "end_us")
    for session_id, status, pid, tid, start, end in columns.iter_rows():
        yield _slice(session_id, status, pid, tid, start, end, {"status": status})


def _rounds(rounds: pl.DataFrame, process_of: dict[str, int]) -> Iterator[Event]:
    """Equal rounds in a row are one slice."""
    for gpu_id, start_s, every_s, count, latency_ms, sessions in rounds.iter_rows():
        start, length_us = round(start_s * 1e6), round(((count - 1) * every_s + latency_ms / 1e3) * 1e6)
        told = {"rounds": count, "every_s": every_s, "latency_ms": latency_ms, "sessions": sessions}
        name = f"{count} x {latency_ms:g} ms, {sessions} sessions"
        yield _slice(name, "round", process_of[gpu_id], _ROUNDS, start, start + length_us, told)


def _flows(moves: pl.DataFrame, stays: pl.DataFrame, process_of: dict[str, int]) -> Iterator[Event]:
    """An arrow from the stay that a move leaves to the stay that it leads to, where both were recorded."""
    found: dict[str, list[tuple[int, int, int, int]]] = {}
    for session_id, pid, tid, start, end in (
        stays.sort("start_us", maintain_order=True).select("session_id", "pid", "tid", "start_us", "end_us").iter_rows()
    ):
        found.setdefault(session_id, []).append((pid, tid, start, end))
    done = moves.filter(pl.col("result") == "done")
    starts, ends = microseconds(done["start_s"]), microseconds(done["end_s"])
    columns = done.select("session_id", "kind", "source", "target", "reason").iter_rows()
    for number, ((session_id, kind, source, target, reason), start, end) in enumerate(
        zip(columns, starts, ends, strict=True)
    ):
        left = process_of.get(source, _NOWHERE)
        entered = process_of.get(target, _NOWHERE)
        mine = found.get(session_id, [])
        before = next((stay for stay in reversed(mine) if stay[0] == left and stay[2] <= start), None)
        after = next((stay for stay in mine if stay[0] == entered and stay[3] > end), None)
        if before is None or after is None or before == after:
            continue
        flow = {"name": kind, "cat": "move", "id": number, "args": {"reason": reason}}
        yield {**flow, "ph": "s", "pid": before[0], "tid": before[1], "ts": min(int(start), before[3] - 1)}
        yield {**flow, "ph": "f", "bp": "e", "pid": after[0], "tid": after[1], "ts": max(int(end), after[2])}


def _counters(tables: Tables) -> Iterator[Event]:
    stays, gpus = tables.stays, tables.gpus
    periods = tables.periods
    yield from _counter("active sessions", periods["start_s"], periods["end_s"])
    yield from _counter("GPUs on", gpus["on_s"], gpus["off_s"])
    for status in ("suspended", "waiting"):
        mine = stays.filter(pl.col("status") == status)
        yield from _counter(f"{status} sessions", mine["start_s"], mine["end_s"])


def _counter(name: str, start_s: pl.Series, end_s: pl.Series) -> Iterator[Event]:
    steps: Steps = steps_of(microseconds(start_s), microseconds(end_s))
    shown: Int = np.unique(np.linspace(0, len(steps.at_us) - 1, COUNTER_POINTS_MAX).astype(np.int64))
    for at, value in zip(steps.at_us[shown].tolist(), steps.value[shown].tolist(), strict=True):
        yield {"ph": "C", "name": name, "pid": _COUNTERS, "tid": 0, "ts": at, "args": {"value": int(value)}}


def _slice(name: str, category: str, pid: int, tid: int, start: int, end: int, told: dict[str, Any]) -> Event:
    return {
        "ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": start, "dur": end - start, "args": told
    }  # fmt: skip
