"""A live run beside what the simulator makes of the same demand.

Decides which figures stand side by side, and what is said about those that differ; must never know a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runtime.recording.drift import Predicted
from runtime.recording.live_run import LiveRun
from scheduler.fleet import Fleet
from scheduler.planner import Planner
from scheduler.policies.epochal import PLANNING_S
from scheduler.policies.registry import prepare
from scheduler.policy import Prepared
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.simulate import simulate
from traces.trace import Trace

REPLAY_FORMAT = "epochal.replay/1"
AS_RECORDED = "as-recorded"  # the planner with the settings of the log
MOVES = ("place", "resume", "offload", "migrate")
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is known of a live run and of a simulated one."""

    sessions: int
    horizon_s: float  # until the end of the last active period
    chunks: int
    late_chunk_ratio: float
    chunk_latency_ms_mean: float  # 0: no chunk
    chunk_latency_ms_max: float
    gpu_hours: float
    gpu_dollars: float
    moves: Mapping[str, int]  # that were done, by kind
    move_s_mean: Mapping[str, float]  # by kind; 0: there was none
    moves_failed: int
    discontinuities: int  # states that were lost: in simulation nobody fails
    plans: int
    fallbacks: int

    def words(self) -> dict[str, str]:
        """By name."""
        return {
            "Sessions": f"{self.sessions:,}",
            "Chunks": f"{self.chunks:,}",
            "Late chunks": f"{self.late_chunk_ratio:.3%}",
            "Chunk latency, mean": f"{self.chunk_latency_ms_mean:,.1f} ms",
            "Chunk latency, max": f"{self.chunk_latency_ms_max:,.1f} ms",
            "GPU-seconds": f"{self.gpu_hours * _HOUR_S:,.1f}",
            "Cost": f"${self.gpu_dollars:,.4f}",
            **{f"Moves: {kind}": f"{self.moves[kind]:,}, {self.move_s_mean[kind]:.3f} s each" for kind in MOVES},
            "Moves that failed": f"{self.moves_failed:,}",
            "Discontinuities": f"{self.discontinuities:,}",
            "Plans": f"{self.plans:,}, {self.fallbacks:,} fallbacks",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """Rounds of one content: what they took, and what the fleet file says."""

    gpu_type: str
    content: Mapping[str, int]
    rounds: float
    measured_ms: float
    predicted_ms: float | None  # None: the fleet has no figure for it

    def words(self) -> tuple[str, ...]:
        predicted = ("-", "-")
        if self.predicted_ms is not None:
            predicted = (f"{self.predicted_ms:,.1f}", f"{self.measured_ms / self.predicted_ms:.3f}")
        return (f"{self.rounds:,.2f}", f"{self.measured_ms:,.1f}", *predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRow:
    """Chunks of one profile, by sessions in the pass in which they ended."""

    profile: str
    batch: int
    chunks: int
    late: int
    mean_ms: float
    max_ms: float

    def words(self) -> tuple[str, ...]:
        return (f"{self.chunks:,}", f"{self.late:,}", f"{self.mean_ms:,.1f}", f"{self.max_ms:,.1f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRow:
    """Measured over predicted time of all rounds in which a profile took part."""

    profile: str
    gpu_type: str
    ratio: float

    def exceeds(self, share: float) -> bool:
        return not 1 - share <= self.ratio <= 1 + share


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Both, side by side."""

    policy: str
    live: Figures
    predicted: Figures
    rounds: tuple[RoundRow, ...]
    chunks: tuple[ChunkRow, ...]
    drift: tuple[DriftRow, ...]
    outcome: Outcome

    def warnings(self, share: float) -> tuple[str, ...]:
        """Where measured times are not those of the fleet file, by more than this share."""
        return tuple(
            f"{row.profile} on {row.gpu_type}: rounds took {row.ratio:.2f} times what the fleet file says, which is "
            f"more than {share:.0%} off; measure anew with epochal profile"
            for row in self.drift
            if row.exceeds(share)
        )

    def tables(self) -> Iterator[tuple[tuple[str, ...], dict[str, tuple[str, ...]]]]:
        """For people: names of columns, and rows by name."""
        live, predicted = self.live.words(), self.predicted.words()
        yield ("measured", f"predicted ({self.policy})"), {name: (live[name], predicted[name]) for name in live}
        yield (
            ("rounds", "measured ms", "predicted ms", "ratio"),
            {f"{_named(row.content)} on {row.gpu_type}": row.words() for row in self.rounds},
        )
        yield (
            ("chunks", "late", "mean ms", "max ms"),
            {f"{row.profile}, batch of {row.batch}": row.words() for row in self.chunks},
        )
        yield (
            ("measured / predicted",),
            {f"{row.profile} on {row.gpu_type}": (f"{row.ratio:.3f}",) for row in self.drift},
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": REPLAY_FORMAT,
            "policy": self.policy,
            "live": asdict(self.live),
            "predicted": asdict(self.predicted),
            "rounds": [asdict(row) for row in self.rounds],
            "chunks": [asdict(row) for row in self.chunks],
            "drift": [asdict(row) for row in self.drift],
            "summary": self.outcome.summary.to_json(),
        }


def replay(
    run: LiveRun,
    trace: Trace,
    policy: str | None,
    settings: Mapping[str, str],
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Replay:
    """Simulate the run's demand on its fleet; None: by the planner that was recorded, with its settings.

    Equal runs, policies and seeds give equal results. Raises `BadInputError` where trace, fleet and policy do not fit
    each other.
    """
    fleet = run.fleet
    if policy is None:
        prepared = Prepared(name=AS_RECORDED, policy=Planner(fleet, run.planner), planning_s=PLANNING_S)
    else:
        prepared = prepare(policy, fleet, trace, seed=seed, parameters=settings)
    outcome = simulate(trace, fleet, prepared, SimulationSettings(seed=seed), on_progress=progress, stop=stop)
    rounds = _rounds(run)
    return Replay(
        policy=prepared.name,
        live=_live(run, trace),
        predicted=_predicted(outcome, trace),
        rounds=rounds,
        chunks=_chunks(run),
        drift=_drift(rounds),
        outcome=outcome,
    )


def _live(run: LiveRun, trace: Trace) -> Figures:
    horizon_s = trace.horizon_us / 1e6
    paid_s: defaultdict[str, float] = defaultdict(float)
    for time_on in run.times_on:
        paid_s[time_on.gpu_type] += max(0.0, min(time_on.off_s, horizon_s) - time_on.on_s)
    chunks = list(run.chunks.values())
    count = sum(each.chunks for each in chunks)
    return Figures(
        sessions=trace.session_count,
        horizon_s=horizon_s,
        chunks=count,
        late_chunk_ratio=sum(each.late for each in chunks) / count if count else 0.0,
        chunk_latency_ms_mean=1000 * sum(each.seconds for each in chunks) / count if count else 0.0,
        chunk_latency_ms_max=1000 * max((each.seconds_max for each in chunks), default=0.0),
        gpu_hours=sum(paid_s.values()) / _HOUR_S,
        gpu_dollars=_dollars(run.fleet, paid_s),
        moves={kind: run.moves[kind] for kind in MOVES},
        move_s_mean={kind: run.move_seconds[kind] / max(1, run.moves[kind]) for kind in MOVES},
        moves_failed=run.moves_failed.total(),
        discontinuities=run.restarts,
        plans=run.plans,
        fallbacks=run.fallbacks,
    )


def _predicted(outcome: Outcome, trace: Trace) -> Figures:
    summary, latencies, moves = outcome.summary, outcome.tables.latencies, outcome.tables.moves
    done = moves.filter(moves["result"] == "done")
    took_s: defaultdict[str, list[float]] = defaultdict(list)
    for kind, start_s, end_s in done.select("kind", "start_s", "end_s").iter_rows():
        took_s[kind].append(end_s - start_s)
    count = int(latencies["chunks"].sum())
    total_ms = float((latencies["latency_ms"] * latencies["chunks"]).sum())
    return Figures(
        sessions=trace.session_count,
        horizon_s=summary.horizon_s,
        chunks=summary.chunks,
        late_chunk_ratio=summary.late_chunk_ratio,
        chunk_latency_ms_mean=total_ms / count if count else 0.0,
        chunk_latency_ms_max=summary.chunk_latency_ms.max,
        gpu_hours=summary.gpu_hours,
        gpu_dollars=summary.gpu_dollars,
        moves={kind: len(took_s[kind]) for kind in MOVES},
        move_s_mean={kind: sum(took_s[kind]) / max(1, len(took_s[kind])) for kind in MOVES},
        moves_failed=moves.height - done.height,
        discontinuities=0,
        plans=outcome.tables.decisions.height,
        fallbacks=summary.fallbacks,
    )


def _dollars(fleet: Fleet, paid_s: Mapping[str, float]) -> float:
    return sum(seconds / _HOUR_S * fleet.gpu_types[name].price_per_hour for name, seconds in sorted(paid_s.items()))


def _rounds(run: LiveRun) -> tuple[RoundRow, ...]:
    predicted = Predicted(run.fleet)
    return tuple(
        RoundRow(
            gpu_type=gpu_type,
            content=dict(content),
            rounds=figures.rounds,
            measured_ms=1000 * figures.seconds / figures.rounds,
            predicted_ms=_ms(predicted.round_s(gpu_type, content)),
        )
        for (gpu_type, content), figures in sorted(run.rounds.items())
        if figures.rounds > 0
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _chunks(run: LiveRun) -> tuple[ChunkRow, ...]:
    return tuple(
        ChunkRow(
            profile=profile,
            batch=batch,
            chunks=figures.chunks,
            late=figures.late,
            mean_ms=1000 * figures.seconds / figures.chunks,
            max_ms=1000 * figures.seconds_max,
        )
        for (profile, batch), figures in sorted(run.chunks.items())
        if figures.chunks
    )


def _drift(rounds: tuple[RoundRow, ...]) -> tuple[DriftRow, ...]:
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rounds:
        if row.predicted_ms is not None:
            for profile in row.content:
                of = sums[profile, row.gpu_type]
                of[0], of[1] = of[0] + row.rounds * row.measured_ms, of[1] + row.rounds * row.predicted_ms
    return tuple(
        DriftRow(profile=profile, gpu_type=gpu_type, ratio=measured / predicted)
        for (profile, gpu_type), (measured, predicted) in sorted(sums.items())
    )


def _named(content: Mapping[str, int]) -> str:
    """`1 cosmos, 2 wan`."""
    return ", ".join(f"{count} {profile}" for profile, count in content.items())
