"""A run in words: its big figures, its verdict, and the terms that its page uses.

Decides what is said of a run and how its figures are written; must never know markup or a picture.
"""

from __future__ import annotations

from scheduler.fleet import Fleet
from scheduler.offline_plan import OfflinePlan
from scheduler.report.words import Figure, counted, dollars, duration, milliseconds, number, per_cent
from scheduler.simulation.outcome import Summary

TERMS = (
    ("chunk latency", "Of one chunk: its batch round, and any transfer, time on no GPU or missed round before it."),
    ("late", "A chunk, not the first of its active period, whose latency is above its session's target; a first chunk "
     "later than the target for first chunks."),
    ("stall", "Time in which a session plays and its buffer is empty."),
    ("unserved", "Session-seconds in which a session wants chunks and is on no GPU, start of a period included."),
    ("idle", "A session is open and wants no chunk; its state stays on the GPU."),
    ("suspended", "Idle, with its state in host memory."),
    ("migration", "A session's state travels from one GPU to another."),
    ("resume", "A state travels from host memory to a GPU."),
    ("offline optimum", "The cheapest schedule that knows the whole trace in advance, and a bound that no schedule "
     "which serves everybody on time can beat."),
    ("gap", "(value - bound) / value of what a step decided on first: the largest share that could still be gained."),
)  # fmt: skip


def run_figures(run: Summary, fleet: Fleet, optimum: OfflinePlan | None) -> tuple[Figure, ...]:
    """Eight figures, money first."""
    chunk, first = run.chunk_latency_ms, run.first_chunk_ms
    above = bound_of(optimum)
    note = "GPUs from on to off"
    if above:
        note = f"{above_bound(run.gpu_dollars, above)} the bound of {dollars(above)}"
    targets = sorted({fleet.target_ms(profile) for profile in fleet.profiles})
    target = " / ".join(milliseconds(one) for one in targets)
    return (
        Figure(label="Cost", value=dollars(run.gpu_dollars), note=note),
        Figure(label="GPU-hours", value=number(run.gpu_hours), unit="h", note=f"at most {run.gpus_max:,} GPUs at once"),
        Figure(
            label="p99 chunk latency",
            value=milliseconds(chunk.p99),
            unit="ms",
            note=f"p50 {milliseconds(chunk.p50)}, worst {milliseconds(chunk.max)}, target {target} ms",
            alarming=chunk.p99 > targets[-1],
        ),
        Figure(
            label="Late chunks",
            value=per_cent(run.late_chunk_ratio),
            note=f"of {run.chunks:,} chunks",
            alarming=run.late_chunk_ratio > 0,
        ),
        Figure(
            label="p99 first chunk",
            value=milliseconds(first.p99),
            unit="ms",
            note=f"{per_cent(run.late_first_chunk_ratio)} late, target {milliseconds(fleet.target.first_chunk_ms)} ms",
            alarming=run.late_first_chunk_ratio > 0,
        ),
        Figure(
            label="Stalls",
            value=number(run.stall_seconds),
            unit="s",
            note=f"{per_cent(run.continuous_play_ratio)} of periods play without one",
        ),
        Figure(label="Unserved", value=number(run.unserved_session_seconds), unit="session-s", note="on no GPU"),
        Figure(
            label="Migrations",
            value=f"{run.migrations:,}",
            note=f"{number(run.migrated_gib)} GiB; {counted(run.resumes, 'resume')}",
        ),
    )


def in_time(run: Summary) -> bool:
    return run.late_chunk_ratio == run.late_first_chunk_ratio == 0


def run_verdict(run: Summary) -> str:
    """A badge's worth of it."""
    if in_time(run):
        return "Everybody in time"
    return f"{per_cent(run.late_chunk_ratio)} of chunks late, {per_cent(run.late_first_chunk_ratio)} of first chunks"


def demand_words(run: Summary) -> str:
    return f"{counted(run.sessions, 'session')}, {run.chunks:,} chunks, {duration(run.horizon_s)}"


def bound_of(optimum: OfflinePlan | None) -> float | None:
    """Dollars that no schedule with everybody served on time can beat; None where nothing is known or it is 0."""
    return None if optimum is None else optimum.certificate.bound_dollars or None


def above_bound(amount: float, bound: float) -> str:
    """ "4.2 % above", "1 % below"."""
    share = amount / bound - 1
    return f"{per_cent(abs(share))} {'above' if share >= 0 else 'below'}"
