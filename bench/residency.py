"""How well idle sessions are chosen that keep their state on GPUs, on public traces.

Decides which idle times compete for which room; must never know how a rule values them. Every idle time of a trace asks
to stay in one memory from its first to its last moment; if it stays, its return saves a transfer of its state. With
equal states Belady's choice (whoever returns last goes) saves the most transfers; with several sizes a linear program
bounds what can be saved. Both know the future, the rules do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.result import BenchResult, Cell, Gate, Size
from bench.workloads import workload
from scheduler.cluster import History
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet
from scheduler.history import HistoryKeeper
from scheduler.planner_settings import ResidencySettings
from scheduler.residency import ReturnChances
from scheduler.sizes import state_mib
from solvers.residency_bound import kept_bound
from traces.store import read_trace
from traces.trace import Trace

Ints = NDArray[np.int64]

_ROOT = Path(__file__).resolve().parent.parent
_ROOMS = (0.1, 0.25, 0.5)  # of the most MiB that are idle at once
_SEEDS: Mapping[Size, int] = {"small": 2, "standard": 5}
_GAPS_MAX: Mapping[Size, int] = {"small": 1500, "standard": 12_000}
_REFRESH = 50  # ends of idle times after which the chances are learnt again


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Idle times that end in a return, in the order of their starts."""

    start_us: Ints
    end_us: Ints
    mib: Ints
    profile: tuple[str, ...]


Score = Callable[[Ints, int], NDArray[np.float64]]  # (gaps there, now) -> value of keeping each; the least goes


def run(size: Size) -> BenchResult:
    """Shares of what is possible, for each trace, room and rule."""
    rows: list[dict[str, Cell]] = []
    never_worse = True
    for name, (trace, fleet) in _traces(size).items():
        gaps = _gaps(trace, fleet, _GAPS_MAX[size])
        equal = len(set(gaps.mib.tolist())) == 1
        for room_share in _ROOMS:
            room = int(room_share * _peak_mib(gaps))
            best = (
                _saved(gaps, room, _belady(gaps)) if equal else kept_bound(gaps.start_us, gaps.end_us, gaps.mib, room)
            )
            ours = _saved(gaps, room, _chance(gaps, fleet)) / best
            lru = _saved(gaps, room, _lru(gaps)) / best
            drawn = sorted(_saved(gaps, room, _random(seed)) / best for seed in range(_SEEDS[size]))
            never_worse &= ours >= drawn[-1]
            rows.append(
                {
                    "trace": name,
                    "idle times": len(gaps.mib),
                    "room %": 100 * room_share,
                    "bound": "Belady" if equal else "LP",
                    "ours %": 100 * ours,
                    "LRU %": 100 * lru,
                    "random min %": 100 * drawn[0],
                    "random max %": 100 * drawn[-1],
                }
            )
    worst = min(float(row["ours %"] or 0) / float(row["random max %"] or 1) for row in rows)
    gate = Gate(
        claim="ours saves at least what random choices save", ok=never_worse, measured=f"{worst:.3f} times, worst"
    )
    settings: dict[str, Cell] = {
        "size": size,
        "idle times at most": _GAPS_MAX[size],
        "horizon s": ResidencySettings().horizon_s,
        "random seeds": _SEEDS[size],
    }
    return BenchResult(name="residency", settings=settings, rows=tuple(rows), gates=(gate,))


def _traces(size: Size) -> dict[str, tuple[Trace, Fleet]]:
    one = load_fleet(_ROOT / "examples" / "fleets" / "one-type.yaml")
    four = load_fleet(_ROOT / "examples" / "fleets" / "four-profiles.yaml")
    traces = _ROOT / "examples" / "traces"
    found = {
        "kv, one size": workload("one-kv", "small"),
        "kv, four sizes": workload("four-kv", "small"),
        "mooncake": (read_trace(traces / "mooncake-45min.csv.gz"), one),
        "mixed-6h": (read_trace(traces / "mixed-6h.parquet"), four),
    }
    return found if size == "standard" else {name: found[name] for name in ("kv, one size", "kv, four sizes")}


