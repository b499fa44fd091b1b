"""The reference's placement heuristic (arXiv 2606.19271 and public reimplementations), written incrementally.

Decides where the reference would put sessions; must never know a bound, or that a better placement exists.

Sessions keep their GPU; waiting and displaced ones go to the least-loaded GPU; then at most three steps, each of which
takes the GPU with the worst latency and moves the one session to the one GPU with the largest
latency_max_before - latency_max_after - 0.01 * migration_ms, if that is more than 40 ms; a migration takes
8 ms + state_MB / 32 ms. What the descriptions leave open is decided so:

- the load of a GPU is the latency of its round as it is, which knows GPU types and classes (`load="latency"`), or its
  number of sessions (`load="sessions"`); ties go to fewer sessions or the shorter round, then to the first GPU;
- waiting sessions come in the order of their priority, and classes of equal priority take turns;
- displaced are the sessions of GPUs that are to be emptied, class by class in turn, GPU by GPU; they go before the
  waiting ones, as they do in a system that first re-homes what it has;
- of equal gains the lowest class wins, then the target with the shortest round after the move, then the first GPU;
- a move that breaks a rule of the fleet (memory, budgets, batch size) is no candidate, and the next best is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal

import numpy as np

from solvers.placement.problem import NEVER_US, Problem
from solvers.placement.solution import Placement

Load = Literal["latency", "sessions"]

REBALANCING_STEPS = 3
GAIN_MIN_US = 40_000
MIGRATION_FIXED_US = 8_000.0
MIGRATION_MB_PER_MS = 32.0
MIGRATION_WEIGHT = 0.01


def place_like_turboserve(problem: Problem, *, steps_max: int = REBALANCING_STEPS, load: Load = "latency") -> Placement:
    """The reference's placement; always allowed. `steps_max` beyond three gives it a larger budget than its own."""
    places = _Places(problem, load)
    for gpu in np.flatnonzero(problem.leaving).tolist():
        for k in classes_in_turn(problem.running[gpu].tolist(), [0] * problem.classes):
            places.displace(gpu, k)
    for k in classes_in_turn(problem.waiting.tolist(), problem.priority_rank.tolist()):
        places.take_in(k)
    for _ in range(steps_max):
        step = places.best_step()
        if step is None or step.gain_us <= GAIN_MIN_US:
            break
        places.move(step.source, step.target, step.k)
    return places.placement()


def classes_in_turn(counts: list[int], ranks: list[int]) -> Iterator[int]:
    """Each session's class: by rank, and classes of equal rank take turns."""
    for rank in sorted(set(ranks)):
        left = [count if own == rank else 0 for count, own in zip(counts, ranks, strict=True)]
        while any(left):
            for k, count in enumerate(left):
                if count:
                    left[k] -= 1
                    yield k


