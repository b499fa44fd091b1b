"""The source's side of one attempt to migrate a session.

Decides what is copied while the session runs, when it freezes, and what a failure means; must never know a clock, a
transport, or whether the target serves. Only the controller's word ends a freeze.

precopy -> freezing (a chunk is still computed) -> frozen (the rest is on its way) -> sent; a lane that fails leads to
failed when the session is frozen and to over when it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from runtime.state.ranges import Ranges, bytes_in, merged, whole
from runtime.transfer.attempt import RoundSent, SendRound, StopLane, Tell
from runtime.transfer.messages import REASON_MAX, AttemptFailed, AttemptId, Sent
from scheduler.cluster import SessionId

Phase = Literal["precopy", "freezing", "frozen", "sent", "failed", "over"]
FROZEN: tuple[Phase, ...] = ("frozen", "sent", "failed")

Steps = tuple[SendRound | StopLane | Tell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecopyRule:
    """When to stop copying behind a session that runs."""

    rounds_max: int = 6
    shrink: float = 0.75  # another round must be at most this share of the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One attempt. `changed` is what chunks have written since the ranges of the last round were chosen."""

    session_id: SessionId
    attempt: AttemptId
    block_bytes: int
    rule: PrecopyRule
    end_s: float
    computing: bool  # a chunk of the session is under way
    phase: Phase = "precopy"
    number: int = 0  # of the last round that was begun
    on_its_way: bool = False  # that round has not been sent yet
    round_bytes: int = 0
    moved_bytes: int = 0
    changed: Ranges = ()
    reason: str = ""
    sent: Sent | None = None

    @property
    def frozen(self) -> bool:
        return self.phase in FROZEN

    def begin(self, *, precopy: bool) -> tuple[Outgoing, Steps]:
        """The whole block goes first; without pre-copy it goes when the session stands still."""
        begun = replace(self, changed=whole(self.block_bytes))
        return begun._round() if precopy else begun._freeze()

    def round_begun(self) -> Outgoing:
        """A chunk of the session begins to be computed."""
        assert self.phase in ("precopy", "over"), f"{self.session_id} computes while {self.phase}"
        return replace(self, computing=True)

    def chunk_ended(self, dirty: Ranges) -> tuple[Outgoing, Steps]:
        """What the chunk wrote has to go (again), also if it was sent while the chunk was written."""
        ended = replace(self, computing=False, changed=merged(self.changed, dirty))
        return ended._freeze() if self.phase == "freezing" else (ended, ())

    def round_sent(self, event: RoundSent) -> tuple[Outgoing, Steps]:
        if not self.on_its_way or event.number != self.number:
            return self, ()
        arrived = replace(self, on_its_way=False, moved_bytes=self.moved_bytes + self.round_bytes)
        match self.phase:
            case "precopy" if arrived._another_round_pays():
                return arrived._round()
            case "precopy" | "freezing":
                return arrived._freeze()
            case "frozen":
                assert event.digest is not None, f"the last round of attempt {self.attempt} carries no checksum"
                sent = Sent(
                    session_id=self.session_id,
                    attempt=self.attempt,
                    digest=event.digest,
                    moved_bytes=arrived.moved_bytes,
                    frozen_bytes=self.round_bytes,
                )
                return replace(arrived, phase="sent", sent=sent), (Tell(report=sent),)
            case _:
                return arrived, ()

    def failed(self, reason: str) -> tuple[Outgoing, Steps]:
        """The lane cannot go on. What was sent as a whole may be staged: that is for the controller to find out."""
        if self.phase in ("sent", "failed", "over"):
            return self, ()
        ended = replace(self, phase="failed" if self.frozen else "over", reason=reason[:REASON_MAX])
        return ended, (StopLane(attempt=self.attempt), Tell(report=ended.failure))

    def ticked(self, now_s: float) -> tuple[Outgoing, Steps]:
        return self.failed(f"late: the source was {self.phase}") if now_s >= self.end_s else (self, ())

    def over(self) -> tuple[Outgoing, Steps]:
        """The controller has decided, one way or the other."""
        return replace(self, phase="over"), (StopLane(attempt=self.attempt),)

    def standing(self) -> Steps:
        """The answer to a message that comes twice."""
        match self.phase:
            case "sent":
                assert self.sent is not None
                return (Tell(report=self.sent),)
            case "failed" | "over" if self.reason:
                return (Tell(report=self.failure),)
            case _:
                return ()

    @property
    def failure(self) -> AttemptFailed:
        return AttemptFailed(
            session_id=self.session_id, attempt=self.attempt, side="source", frozen=self.frozen, reason=self.reason
        )

    def _another_round_pays(self) -> bool:
        waiting = bytes_in(self.changed)
        return 0 < waiting <= self.rule.shrink * self.round_bytes and self.number < self.rule.rounds_max

    def _round(self, *, last: bool = False) -> tuple[Outgoing, Steps]:
        number, ranges = self.number + 1, self.changed
        begun = replace(self, number=number, on_its_way=True, round_bytes=bytes_in(ranges), changed=())
        return begun, (SendRound(attempt=self.attempt, number=number, ranges=ranges, last=last),)

    def _freeze(self) -> tuple[Outgoing, Steps]:
        """At a chunk boundary: now, or when the chunk that is computed has ended."""
        if self.computing or self.on_its_way:
            return replace(self, phase="freezing"), ()
        return replace(self, phase="frozen")._round(last=True)
