"""The target's side of one attempt to migrate a session.

Decides when a state counts as staged and when it is dropped; must never activate itself nor know the source's side.

posting (the lane is not listening yet) -> receiving -> staged -> over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from runtime.state.blocks import Block
from runtime.transfer.attempt import Arrived, Listening, StopLane, Tell
from runtime.transfer.messages import REASON_MAX, AttemptFailed, AttemptId, Ready, Route, Staged
from scheduler.cluster import SessionId

Phase = Literal["posting", "receiving", "staged", "over"]
Steps = tuple[StopLane | Tell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One attempt, and the room that is reserved for it."""

    session_id: SessionId
    attempt: AttemptId
    block: Block
    active: bool  # what the user wants of the session
    end_s: float
    phase: Phase = "posting"
    route: Route | None = None  # where the lane waits
    digest: int = 0
    head: bytes = b""

    def listening(self, event: Listening) -> tuple[Incoming, Steps]:
        if self.phase != "posting":
            return self, ()
        posted = replace(self, phase="receiving", route=event.route)
        return posted, posted.standing()

    def arrived(self, event: Arrived) -> tuple[Incoming, Steps]:
        """A whole state whose checksum is right; nothing but the controller's word makes it serve."""
        if self.phase not in ("posting", "receiving"):
            return self, ()
        staged = replace(self, phase="staged", digest=event.digest, head=event.head)
        return staged, staged.standing()

    def failed(self, reason: str) -> tuple[Incoming, Steps]:
        """Before the state is staged nobody counts on it, so that it may be dropped at once."""
        if self.phase in ("staged", "over"):
            return self, ()
        told = AttemptFailed(
            session_id=self.session_id, attempt=self.attempt, side="target", frozen=False, reason=reason[:REASON_MAX]
        )
        return replace(self, phase="over"), (StopLane(attempt=self.attempt), Tell(report=told))

    def ticked(self, now_s: float) -> tuple[Incoming, Steps]:
        """What is staged may be committed already, and waits for as long as it takes."""
        return self.failed(f"late: the target was {self.phase}") if now_s >= self.end_s else (self, ())

    def over(self) -> tuple[Incoming, Steps]:
        """The controller has decided, one way or the other."""
        return replace(self, phase="over"), (StopLane(attempt=self.attempt),)

    def standing(self) -> Steps:
        """The answer to a message that comes twice."""
        match self.phase:
            case "receiving":
                assert self.route is not None
                return (Tell(report=Ready(session_id=self.session_id, attempt=self.attempt, route=self.route)),)
            case "staged":
                return (Tell(report=Staged(session_id=self.session_id, attempt=self.attempt, digest=self.digest)),)
            case _:
                return ()