def _gaps(trace: Trace, fleet: Fleet, gaps_max: int) -> Gaps:
    """The first idle times of a trace."""
    periods = trace.periods.sort("session_index", "start_us")
    session = periods["session_index"].to_numpy()
    start, end = periods["start_us"].to_numpy(), periods["end_us"].to_numpy()
    again = session[1:] == session[:-1]
    begins, ends, owner = end[:-1][again], start[1:][again], session[1:][again]
    order = np.argsort(begins, kind="stable")[:gaps_max]
    default = fleet.default_profile or next(iter(fleet.profiles))
    names = trace.sessions["profile"].fill_null(default).to_list()
    profile = tuple(names[index] if names[index] in fleet.profiles else default for index in owner[order])
    size = {name: state_mib(fleet, name) for name in fleet.profiles}
    return Gaps(
        start_us=begins[order].astype(np.int64),
        end_us=ends[order].astype(np.int64),
        mib=np.array([size[name] for name in profile], np.int64),
        profile=profile,
    )


def _peak_mib(gaps: Gaps) -> int:
    times = np.concatenate([gaps.end_us, gaps.start_us])
    change = np.concatenate([-gaps.mib, gaps.mib])
    return int(change[np.argsort(times, kind="stable")].cumsum().max())


def _saved(gaps: Gaps, room_mib: int, score: Score) -> float:
    """MiB of states that are still there when they are wanted."""
    by_end = np.argsort(gaps.end_us, kind="stable")
    there: set[int] = set()
    held, saved, ended = 0, 0, 0
    for gap, now_us in enumerate(gaps.start_us.tolist()):
        while ended < len(by_end) and gaps.end_us[by_end[ended]] <= now_us:
            done = int(by_end[ended])
            ended += 1
            if done in there:
                there.remove(done)
                held -= int(gaps.mib[done])
                saved += int(gaps.mib[done])
        there.add(gap)
        held += int(gaps.mib[gap])
        if held > room_mib:
            members = np.array(sorted(there), np.int64)
            for victim in members[np.argsort(score(members, now_us), kind="stable")].tolist():
                there.remove(victim)
                held -= int(gaps.mib[victim])
                if held <= room_mib:
                    break
    return float(saved + sum(int(gaps.mib[gap]) for gap in there))


def _belady(gaps: Gaps) -> Score:
    return lambda members, _: -gaps.end_us[members].astype(np.float64)


def _lru(gaps: Gaps) -> Score:
    return lambda members, _: gaps.start_us[members].astype(np.float64)


def _random(seed: int) -> Score:
    rng = np.random.default_rng(seed)
    return lambda members, _: rng.random(len(members))


def _chance(gaps: Gaps, fleet: Fleet) -> Score:
    """The planner's rule, which learns from the idle times that have ended so far."""
    by_end = np.argsort(gaps.end_us, kind="stable")
    history = History(epoch_s=fleet.epoch_s, active_max={}, idle_s={}, gone={}, scale_in_wanted_since_s={})
    keeper = HistoryKeeper(history, {})
    horizon_s = ResidencySettings().horizon_s
    learnt = 0
    chances = ReturnChances(history, horizon_s)
    profiles = np.array(gaps.profile)

    def score(members: Ints, now_us: int) -> NDArray[np.float64]:
        nonlocal learnt, chances
        ended = int(np.searchsorted(gaps.end_us[by_end], now_us, side="right"))
        if ended - learnt >= _REFRESH:
            for gap in by_end[learnt:ended].tolist():
                keeper.returned(gaps.profile[gap], (int(gaps.end_us[gap]) - int(gaps.start_us[gap])) / 1e6)
            learnt, chances = ended, ReturnChances(keeper.history(), horizon_s)
        value = np.zeros(len(members))
        for profile in fleet.profiles:
            mine = profiles[members] == profile
            value[mine] = chances.worth(profile, (now_us - gaps.start_us[members[mine]]) / 1e6)
        return value

    return score
