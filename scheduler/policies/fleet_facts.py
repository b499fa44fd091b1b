"""What heuristics know of a fleet: sizes, latencies of contents, and how large a share of a GPU a session takes.

Decides how fleets of several profiles and GPU types are read by rules that were published for one of each; must never
know a session, a time or a rule.

The published rules count sessions against the capacity of a GPU. Where profiles differ, a session of profile k takes
1 / seats_k of a GPU of a type (`scheduler.latency.seats`: how many of it alone are on time there), and the *load* of a
GPU is the sum of these shares, in whole numbers; `FULL` is a full GPU. Where types differ, demand of a profile counts
against its *home*: the type with the least price per seat. A profile that is late everywhere, even alone, takes a GPU
for itself.
"""

from __future__ import annotations

from scheduler.fleet import Fleet
from scheduler.latency import seats
from scheduler.round_tables import round_tables
from scheduler.sizes import room_mib, state_bytes, state_mib
from solvers.placement.problem import NEVER_US

Counts = tuple[int, ...]  # active sessions of one GPU, by profile index

FULL = 720_720  # load of a full GPU; every number of seats up to 16 divides it
NOWHERE = 1 << 40  # the share of a profile that does not run on a type
NEVER, LATE, ON_TIME = 0, 1, 2  # what becomes of a batch


class FleetFacts:
    """Constants of one fleet, as Python numbers; contents are remembered once they were looked up."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.profiles = tuple(fleet.profiles)
        self.column = {name: k for k, name in enumerate(self.profiles)}
        self.state_mib = [state_mib(fleet, name) for name in self.profiles]
        self.state_bytes = [state_bytes(fleet, name) for name in self.profiles]
        self.target_us = [round(fleet.target_ms(name) * 1000) for name in self.profiles]
        self.gpu_types = tuple(dict.fromkeys(pool.gpu_type for pool in fleet.pools))
        self.room_mib = {name: room_mib(fleet, name) for name in self.gpu_types}
        tables = round_tables(fleet, self.profiles)
        index = {name: t for t, name in enumerate(fleet.gpu_types)}
        self._alone = {name: tables.alone_us[index[name]].tolist() for name in self.gpu_types}
        self._base = {name: tables.base_us[index[name]].tolist() for name in self.gpu_types}
        self._common = {name: tables.common_us[index[name]].tolist() for name in self.gpu_types}
        self._latency_us: dict[tuple[str, Counts], int] = {}
        self._outcome: dict[tuple[str, Counts, int], int] = {}
        self.share = {name: self._shares(name) for name in self.gpu_types}
        self.gpus_max = {t: sum(p.nodes * p.gpus_per_node for p in fleet.pools if p.gpu_type == t) for t in self.share}
        self.gpus_min = {t: sum(p.gpus_min for p in fleet.pools if p.gpu_type == t) for t in self.share}
        self.by_price = [self._by_price(k) for k in range(len(self.profiles))]
        self.home = [types[0] if types else None for types in self.by_price]

    def latency_us(self, gpu_type: str, counts: Counts) -> int:
        """f of a content; at least `NEVER_US` where it may not run."""
        known = self._latency_us.get((gpu_type, counts))
        if known is None:
            known = self._latency_us[gpu_type, counts] = self._worked_out(gpu_type, counts)
        return known

    def with_one_more(self, gpu_type: str, counts: Counts, k: int) -> int:
        """`ON_TIME` for everybody, `LATE` for somebody, or `NEVER`."""
        known = self._outcome.get((gpu_type, counts, k))
        if known is None:
            after = (*counts[:k], counts[k] + 1, *counts[k + 1 :])
            latency_us = self.latency_us(gpu_type, after)
            on_time = all(latency_us <= target for target, count in zip(self.target_us, after, strict=True) if count)
            known = NEVER if latency_us >= NEVER_US else ON_TIME if on_time else LATE
            self._outcome[gpu_type, counts, k] = known
        return known

    def _worked_out(self, gpu_type: str, counts: Counts) -> int:
        total = sum(counts)
        if not total:
            return 0
        alone, base, common = self._alone[gpu_type], self._base[gpu_type], self._common[gpu_type]
        present = [(k, count) for k, count in enumerate(counts) if count]
        own_us = sum(alone[k][min(count, len(alone[k]) - 1)] for k, count in present)
        shared_us = max(base[k] for k, _ in present) + common[min(total, len(common) - 1)]
        return int(own_us + shared_us)

    def _shares(self, gpu_type: str) -> list[int]:
        """Of a GPU, by profile."""
        alone = seats(self.fleet, gpu_type).tolist()
        empty = (0,) * len(self.profiles)
        runs = [self.with_one_more(gpu_type, empty, k) != NEVER for k in range(len(self.profiles))]
        fits = [mib <= self.room_mib[gpu_type] for mib in self.state_mib]
        return [round(FULL / max(1, n)) if r and f else NOWHERE for n, r, f in zip(alone, runs, fits, strict=True)]

    def _by_price(self, k: int) -> list[str]:
        """GPU types that run a profile: on time first, then the least price per seat."""
        on_time = {t: int(seats(self.fleet, t)[k]) > 0 for t in self.gpu_types}
        price = {t: self.fleet.gpu_types[t].price_per_hour for t in self.gpu_types}
        able = [t for t in self.gpu_types if self.share[t][k] < NOWHERE]
        return sorted(able, key=lambda t: (not on_time[t], price[t] * self.share[t][k]))
