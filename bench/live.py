"""A live controller under hundreds of emulated workers and thousands of sessions, beside the simulator.

Decides the fleet, the demand and the gates; must never know how a worker or a client is emulated. Workers and clients
share a process with nobody else's work; controller and planner have processes of their own. Everything is said over
ZeroMQ, and the journal is on the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from bench.live_clients import Clients
from bench.live_controller import MARK, STOP, ControllerSpent, serve
from bench.live_swarm import Swarm
from bench.live_users import Users
from bench.render import show
from bench.result import BenchResult, Cell, Gate, Size
from bench.workloads import FLEETS
from runtime.controller.sessions import Admission
from runtime.controller.step import Switch
from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from scheduler.policies.registry import prepare
from scheduler.simulation.simulate import simulate
from traces.assemble import trace_from_periods
from traces.trace import Trace

RAMP_S = 60.0  # in which sessions come, one after another
FIRST_S_MAX = 4.0  # of a session's first period
ACTIVE_MEDIAN_S, ACTIVE_SIGMA = 20.0, 1.05  # laws of the synthetic traces, with somewhat shorter periods
IDLE_MEDIAN_S, IDLE_SIGMA = 65.0, 1.13
AGREEMENT = 0.05  # of live and simulated figures
AGREEMENT_SMALL = 0.15  # where there are few chunks
STARTUP_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One fleet and its demand."""

    workers: int
    sessions: int
    seconds: float
    at_start: int  # workers that are on before anybody comes
    agreement: float = AGREEMENT


SCALES: dict[Size, tuple[Scale, ...]] = {
    "small": (Scale(workers=12, sessions=100, seconds=20.0, at_start=9, agreement=AGREEMENT_SMALL),),
    "standard": (
        Scale(workers=256, sessions=2500, seconds=180.0, at_start=200),
        Scale(workers=1000, sessions=10_000, seconds=60.0, at_start=600, agreement=AGREEMENT_SMALL),  # best effort
    ),
}


def run(size: Size) -> BenchResult:
    return run_scales(SCALES[size])


def run_scales(scales: tuple[Scale, ...]) -> BenchResult:
    rows, gates = [], list[Gate]()
    for scale in scales:
        row, found = measured(scale)
        rows.append(row)
        gates += found
    return BenchResult(
        name="live",
        settings={"epoch s": 1.0, "start-up s": STARTUP_S, "heartbeat s": 0.5, "seed": 0},
        rows=tuple(rows),
        gates=tuple(gates),
    )


def measured(scale: Scale) -> tuple[dict[str, Cell], list[Gate]]:
    """One live run, and the simulation of the same trace on the same fleet."""
    fleet, trace = fleet_for(scale), trace_for(scale)
    users = Users(trace, fleet)
    with tempfile.TemporaryDirectory() as folder:
        live = _live(fleet, users, scale, Path(folder))
    simulated = _simulated(fleet, trace)
    return _row(scale, users, live, simulated), _gates(scale, users, live, simulated)


def fleet_for(scale: Scale) -> Fleet:
    """One type and one profile, each GPU a node of its own, in epochs of a second."""
    changes = {
        "epoch_s": 1.0,
        "gpu_types.h100.startup_s": STARTUP_S,
        "pools[0].nodes": scale.workers,
        "pools[0].gpus_per_node": 1,
        "pools[0].gpus_min": scale.at_start,
        "pools[0].host_memory_gib": 128,
    }
    return with_overrides(load_fleet(FLEETS / "one-type.yaml"), changes)[0]


