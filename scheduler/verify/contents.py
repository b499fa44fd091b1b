"""What each GPU holds from instant to instant.

Decides chunk latencies, late time, and whether batch sizes and memory are respected, also during migrations; must
never know what a plan claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scheduler.verify.case import Case
from scheduler.verify.content_rules import ContentRules
from scheduler.verify.served import Moves
from scheduler.verify.sweep import Ints, examples, keys, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """What the sessions feel over the whole schedule."""

    findings: tuple[str, ...]
    latency_ms_max: float
    latency_ms_mean: float  # weighted by session-seconds
    late_session_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretches:
    """Stretches of time in which a GPU's content does not change and is not empty."""

    gpu: Ints
    start_us: Ints
    length_us: Ints
    content: Ints  # row of `contents`
    type_index: Ints  # per row of `contents`
    contents: Ints  # (distinct contents, profiles)


def felt_by_sessions(case: Case, moves: Moves, rules: ContentRules) -> Felt:
    """Sweep every GPU once."""
    stretches = _stretches(case)
    latency_ms = np.zeros(len(stretches.contents))
    allowed = np.ones(len(stretches.contents), dtype=np.bool_)
    fits = allowed.copy()
    for type_index in np.unique(stretches.type_index):
        mine = stretches.type_index == type_index
        contents = stretches.contents[mine]
        latency_ms[mine], allowed[mine] = rules.latency_ms(int(type_index), contents)
        fits[mine] = rules.fits_memory(int(type_index), contents)
    late = rules.late(latency_ms, stretches.contents)
    number = stretches.contents.sum(axis=1)
    length_us, content = stretches.length_us, stretches.content
    session_us = float((number[content] * length_us).sum())
    weighted = float((number * latency_ms)[content] @ length_us)
    findings = [
        *examples(
            ~allowed[content], lambda i: f"{_told(case, stretches, i)} exceeds its batch sizes, or has no figures there"
        ),
        *examples(~fits[content], lambda i: f"{_told(case, stretches, i)} exceeds its memory"),
        *_memory_holds_during_moves(case, moves, rules),
    ]
    return Felt(
        findings=tuple(findings),
        latency_ms_max=float(latency_ms.max(initial=0.0)),
        latency_ms_mean=weighted / session_us if session_us else 0.0,
        late_session_seconds=float((late[content] * length_us).sum() / 1e6),
    )


def _stretches(case: Case) -> _Stretches:
    placed, profiles = case.placed, len(case.fleet.profiles)
    real = placed.end_us > placed.start_us
    gpu = np.tile(placed.gpu[real], 2)
    time = np.concatenate([placed.start_us[real], placed.end_us[real]])
    sign = np.repeat(np.array([1, -1], dtype=np.int64), int(real.sum()))
    profile = np.tile(case.profile_of_row[real], 2)
    if not gpu.size:
        nothing = np.zeros(0, dtype=np.int64)
        empty = np.zeros((0, profiles), dtype=np.int64)
        return _Stretches(
            gpu=nothing, start_us=nothing, length_us=nothing, content=nothing, type_index=nothing, contents=empty
        )
    key = keys([gpu], [time])[0]
    order = np.argsort(key, kind="stable")
    key, gpu, time, sign, profile = key[order], gpu[order], time[order], sign[order], profile[order]
    last = np.append(key[1:] != key[:-1], True)  # the last event of each instant on each GPU
    at = np.flatnonzero(last)
    length_us = np.append(time[at][1:] - time[at][:-1], 0)
    counts = [np.cumsum(np.where(profile == p, sign, 0))[at] for p in range(profiles)]
    held = sum(counts) > 0  # a GPU's last event leaves it empty, so no stretch runs into the next GPU
    code = case.gpus.type_index[gpu[at]][held]
    for count in counts:
        code = _merged(code, count[held])
    _, first, content = np.unique(code, return_index=True, return_inverse=True)
    return _Stretches(
        gpu=gpu[at][held],
        start_us=time[at][held],
        length_us=length_us[held],
        content=content,
        type_index=case.gpus.type_index[gpu[at][held]][first],
        contents=np.stack([count[held][first] for count in counts], axis=1),
    )


def _merged(code: Ints, count: Ints) -> Ints:
    """One number per pair, kept small by renumbering where it would grow past 64 bits."""
    width = int(count.max(initial=0)) + 1
    if int(code.max(initial=0)) >= 2**62 // width:
        code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    return code * width + count


def _told(case: Case, stretches: _Stretches, i: int) -> str:
    counts = zip(case.fleet.profiles, stretches.contents[stretches.content[i]], strict=True)
    content = " + ".join(f"{count} {name}" for name, count in counts if count)
    return f"{case.gpu_name(stretches.gpu[i])} at {seconds(stretches.start_us[i])}: {content}"


def _memory_holds_during_moves(case: Case, moves: Moves, rules: ContentRules) -> Iterator[str]:
    """At the instant of a migration source and target both hold the state, beside everything that stays."""
    if not moves.row.size:
        return
    many = len(case.gpus.ids)
    arrival = moves.at_us * many + moves.target
    instants, first = np.unique(arrival, return_index=True)
    at_us, target = moves.at_us[first], moves.target[first]
    states = np.zeros(instants.size)
    for profile, state_gib in enumerate(rules.state_gib):
        rows = case.profile_of_row == profile
        begun = _count(case.placed.gpu[rows], case.placed.start_us[rows], target, at_us - 1)
        ended = _count(case.placed.gpu[rows], case.placed.end_us[rows], target, at_us)
        mine = moves.profile == profile
        arriving = _equal(arrival[mine], instants)
        leaving = _equal(moves.at_us[mine] * many + moves.source[mine], instants)
        states += state_gib * (begun - ended + arriving + leaving)
    room = rules.room_gib[case.gpus.type_index[target]]
    yield from examples(
        states > room + 1e-9,
        lambda i: (
            f"{case.gpu_name(target[i])} at {seconds(at_us[i])}: {states[i]:.6g} GiB of states that stay, leave and "
            f"arrive exceed its {room[i]:.6g} GiB"
        ),
    )


def _count(gpu: Ints, time: Ints, asked_gpu: Ints, asked_time: Ints) -> Ints:
    """How many of each asked GPU's times are at or before the asked one."""
    have, asked, low = keys(
        [gpu, asked_gpu, asked_gpu],
        [time, asked_time, np.full(asked_gpu.size, min(time.min(initial=0), asked_time.min(initial=0)) - 1)],
    )
    have = np.sort(have)
    return np.searchsorted(have, asked, side="right") - np.searchsorted(have, low, side="right")


def _equal(values: Ints, asked: Ints) -> Ints:
    values = np.sort(values)
    return np.searchsorted(values, asked, side="right") - np.searchsorted(values, asked, side="left")
