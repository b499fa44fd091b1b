"""The rules of docs/simulation.md, one after another and nothing skipped: what the fast simulator is held against.

Decides what happens at every instant of a run; must never know how `scheduler.simulation` finds out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from scheduler import events
from scheduler.cluster import GpuId, NodeId, Session, SessionId, Snapshot
from scheduler.cluster_checks import held_mib
from scheduler.cluster_state import ClusterState, all_off
from scheduler.events import Event
from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms
from scheduler.plan import Decision, GpuAim, Move
from scheduler.policy import Budget, Prepared
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import Failure, SimulationSettings, Straggler
from scheduler.sizes import host_room_mib, room_mib, state_bytes, state_mib
from tests.scheduler.simulation.oracle_books import Books, MoveMade, Period, TimeOn
from traces.trace import Trace

Link = tuple[str, str]  # what it is, and of which GPU or node
Observe = Callable[[Event, int, Snapshot], None]

ON = ("starting", "ready", "draining")
RUNS = ("ready", "draining")
FITS = {
    "place": ("waiting",),
    "resume": ("waiting",),
    "migrate": ("active", "idle"),
    "offload": ("active", "idle"),
}


@dataclass(slots=True, eq=False)
class _Round:
    begin: int
    end: int
    takers: list[Period]


@dataclass(slots=True, eq=False)
class _Gpu:
    gpu_id: GpuId
    gpu_type: str
    node: NodeId
    time_on: TimeOn | None = None  # the present one
    ready_at: int | None = None  # while it starts up
    repaired_at: int | None = None  # while it is lost
    factor: float = 1.0
    recovers_at: int | None = None  # while it straggles
    round: _Round | None = None  # under way
    begun: int | None = None  # when its last round began


@dataclass(slots=True, eq=False)
class _Transfer:
    made: MoveMade
    period_profile: str
    links: tuple[Link, ...]
    left: int  # bytes
    sends_at: int | None = None  # from here on it sends bytes; None: it is not frozen yet
    rate: int = 0  # bytes per second
    since: int = 0  # when this rate began
    ends_at: int | None = None

    @property
    def session_id(self) -> SessionId:
        return self.made.move.session_id


@dataclass(slots=True)
class _Steps:
    """What decides when the policy is asked."""

    last: int | None = None
    epoch_due: bool = True  # the run begins with a step
    called: bool = (
        False  # since the last step a GPU became ready or was lost, or a session returned to the one it is on
    )
    wish: float = float("inf")  # when the last decision wants the next step
    worth_asking: bool = True  # something changed since the last early step
    computing: tuple[int, Decision] | None = None  # when it takes effect
    waves: list[list[Move]] = field(default_factory=list)  # that have not begun
    under_way: set[SessionId] = field(default_factory=set)  # moves of the wave that has


def run_oracle(
    trace: Trace,
    fleet: Fleet,
    prepared: Prepared,
    settings: SimulationSettings | None = None,
    *,
    fleet_name: str = "",
    observe: Observe | None = None,
) -> Outcome:
    """The outcome of one run, apart from times measured; `observe` is told every event and what followed from it."""
    return _Run(trace, fleet, prepared, settings or SimulationSettings(), observe).outcome(trace, fleet_name)


class _Run:
    def __init__(
        self, trace: Trace, fleet: Fleet, prepared: Prepared, settings: SimulationSettings, observe: Observe | None
    ) -> None:
        self.fleet, self.prepared, self.settings, self.observe = fleet, prepared, settings, observe
        self.now, self.horizon = 0, trace.horizon_us
        self.epoch = round(fleet.epoch_s * 1e6)
        self.spacing = round(settings.early_spacing_s * 1e6)
        self.planning = round(prepared.planning_s * 1e6)
        self.chunk = {name: round(profile.chunk_s * 1e6) for name, profile in fleet.profiles.items()}
        self.empty = all_off(fleet)
        self.cluster = ClusterState(self.empty)
        self.seen = self.empty  # the cluster after the last event
        self.stay_since: dict[SessionId, int] = {}
        self.books, self.steps = Books(), _Steps()
        self.gpus = {g.gpu_id: _Gpu(g.gpu_id, g.gpu_type, g.node) for g in self.empty.gpus.values()}
        self.transfers: list[_Transfer] = []  # in the order of their begins
        self.open: dict[SessionId, Period] = {}  # the period that each session is in
        self.sessions = list(trace.sessions.iter_rows(named=True))
        for index, start, end in trace.periods.iter_rows():
            row = self.sessions[index]
            profile = row["profile"] or fleet.default_profile
            assert profile is not None, "a trace has profiles, or the fleet a default"
            self.books.periods.append(
                Period(session_id=row["session_id"], profile=profile, order=index, start=start, end=end)
            )
        self.last_of = {period.order: period for period in self.books.periods}
        self.faults = list(settings.faults)
        self.length = cache(self._length)

    def outcome(self, trace: Trace, fleet_name: str) -> Outcome:
        self._play()
        named = {
            "trace": trace.name,
            "fleet": fleet_name,
            "policy": self.prepared.name,
            "seed": self.settings.seed,
        }
        return self.books.outcome(
            named=named,
            fleet=self.fleet,
            empty=self.empty,
            horizon=self.horizon,
            sessions=[row["session_id"] for row in self.sessions],
        )

    # The run

    def _play(self) -> None:
        self._begin()
        while True:
            self._rounds_end()
            self._transfers_end()
            self._gpus_turn()
            self._faults_strike()
            self._periods_turn()
            self._epoch_ends()
            if self.now == self.horizon:
                break
            self._plan_is_due()
            self._ask()
            self._rounds_begin()
            self._share_links()
            self._let_time_pass(min(at for at in self._instants() if at > self.now))
        for gpu in self.gpus.values():
            self._pay_no_longer(gpu, "horizon")

    def _instants(self) -> Iterator[int]:
        """Every instant from now on at which something may happen by itself."""
        yield self.horizon
        yield (self.now // self.epoch + 1) * self.epoch
        for period in self.books.periods:
            yield from (period.start, period.end)
        for transfer in self.transfers:
            yield from (at for at in (transfer.sends_at, transfer.ends_at) if at is not None)
        for fault in self.faults:
            yield round(fault.at_s * 1e6)
        for gpu in self.gpus.values():
            yield from (at for at in (gpu.ready_at, gpu.repaired_at, gpu.recovers_at) if at is not None)
            begins_at = self._round_at(gpu)
            if gpu.round is not None:
                yield gpu.round.end
            elif begins_at is not None:
                yield begins_at
        if self.steps.computing is not None:
            yield self.steps.computing[0]
        elif self.steps.last is not None:
            yield self.steps.last + self.spacing
            if self.steps.wish < self.horizon:
                yield round(self.steps.wish)

    def _let_time_pass(self, until: int) -> None:
        """What everybody goes through from now until then."""
        travelling = {t.session_id for t in self.transfers if t.made.freeze is not None}
        for session_id, period in self.open.items():
            waits = self.seen.sessions[session_id].status == "waiting"
            travels = session_id in travelling
            period.unserved += waits * (until - self.now)
            period.travelling += travels * (until - self.now)
            period.away += (waits or travels) * (until - self.now)
        self.now = until

    def _tell(self, event: Event) -> None:
        """Something happened: the cluster changes, and stays end and begin."""
        before = self.seen.sessions
        self.cluster.apply(event, self.now / 1e6)
        self.seen = self.cluster.snapshot()
        for session_id in [*before, *(self.seen.sessions.keys() - before.keys())]:
            old, new = before.get(session_id), self.seen.sessions.get(session_id)
            if _stay(old) == _stay(new):
                continue
            if old is not None:
                since = self.stay_since.pop(session_id)
                self.books.stays.append((session_id, old.status, old.gpu, since, self.now))
            if new is not None:
                self.stay_since[session_id] = self.now
                if new.status == "waiting":
                    self.steps.worth_asking = True
        if isinstance(event, events.SessionIdled | events.SessionClosed | events.MoveEnded):
            self.steps.worth_asking = True
        if isinstance(event, events.GpuReady | events.GpuLost):
            self.steps.worth_asking = self.steps.called = True
        if isinstance(event, events.SessionActivated) and self.seen.sessions[event.session_id].status == "active":
            self.steps.called = True
        if self.observe is not None:
            self.observe(event, self.now, self.seen)

    def _begin(self) -> None:
        wanted = Counter(self.prepared.gpus_at_start)
        count: Counter[NodeId] = Counter()
        floor: list[_Gpu] = []
        more: list[_Gpu] = []
        for gpu in self.gpus.values():
            pool = _pool(gpu)
            count[pool] += 1
            (floor if count[pool] <= self.fleet.pools[int(pool)].gpus_min else more).append(gpu)
        wanted.subtract(gpu.gpu_type for gpu in floor)
        for gpu in more:
            if wanted[gpu.gpu_type] > 0:
                wanted[gpu.gpu_type] -= 1
                floor.append(gpu)
        for gpu in self.gpus.values():
            if gpu in floor:
                gpu.time_on = TimeOn(gpu.gpu_id, on=-self._startup(gpu))
                self.books.times_on.append(gpu.time_on)
                self._become_ready(gpu)

    # Phase 1

    def _rounds_end(self) -> None:
        for gpu in self.gpus.values():
            if gpu.round is not None and gpu.round.end <= self.now:
                self._round_ends(gpu, gpu.round)

    def _round_ends(self, gpu: _Gpu, ended: _Round) -> None:
        gpu.round = None
        for period in ended.takers:
            self._deliver(period, ended.end - ended.begin)
        for transfer in self.transfers:
            if transfer.made.freeze is None and any(p.session_id == transfer.session_id for p in ended.takers):
                self._freeze(transfer)

    def _deliver(self, period: Period, length: int) -> None:
        first = period.first_chunk is None
        latency = length + (period.travelling if first else period.away + period.left_out)
        period.travelling = period.away = period.left_out = 0
        late = not first and latency > round(self.fleet.target_ms(period.profile) * 1000)
        period.chunks += 1
        period.late_chunks += late
        self.books.chunks.append((len(self.books.epochs), latency, late))
        if first:
            period.first_chunk = self.now
            period.empty = self.now + self.chunk[period.profile]
        elif not period.over:
            stall = max(0, self.now - period.empty)
            period.stall += stall
            period.empty += stall + self.chunk[period.profile]

    # Phase 2

    def _transfers_end(self) -> None:
        for transfer in list(self.transfers):
            if transfer.ends_at is not None and transfer.ends_at <= self.now:
                self._arrive(transfer)
        self._next_waves()

    def _arrive(self, transfer: _Transfer) -> None:
        self._drop(transfer, "done")
        self._tell(events.MoveEnded(session_id=transfer.session_id))
        self.steps.under_way.discard(transfer.session_id)

    def _drop(self, transfer: _Transfer, result: str) -> None:
        self.transfers.remove(transfer)
        transfer.made.end, transfer.made.result = self.now, result

    def _next_waves(self) -> None:
        """They begin as long as nothing of the wave before is under way."""
        while self.steps.waves and not self.steps.under_way:
            for move in self.steps.waves.pop(0):
                self._begin_move(move)

    def _begin_move(self, move: Move) -> None:
        if not self._applies(move):
            return
        made = MoveMade(move=move, start=self.now)
        self.books.moves.append(made)
        self._tell(
            events.MoveStarted(session_id=move.session_id, kind=move.kind, source=move.source, target=move.target)
        )
        if move.kind == "place":
            made.freeze, made.end, made.result = self.now, self.now, "done"
            self._tell(events.MoveEnded(session_id=move.session_id))
            return
        self.steps.under_way.add(move.session_id)
        profile = self.seen.sessions[move.session_id].profile
        transfer = _Transfer(made, profile, tuple(self._links(move)), state_bytes(self.fleet, profile))
        self.transfers.append(transfer)
        takers = [p.session_id for gpu in self.gpus.values() if gpu.round is not None for p in gpu.round.takers]
        if move.session_id not in takers:
            self._freeze(transfer)
            if transfer.ends_at is not None and transfer.ends_at <= self.now:
                self._arrive(transfer)

    def _freeze(self, transfer: _Transfer) -> None:
        transfer.made.freeze = self.now
        transfer.sends_at = transfer.since = self.now + round(self.fleet.links.latency_ms * 1000)
        if transfer.left == 0:
            transfer.ends_at = transfer.sends_at

    def _applies(self, move: Move) -> bool:
        session = self.seen.sessions.get(move.session_id)
        if session is None or move.session_id in self.seen.moves or session.status not in FITS[move.kind]:
            return False
        if session.gpu != move.source or (move.source is None and session.node != move.source_node):
            return False
        mib = state_mib(self.fleet, session.profile)
        on_gpu, on_node = held_mib(self.seen, self.fleet)
        if move.target is not None:
            target = self.seen.gpus[move.target]
            room = room_mib(self.fleet, target.gpu_type)
            return target.status == "ready" and on_gpu.get(move.target, 0) + mib <= room
        assert move.source is not None
        node = self.gpus[move.source].node
        host = host_room_mib(self.fleet, node)
        return host is None or on_node.get(node, 0) + mib <= host

    def _links(self, move: Move) -> Iterator[Link]:
        ends = [gpu_id for gpu_id in (move.source, move.target) if gpu_id is not None]
        nodes = [self.gpus[gpu_id].node for gpu_id in ends]
        if move.kind == "resume":
            assert move.source_node is not None
            nodes.append(move.source_node)
        if move.kind in ("resume", "offload"):
            yield "device-host", ends[0]
        elif len(set(nodes)) == 1:
            yield from (("device-device", gpu_id) for gpu_id in ends)
        if len(set(nodes)) == 2:
            yield from (("network", node) for node in nodes)

    def _share_links(self) -> None:
        """Rates from now on, where they change."""
        sending = [t for t in self.transfers if t.sends_at is not None and t.sends_at <= self.now]
        users = Counter(link for transfer in sending for link in transfer.links)
        links = self.fleet.links
        bandwidth = {
            "device-host": round(links.device_host_gb_s * 1e9),
            "device-device": round(links.device_device_gb_s * 1e9),
            "network": round(links.node_node_gb_s * 1e9),
        }
        for transfer in sending:
            rate = min(max(1, bandwidth[link[0]] // users[link]) for link in transfer.links)
            if rate != transfer.rate:
                transfer.left -= transfer.rate * (self.now - transfer.since) // 1_000_000
                transfer.rate, transfer.since = rate, self.now
                transfer.ends_at = self.now + -(-transfer.left * 1_000_000 // rate)

    # Phases 3 and 4

    def _gpus_turn(self) -> None:
        for gpu in self.gpus.values():
            if gpu.ready_at is not None and gpu.ready_at <= self.now:
                self._become_ready(gpu)
            if gpu.repaired_at is not None and gpu.repaired_at <= self.now:
                self._be_off_again(gpu)
            if gpu.recovers_at is not None and gpu.recovers_at <= self.now:
                gpu.factor, gpu.recovers_at = 1.0, None

    def _become_ready(self, gpu: _Gpu) -> None:
        assert gpu.time_on is not None
        gpu.time_on.ready, gpu.ready_at = self.now, None
        self._tell(events.GpuReady(gpu_id=gpu.gpu_id))

    def _be_off_again(self, gpu: _Gpu) -> None:
        gpu.repaired_at = None
        self._tell(events.GpuStopped(gpu_id=gpu.gpu_id))

    def _faults_strike(self) -> None:
        while self.faults and round(self.faults[0].at_s * 1e6) <= self.now:
            fault = self.faults.pop(0)
            paid = [gpu for gpu in self.gpus.values() if gpu.time_on is not None]
            if not paid:
                continue
            gpu = paid[fault.draw % len(paid)]
            if isinstance(fault, Straggler):
                gpu.factor, gpu.recovers_at = fault.factor, self.now + round(fault.duration_s * 1e6)
            else:
                self._lose(gpu, fault)

    def _lose(self, gpu: _Gpu, fault: Failure) -> None:
        self._pay_no_longer(gpu, "lost")
        if gpu.round is not None:
            gpu.round = gpu.begun = None
        gpu.ready_at = None
        gpu.repaired_at = self.now + round(fault.repair_s * 1e6)
        failed = [t for t in self.transfers if gpu.gpu_id in (t.made.move.source, t.made.move.target)]
        for transfer in failed:
            self._drop(transfer, "failed")
        self._tell(events.GpuLost(gpu_id=gpu.gpu_id))
        for transfer in failed:
            self.steps.under_way.discard(transfer.session_id)
        self._next_waves()
        if gpu.repaired_at <= self.now:
            self._be_off_again(gpu)

    def _pay_no_longer(self, gpu: _Gpu, why: str) -> None:
        if gpu.time_on is not None:
            gpu.time_on.off, gpu.time_on.end = self.now, why
            gpu.time_on = None

    # Phases 5 and 6

    def _periods_turn(self) -> None:
        for period in sorted(self.books.periods, key=lambda p: p.order):
            if period.end == self.now:
                self._period_ends(period)
        for period in sorted(self.books.periods, key=lambda p: p.order):
            if period.start == self.now:
                self._period_begins(period)

    def _period_ends(self, period: Period) -> None:
        period.over = True
        if period.first_chunk is not None:
            period.stall += max(0, self.now - period.empty)
        del self.open[period.session_id]
        if self.last_of[period.order] is not period:
            self._tell(events.SessionIdled(session_id=period.session_id))
            return
        cancelled = [t for t in self.transfers if t.session_id == period.session_id]
        for transfer in cancelled:
            self._drop(transfer, "cancelled")
        self._tell(events.SessionClosed(session_id=period.session_id))
        self.steps.under_way.discard(period.session_id)
        self._next_waves()

    def _period_begins(self, period: Period) -> None:
        self.open[period.session_id] = period
        if period.session_id in self.seen.sessions:
            self._tell(events.SessionActivated(session_id=period.session_id))
            return
        row = self.sessions[period.order]
        opened = events.SessionOpened(
            session_id=period.session_id,
            profile=period.profile,
            tenant=row["tenant"] or "",
            priority=row["priority"],
        )
        self._tell(opened)

    def _epoch_ends(self) -> None:
        """The last epoch ends with the run."""
        whole = self.now % self.epoch == 0
        if self.now == 0 or not (whole or self.now == self.horizon):
            return
        start = (self.now - 1) // self.epoch * self.epoch
        status = Counter[str](session.status for session in self.seen.sessions.values())
        gpus = Counter(gpu.status for gpu in self.seen.gpus.values())
        paid = sum(gpu.time_on is not None for gpu in self.gpus.values())
        self.books.epochs.append((start, status, paid, gpus["ready"]))
        if whole:
            self._tell(events.EpochEnded())
            self.steps.epoch_due = True

    # Phases 7 and 8

    def _plan_is_due(self) -> None:
        if self.steps.computing is not None and self.steps.computing[0] <= self.now:
            _, decision = self.steps.computing
            self.steps.computing = None
            self._take_effect(decision)

    def _ask(self) -> None:
        steps = self.steps
        if steps.computing is not None:
            return
        if not steps.epoch_due:
            assert steps.last is not None
            waits = any(s.status == "waiting" and s.session_id not in self.seen.moves for s in self._present())
            wanted = steps.called or (waits and steps.worth_asking) or steps.wish <= self.now
            if not wanted or self.now < steps.last + self.spacing:
                return
        early = not steps.epoch_due
        budget = Budget(work=self.prepared.work_early if early else self.prepared.work, early=early)
        decision = self.prepared.policy.step(self.seen, self.now / 1e6, budget)
        self.books.decisions.append((self.now, early, decision))
        steps.last, steps.epoch_due, steps.called = self.now, False, False
        steps.wish = decision.next_step_s if decision.next_step_s == float("inf") else round(decision.next_step_s * 1e6)
        steps.worth_asking = steps.worth_asking and not early
        if self.planning:
            steps.computing = (self.now + self.planning, decision)
        else:
            self._take_effect(decision)

    def _take_effect(self, decision: Decision) -> None:
        self.steps.waves.clear()
        self.steps.under_way.clear()
        for gpu in self.gpus.values():
            self._turn(gpu, decision.plan.gpus.get(gpu.gpu_id, "off"))
        for event in decision.events:
            self._tell(event)
        waves: dict[int, list[Move]] = defaultdict(list)
        for move in decision.plan.moves:
            waves[move.wave].append(move)
        self.steps.waves = [waves[wave] for wave in sorted(waves)]
        self._next_waves()

    def _turn(self, gpu: _Gpu, aim: GpuAim) -> None:
        status = self.seen.gpus[gpu.gpu_id].status
        others = [g for g in self.gpus.values() if _pool(g) == _pool(gpu) and g is not gpu]
        ready = sum(self.seen.gpus[other.gpu_id].status == "ready" for other in others)
        spare = ready >= self.fleet.pools[int(_pool(gpu))].gpus_min
        if aim == "start" and status == "off":
            gpu.time_on = TimeOn(gpu.gpu_id, on=self.now)
            self.books.times_on.append(gpu.time_on)
            gpu.ready_at = self.now + self._startup(gpu)
            self._tell(events.GpuStarting(gpu_id=gpu.gpu_id, ready_s=gpu.ready_at / 1e6))
            if gpu.ready_at <= self.now:
                self._become_ready(gpu)
        elif aim == "keep" and status == "draining":
            self._tell(events.GpuReady(gpu_id=gpu.gpu_id))
        elif aim in ("drain", "stop") and status in ON and spare:
            if aim == "stop" and not self._holds_something(gpu.gpu_id):
                self._pay_no_longer(gpu, "stopped")
                gpu.ready_at = None
                self._tell(events.GpuStopped(gpu_id=gpu.gpu_id))
            elif status == "ready":
                self._tell(events.GpuDraining(gpu_id=gpu.gpu_id))

    def _holds_something(self, gpu_id: GpuId) -> bool:
        held = any(session.gpu == gpu_id for session in self._present())
        return held or any(gpu_id in (move.source, move.target) for move in self.seen.moves.values())

    # Phase 9

    def _rounds_begin(self) -> None:
        for gpu in self.gpus.values():
            at = self._round_at(gpu)
            if gpu.round is None and at is not None and at <= self.now:
                self._begin_round(gpu)

    def _round_at(self, gpu: _Gpu) -> int | None:
        """When the next round may begin if nothing changes; None: never."""
        members = self._members(gpu)
        if not members or self.seen.gpus[gpu.gpu_id].status not in RUNS:
            return None
        pace = min(self.chunk[period.profile] for period in members)
        paced = 0 if gpu.begun is None else gpu.begun + pace
        wants_at = min((at for at, _ in self._wanting(gpu, members)), default=None)
        return None if wants_at is None else max(paced, wants_at)

    def _begin_round(self, gpu: _Gpu) -> None:
        wanting = [period for at, period in self._wanting(gpu, self._members(gpu)) if at <= self.now]
        takers: list[Period] = []
        if self._may_run(gpu, wanting):
            takers = wanting
        else:
            for period in sorted(wanting, key=_need):
                if self._may_run(gpu, [*takers, period]):
                    takers.append(period)
        length = self.length(gpu.gpu_type, self._counts(takers), gpu.factor)
        assert length is not None
        for period in wanting:
            if period not in takers:
                period.left_out += length
        gpu.begun = self.now
        gpu.round = _Round(self.now, self.now + length, takers)
        if length == 0:
            self._round_ends(gpu, gpu.round)

    def _members(self, gpu: _Gpu) -> list[Period]:
        frozen = {t.session_id for t in self.transfers if t.made.freeze is not None}
        here = [s for s in self._present() if s.status == "active" and s.gpu == gpu.gpu_id]
        return [self.open[s.session_id] for s in here if s.session_id not in frozen]

    def _wanting(self, gpu: _Gpu, members: Sequence[Period]) -> Iterator[tuple[int, Period]]:
        """Members that could run here at all, and from when on they want a chunk."""
        for period in members:
            if self._may_run(gpu, [period]):
                yield self._wants_at(period), period

    def _wants_at(self, period: Period) -> int:
        """From when on a member wants a chunk: one has had none, or E - t < ahead_chunks * chunk_s."""
        if period.first_chunk is None:
            return 0
        return period.empty - self.settings.ahead_chunks * self.chunk[period.profile] + 1

    def _counts(self, takers: Sequence[Period]) -> tuple[int, ...]:
        count = Counter(period.profile for period in takers)
        return tuple(count[name] for name in self.fleet.profiles)

    def _may_run(self, gpu: _Gpu, takers: Sequence[Period]) -> bool:
        return self.length(gpu.gpu_type, self._counts(takers), 1.0) is not None

    def _length(self, gpu_type: str, counts: tuple[int, ...], factor: float) -> int | None:
        """Of a round, in microseconds; None: it may not run."""
        latency_ms = float(chunk_latency_ms(self.fleet, gpu_type, np.array([counts]))[0])
        if math.isinf(latency_ms):
            return None
        return math.ceil(round(latency_ms * 1000) * factor)

    # What is where

    def _present(self) -> list[Session]:
        return list(self.seen.sessions.values())

    def _startup(self, gpu: _Gpu) -> int:
        return round(self.fleet.gpu_types[gpu.gpu_type].startup_s * 1e6)


def _pool(gpu: _Gpu) -> NodeId:
    return NodeId(gpu.node.partition("/")[0])


def _stay(session: Session | None) -> tuple[str, GpuId | None] | None:
    return None if session is None else (session.status, session.gpu)


def _need(period: Period) -> tuple[bool, int, int]:
    """Who needs a chunk most comes first."""
    first = period.first_chunk is None
    return (not first, period.start if first else period.empty, period.order)