def migration_price_us(problem: Problem) -> list[float]:
    """[classes]: what a step has to gain only to pay for its migration."""
    megabytes = problem.state_mib * (2**20 / 1e6)
    migration_us = MIGRATION_FIXED_US + 1000.0 * megabytes / MIGRATION_MB_PER_MS
    return [float(price) for price in MIGRATION_WEIGHT * migration_us]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rebalancing step: one session of class k from source to target."""

    gain_us: float
    k: int
    source: int
    target: int


class _Places:
    """Who is where, with what is asked again and again kept up to date: latencies, and latencies after one more."""

    def __init__(self, problem: Problem, load: Load) -> None:
        self._problem, self._by_sessions = problem, load == "sessions"
        tables = problem.tables
        self._alone, self._base, self._common = (
            tables.alone_us.tolist(),
            tables.base_us.tolist(),
            tables.common_us.tolist(),
        )
        self._last, self._last_common = tables.alone_us.shape[2] - 1, tables.common_us.shape[1] - 1
        self._type = problem.gpu_type.tolist()
        self._receives, self._memory_mib = problem.receives.tolist(), problem.memory_mib.tolist()
        self._state_mib, self._price_us = problem.state_mib.tolist(), migration_price_us(problem)
        self._out_max, self._in_max = problem.out_max.tolist(), problem.in_max.tolist()
        self._moves_left, self._mib_left = problem.moves_max, problem.moved_mib_max
        self._after = problem.running.tolist()
        self._sessions = problem.running.sum(axis=1).tolist()
        self._held_mib = (problem.running @ problem.state_mib).tolist()
        self._latency_us = problem.latency_us(problem.running).tolist()
        self._out = [[0] * problem.classes for _ in range(problem.gpus)]
        self._arrived = [[0] * problem.classes for _ in range(problem.gpus)]
        self._placed = [[0] * problem.classes for _ in range(problem.gpus)]
        self._out_count, self._in_count = [0] * problem.gpus, [0] * problem.gpus
        self._heap = [(*self._load(gpu), gpu) for gpu in range(problem.gpus) if self._receives[gpu]]
        heapify(self._heap)
        self._entered_us: list[list[int]] | None = None  # [class][gpu]: f with one more, NEVER_US where none may arrive

    def placement(self) -> Placement:
        out, arrived, placed = (np.array(part, dtype=np.int64) for part in (self._out, self._arrived, self._placed))
        return Placement(out=out, arrived=arrived, placed=placed)

    def take_in(self, k: int) -> None:
        """A waiting session goes to the least-loaded GPU that may take it; it waits on if there is none."""
        gpu = self._least_loaded(k, migrates=False)
        if gpu is not None:
            self._placed[gpu][k] += 1
            self._held_mib[gpu] += self._state_mib[k]
            self._count(gpu, k, 1)

    def displace(self, gpu: int, k: int) -> None:
        """A session goes from a GPU that is to be emptied to the least-loaded one, if the budgets allow it."""
        if not self._may_leave(gpu, k):
            return
        target = self._least_loaded(k, migrates=True)
        if target is not None:
            self.move(gpu, target, k)

    def best_step(self) -> Step | None:
        """The best move of one session away from the worst GPU."""
        worst_us = max(self._latency_us)
        source = self._latency_us.index(worst_us)
        others_us = max(self._latency_us[:source] + self._latency_us[source + 1 :], default=0)
        if self._entered_us is None:
            self._entered_us = self._entered_at_all()
        best: Step | None = None
        for k, count in enumerate(self._after[source]):
            if not count or not (self._placed[source][k] or self._may_leave(source, k)):
                continue
            entered_us = self._entered_if_placed(k) if self._placed[source][k] else self._entered_us[k]
            kept_us, entered_us[source] = entered_us[source], NEVER_US
            least_us = min(entered_us)
            target = entered_us.index(least_us)
            entered_us[source] = kept_us
            if least_us >= NEVER_US:
                continue
            remaining_us = self._latency_with(source, k, -1)
            gain_us = worst_us - max(others_us, remaining_us, least_us) - self._price_us[k]
            if best is None or gain_us > best.gain_us:
                best = Step(gain_us=gain_us, k=k, source=source, target=target)
        return best

    def move(self, source: int, target: int, k: int) -> None:
        """One session of class k; one that only now was placed is placed elsewhere, which is no migration."""
        if self._placed[source][k]:
            self._placed[source][k] -= 1
            self._placed[target][k] += 1
            self._held_mib[source] -= self._state_mib[k]
            self._held_mib[target] += self._state_mib[k]
        else:
            self._leave(source, k)
            self._arrive(target, k)
        self._count(source, k, -1)
        self._count(target, k, 1)

    def _leave(self, gpu: int, k: int) -> None:
        if self._arrived[gpu][k]:
            self._arrived[gpu][k] -= 1
            self._in_count[gpu] -= 1
            self._held_mib[gpu] -= self._state_mib[k]
            return
        self._out[gpu][k] += 1
        self._out_count[gpu] += 1
        self._moves_left -= 1
        self._mib_left -= self._state_mib[k]

    def _arrive(self, gpu: int, k: int) -> None:
        if self._out[gpu][k]:
            self._out[gpu][k] -= 1
            self._out_count[gpu] -= 1
            self._moves_left += 1
            self._mib_left += self._state_mib[k]
            return
        self._arrived[gpu][k] += 1
        self._in_count[gpu] += 1
        self._held_mib[gpu] += self._state_mib[k]

    def _may_leave(self, gpu: int, k: int) -> bool:
        if self._arrived[gpu][k]:
            return True
        within = self._moves_left >= 1 and self._mib_left >= self._state_mib[k]
        return within and self._out_count[gpu] < self._out_max[gpu]

    def _may_enter(self, gpu: int, k: int, *, migrates: bool) -> bool:
        """By memory and budgets; the batch is judged by its latency."""
        if not self._receives[gpu]:
            return False
        if migrates and self._out[gpu][k]:
            return True
        fits = self._held_mib[gpu] + self._state_mib[k] <= self._memory_mib[gpu]
        return fits and not (migrates and self._in_count[gpu] >= self._in_max[gpu])

    def _load(self, gpu: int) -> tuple[int, int]:
        latency_us, sessions = self._latency_us[gpu], self._sessions[gpu]
        return (sessions, latency_us) if self._by_sessions else (latency_us, sessions)

    def _least_loaded(self, k: int, *, migrates: bool) -> int | None:
        """The heap may hold loads of the past; every change has pushed the new one."""
        passed: list[tuple[int, int, int]] = []
        found: int | None = None
        while self._heap and found is None:
            entry = heappop(self._heap)
            gpu = entry[2]
            if entry[:2] != self._load(gpu) or (passed and passed[-1] == entry):
                continue
            passed.append(entry)
            if self._may_enter(gpu, k, migrates=migrates) and self._latency_with(gpu, k, 1) < NEVER_US:
                found = gpu
        for entry in passed:
            heappush(self._heap, entry)
        return found

    def _count(self, gpu: int, k: int, change: int) -> None:
        """Sessions of class k have come or gone: everything that is kept of this GPU changes."""
        self._latency_us[gpu] = self._latency_with(gpu, k, change)
        self._after[gpu][k] += change
        self._sessions[gpu] += change
        if self._receives[gpu]:
            heappush(self._heap, (*self._load(gpu), gpu))
        if self._entered_us is not None:
            for other, entered_us in enumerate(self._entered_us):
                entered_us[gpu] = self._entered(gpu, other)

    def _latency_with(self, gpu: int, k: int, change: int) -> int:
        """f of a GPU after `change` sessions of class k more."""
        counts, gpu_type = self._after[gpu], self._type[gpu]
        total = self._sessions[gpu] + change
        if total == 0:
            return 0
        alone, base = self._alone[gpu_type], self._base[gpu_type]
        result = base_us = 0
        for other, count in enumerate(counts):
            held = count + change if other == k else count
            if held:
                result += alone[other][min(held, self._last)]
                base_us = max(base_us, base[other])
        return int(min(result + base_us + self._common[gpu_type][min(total, self._last_common)], NEVER_US))

    def _entered(self, gpu: int, k: int) -> int:
        return self._latency_with(gpu, k, 1) if self._may_enter(gpu, k, migrates=True) else NEVER_US

    def _entered_at_all(self) -> list[list[int]]:
        """The first table, for all GPUs at once."""
        problem, after = self._problem, np.array(self._after, dtype=np.int64)
        held_mib, in_count = np.array(self._held_mib), np.array(self._in_count)
        result: list[list[int]] = []
        for k in range(problem.classes):
            after[:, k] += 1
            latency_us = problem.latency_us(after)
            after[:, k] -= 1
            room = (held_mib + self._state_mib[k] <= problem.memory_mib) & (in_count < problem.in_max)
            stays = np.array([row[k] > 0 for row in self._out])
            result.append(np.where(problem.receives & (room | stays), latency_us, NEVER_US).tolist())
        return result

    def _entered_if_placed(self, k: int) -> list[int]:
        """f with one more session that is placed, not migrated: no limit on migrations holds for it."""
        return [
            self._latency_with(gpu, k, 1) if self._may_enter(gpu, k, migrates=False) else NEVER_US
            for gpu in range(len(self._after))
        ]
