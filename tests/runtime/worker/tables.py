"""A table of sessions, and short words for telling it things."""

from __future__ import annotations

from typing import Any

from runtime.state.blocks import BlockMap
from runtime.state.ranges import GRANULE_BYTES, Range, Ranges
from runtime.transfer import messages as m
from runtime.transfer.attempt import Arrived, LaneEnded, Listening, RoundSent, SendRound
from runtime.transfer.messages import AttemptId, Route
from runtime.transfer.outgoing import PrecopyRule
from runtime.worker.events import Action, ChunkEnded, CopyEnded, CopyState, Event, Say, SlotReady
from runtime.worker.messages import Command, Demand, Open, Report
from runtime.worker.sessions import SessionTable
from scheduler.cluster import SessionId

S = SessionId("s")
GRANULES = 8  # of the session's state
DEADLINE_S = 10.0
DIGEST = 77
HEAD = b"head"


class Told(SessionTable):
    """Remembers its actions; time stands still unless it is set."""

    def __init__(self, *, device_granules: int = 12, host_granules: int = 12, rule: PrecopyRule | None = None) -> None:
        self.device = BlockMap(device_granules * GRANULE_BYTES)
        self.host = BlockMap(host_granules * GRANULE_BYTES)
        super().__init__(self.device, self.host, incarnation=3, rule=rule)
        self.now_s = 0.0
        self.version = 0
        self.actions: list[Action] = []

    def tell(
        self, body: Any, *, controller_epoch: int = 1, incarnation: int = 3, version: int | None = None
    ) -> list[Action]:
        """A command; the actions that follow."""
        self.version += 1
        command = Command(
            controller_epoch=controller_epoch,
            incarnation=incarnation,
            version=self.version if version is None else version,
            body=body,
        )
        return self._keep(self.command(command, self.now_s))

    def happen(self, event: Event) -> list[Action]:
        return self._keep(self.handle(event, self.now_s))

    def _keep(self, actions: tuple[Action, ...]) -> list[Action]:
        self.actions += actions
        return list(actions)

    def reports(self, kind: type[Any]) -> list[Any]:
        """Of that kind, so far."""
        return [a.report for a in self.actions if isinstance(a, Say) and isinstance(a.report, kind)]

    def state(self) -> str | None:
        record = self.records.get(S)
        return None if record is None else record.state

    def compute(self, *granules: int) -> list[Action]:
        """One chunk of the session, which writes these granules."""
        self.begin_round([S])
        return self.happen(ChunkEnded(session_id=S, dirty=spans(*granules)))


def spans(*granules: int) -> Ranges:
    return tuple(Range(at * GRANULE_BYTES, (at + 1) * GRANULE_BYTES) for at in granules)


def with_session(**settings: Any) -> Told:
    """The session is open and active."""
    table = Told(**settings)
    table.tell(Open(session_id=S, state_bytes=GRANULES * GRANULE_BYTES, ownership=1))
    table.happen(SlotReady(session_id=S))
    assert table.state() == "active"
    return table


def idle(table: Told) -> Told:
    table.tell(Demand(session_id=S, active=False))
    return table


def start(attempt: int = 1, **fields: Any) -> m.Start:
    return m.Start(session_id=S, attempt=attempt, route=route(attempt), deadline_s=DEADLINE_S, **fields)


def prepare(attempt: int = 1, *, horizon: int = 0, granules: int = GRANULES) -> m.Prepare:
    return m.Prepare(
        session_id=S,
        attempt=attempt,
        state_bytes=granules * GRANULE_BYTES,
        route=route(attempt),
        active=True,
        deadline_s=DEADLINE_S,
        horizon=horizon,
    )


def route(attempt: int) -> Route:
    return Route(way="tcp", peer="other", incarnation=attempt)


def rounds(actions: list[Action]) -> list[SendRound]:
    return [action for action in actions if isinstance(action, SendRound)]


def frozen_source(**settings: Any) -> Told:
    """All of the state has been sent by attempt 1."""
    table = idle(with_session(**settings))
    table.tell(start())
    sent(table, 1, 1)
    sent(table, 1, 2, digest=DIGEST)
    assert table.state() == "frozen"
    return table


def sent(table: Told, attempt: int, number: int, digest: int | None = None) -> list[Action]:
    return table.happen(RoundSent(attempt=AttemptId(attempt), number=number, digest=digest))


def staged_target(attempt: int = 1) -> Told:
    """A whole state has arrived by that attempt."""
    table = Told()
    table.tell(prepare(attempt))
    table.happen(Listening(attempt=AttemptId(attempt), route=route(attempt)))
    table.happen(Arrived(attempt=AttemptId(attempt), digest=DIGEST, head=HEAD))
    table.happen(LaneEnded(attempt=AttemptId(attempt)))
    assert table.state() == "received"
    return table


def copy_ended(table: Told, actions: list[Action], failure: str | None = None) -> list[Action]:
    (copy,) = [action for action in actions if isinstance(action, CopyState)]
    return table.happen(CopyEnded(copy_id=copy.copy_id, failure=failure))


def reasons(reports: list[Report]) -> list[str]:
    return [str(getattr(report, "reason", "")) for report in reports]