def trace_for(scale: Scale, seed: int = 0) -> Trace:
    """Sessions that come within the ramp, look for a moment, and stay to the end, idle and active in turns."""
    rng = np.random.default_rng(seed)
    rows = defaultdict[str, list[object]](list)
    for number in range(scale.sessions):
        at_s, active_s = float(rng.uniform(0, min(RAMP_S, scale.seconds / 2))), float(rng.uniform(1, FIRST_S_MAX))
        while at_s < scale.seconds - 1.0:
            end_s = min(at_s + active_s, scale.seconds)
            rows["session_id"].append(f"s{number}")
            rows["start_s"].append(round(at_s, 3))
            rows["end_s"].append(round(end_s, 3) + 0.001)
            at_s = end_s + 0.01 + float(np.exp(np.log(IDLE_MEDIAN_S) + IDLE_SIGMA * rng.standard_normal()))
            active_s = float(np.exp(np.log(ACTIVE_MEDIAN_S) + ACTIVE_SIGMA * rng.standard_normal()))
    return trace_from_periods(pl.DataFrame(rows), name=f"live-{scale.sessions}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a live run leaves behind."""

    swarm: Swarm
    clients: Clients
    spent: ControllerSpent
    dollars: float
    waits_late_s: float  # p99 of how late the emulation itself was


def _live(fleet: Fleet, users: Users, scale: Scale, folder: Path) -> Live:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    admission = Admission(sessions_max=2 * scale.sessions, waiting_max=scale.sessions)
    controller = context.Process(target=serve, args=(theirs, fleet, folder, admission), name="controller")
    controller.start()
    theirs.close()
    swarm = None
    try:
        early = list[Switch]()
        while isinstance(told := ours.recv(), Switch):  # before it says where it is
            early.append(told)
        workers, gateways = told
        swarm = Swarm(fleet, workers, users, time.monotonic)
        clients = Clients(swarm, users, gateways)
        for switch in early:
            swarm.switch(switch.worker, on=switch.on)

        def turn_until(end_s: float) -> None:
            while swarm.clock() < end_s:
                swarm.turn(min(end_s, swarm.clock() + 0.05))
                while ours.poll():
                    switch = ours.recv()
                    swarm.switch(switch.worker, on=switch.on)

        give_up_s = swarm.clock() + 120.0
        while swarm.ready < scale.at_start or not clients.is_ready:
            if swarm.clock() > give_up_s:
                raise TimeoutError(f"after 120 s there are {swarm.ready} of {scale.at_start} workers")
            turn_until(swarm.clock() + 0.2)
        ours.send(MARK)
        zero_s = swarm.clock() + 0.5
        clients.begin(zero_s)
        end_s = zero_s + scale.seconds
        for done in range(1, 11):
            turn_until(zero_s + scale.seconds * done / 10)
            print(f"live {scale.workers}: {done * 10} %", file=sys.stderr, flush=True)
        ours.send(STOP)
        while not isinstance(spent := ours.recv(), ControllerSpent):
            pass
        late = np.quantile(swarm.late_s, 0.99) if swarm.late_s else 0.0
        return Live(
            swarm=swarm, clients=clients, spent=spent, dollars=swarm.dollars(zero_s, end_s), waits_late_s=float(late)
        )
    finally:
        controller.join(10.0)
        controller.kill()
        controller.join()
        if swarm is not None:
            swarm.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The same in virtual time."""

    dollars: float
    latency_ms_mean: float
    latency_ms_p99: float
    late_ratio: float
    chunks: int


def _simulated(fleet: Fleet, trace: Trace) -> Simulated:
    """With the same GPUs at the start, and what they cost from then on."""
    prepared = replace(prepare("epochal", fleet, trace), gpus_at_start={})
    outcome = simulate(trace, fleet, prepared)
    on = outcome.tables.gpus.with_columns(hours=(pl.col("off_s") - pl.col("on_s").clip(0.0)) / 3600)
    latencies = outcome.tables.latencies
    price = {name: gpu.price_per_hour for name, gpu in fleet.gpu_types.items()}
    return Simulated(
        dollars=sum(price[name] * hours for name, hours in on.select("gpu_type", "hours").iter_rows()),
        latency_ms_mean=float(np.average(latencies["latency_ms"], weights=latencies["chunks"])),
        latency_ms_p99=outcome.summary.chunk_latency_ms.p99,
        late_ratio=outcome.summary.late_chunk_ratio,
        chunks=outcome.summary.chunks,
    )


def _row(scale: Scale, users: Users, live: Live, simulated: Simulated) -> dict[str, Cell]:
    spent, seen, felt = live.spent, live.swarm.measured, users.felt
    pushes_ms, trips_ms = 1000 * pushes_s(spent.said, seen.heard), 1000 * np.array(seen.round_trips_s)
    latencies_ms = 1000 * np.array(felt.latencies_s)
    return {
        "workers": scale.workers,
        "sessions": scale.sessions,
        "seconds": round(spent.seconds),
        "push ms p50": _rounded(pushes_ms, 0.5),
        "push ms p99": _rounded(pushes_ms, 0.99),
        "round trip ms p50": _rounded(trips_ms, 0.5),
        "round trip ms p99": _rounded(trips_ms, 0.99),
        "create ms p99": _rounded(1000 * np.array(live.clients.created_s), 0.99),
        "step ms p99": _rounded(1000 * np.array(spent.steps_s), 0.99),
        "controller CPU %": round(100 * spent.cpu_s / spent.seconds, 1),
        "controller MiB": round(spent.peak_mib),
        "records/s": round(spent.records / spent.seconds, 1),
        "transactions/s": round(spent.transactions / spent.seconds, 1),
        "messages/s": round(seen.messages / spent.seconds),
        "emulation late ms p99": round(1000 * live.waits_late_s, 1),
        "chunks": len(felt.latencies_s),
        "chunk ms mean": round(float(latencies_ms.mean()), 1),
        "simulated mean": round(simulated.latency_ms_mean, 1),
        "chunk ms p99": _rounded(latencies_ms, 0.99),
        "simulated p99": round(simulated.latency_ms_p99, 1),
        "late %": round(100 * felt.late / felt.judged, 3),
        "simulated late %": round(100 * simulated.late_ratio, 3),
        "dollars": round(live.dollars, 2),
        "simulated dollars": round(simulated.dollars, 2),
    }


def _rounded(values: np.ndarray, quantile: float) -> float | None:
    return round(float(np.quantile(values, quantile)), 1) if len(values) else None


def pushes_s(said: list[tuple[str, str, float]], heard: list[tuple[str, str, float]]) -> np.ndarray:
    """From a decision to its order's being carried out; an order that was said again counts from the first time."""
    decided = defaultdict[tuple[str, str], list[float]](list)
    for kind, session_id, at_s in said:
        decided[kind, session_id].append(at_s)
    found = list[float]()
    for kind, session_id, at_s in heard:
        earlier = [since_s for since_s in decided.get((kind, session_id), ()) if since_s <= at_s]
        if earlier:
            found.append(at_s - earlier[0])
            decided[kind, session_id] = [since_s for since_s in decided[kind, session_id] if since_s > at_s]
    return np.array(found)


def _gates(scale: Scale, users: Users, live: Live, simulated: Simulated) -> list[Gate]:
    where = f"{scale.workers} workers"
    latency = 1000 * float(np.mean(users.felt.latencies_s)) / simulated.latency_ms_mean - 1
    cost = live.dollars / simulated.dollars - 1
    seen = live.swarm.measured
    return [
        Gate(
            claim=f"{where}: no worker is without an echo for a lease",
            ok=seen.leases_over == 0,
            measured=f"{seen.leases_over} heartbeats, {len(seen.round_trips_s)} echoes",
        ),
        Gate(
            claim=f"{where}: nothing that holds a state is stopped",
            ok=seen.stopped_with_states == 0,
            measured=f"{seen.stopped_with_states}",
        ),
        Gate(
            claim=f"{where}: chunk latency live within {scale.agreement:.0%} of simulated (mean)",
            ok=abs(latency) <= scale.agreement,
            measured=f"{latency:+.1%}",
        ),
        Gate(
            claim=f"{where}: cost within {scale.agreement:.0%} of simulated",
            ok=abs(cost) <= scale.agreement,
            measured=f"{cost:+.1%}",
        ),
    ]


def main() -> int:
    """One scale, chosen by hand."""
    parser = argparse.ArgumentParser(description="A live controller under emulated workers.")
    for name, value in (("workers", 16), ("sessions", 150), ("at-start", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=25.0)
    given = parser.parse_args()
    scale = Scale(workers=given.workers, sessions=given.sessions, seconds=given.seconds, at_start=given.at_start)
    show([run_scales((scale,))], "json", Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
