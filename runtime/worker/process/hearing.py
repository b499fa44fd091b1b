"""What follows from a message of controller or gateway, and from an event of the worker's own threads.

Decides what is refused before the table of sessions hears of it: what the ChunkModel, the encoder or a bound forbids;
must never know how a message came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace

from runtime.state.blocks import Block
from runtime.transfer.attempt import Arrived, LaneFailed
from runtime.transfer.messages import REASON_MAX, Nack, Prepare
from runtime.worker.books import Record
from runtime.worker.events import Event
from runtime.worker.messages import Command, Open, Refused, Steered, Uncredited, Unsteered
from runtime.worker.process.carried import CHANGES_MAX, Carried, opened, unpacked
from runtime.worker.process.hands import Hands, Parts
from runtime.worker.process.inbox import Heard, Message
from runtime.worker.process.lease import Lease
from runtime.worker.process.messages import AskInventory, Credit, Held, Renew, Steer, WantKeyFrame
from scheduler.cluster import SessionId

_NOT_SERVED = ("frozen", "incoming", "received", "lost")  # the session is not here, or on its way elsewhere


class Hearing:
    """Used by the compute thread alone, between two passes."""

    def __init__(
        self, parts: Parts, hands: Hands, lease: Lease, sessions_max: int, tell_all: Callable[[int], None]
    ) -> None:
        self._parts, self._hands, self._sessions_max, self._tell_all = parts, hands, sessions_max, tell_all
        self.lease = lease

    def hear(self, heard: Heard, now_s: float) -> None:
        match heard:
            case Command() | Steer() | Credit() | WantKeyFrame() | Renew() | AskInventory():
                if self._parts.table.hears(heard.controller_epoch, heard.incarnation):
                    self._message(heard, now_s)
            case Arrived():
                self._hands.handle(self._checked(heard), now_s)
            case _:
                self._hands.handle(heard, now_s)

    def held(self) -> tuple[Held, ...]:
        """Everybody who is here."""
        return tuple(self._held(record) for record in self._parts.table.records.values())

    def _message(self, message: Message, now_s: float) -> None:
        match message:
            case Command():
                self._command(message, now_s)
            case Steer():
                self._steer(message)
            case Credit():
                self._credit(message)
            case WantKeyFrame():
                self._parts.delivery.want_key_frame(SessionId(message.session_id))
            case Renew():
                self.lease = self.lease.renewed(message.sent_s, now_s)
            case AskInventory():
                self._parts.table.asked(message.version)
                self._tell_all(message.question)
            case _:
                assert_never(message)

    def _command(self, command: Command, now_s: float) -> None:
        body = command.body
        if isinstance(body, Open) and SessionId(body.session_id) not in self._parts.table.records:
            carried = self._opened(body)
            if isinstance(carried, str):
                self._parts.say(Refused(session_id=body.session_id, reason=carried[:REASON_MAX]))
                return
            self._parts.seats.put(carried[0], carried[1])
            self._hands.do(self._parts.table.command(command, now_s), now_s)
            if carried[0] not in self._parts.table.records:  # there was no room, or the plan was an old one
                self._parts.seats.remove(carried[0])
            return
        if isinstance(body, Prepare) and SessionId(body.session_id) not in self._parts.table.records:
            full = self._no_place()
            if full is not None:
                self._parts.say(Nack(session_id=body.session_id, attempt=body.attempt, reason=full))
                return
        self._hands.do(self._parts.table.command(command, now_s), now_s)

    def _no_place(self) -> str | None:
        count = len(self._parts.table.records)
        if count < self._sessions_max:
            return None
        return f"{count} sessions are here; sessions_max={self._sessions_max}"

    def _echo(self, carried: Carried) -> str | None:
        if not self._parts.delivery.has_chunks(SessionId(carried.head.session)):
            return None
        return "chunks of a session of that name that was here before are still on their way"

    def _opened(self, desired: Open) -> tuple[SessionId, Carried] | str:
        model = self._parts.model
        carried = opened(desired, model.revision)
        if isinstance(carried, str):
            return carried
        refusal = self._no_place() or self._echo(carried) or model.refusal(carried.head)
        if refusal is not None:
            return refusal
        profile = model.profiles[carried.head.profile]
        if desired.state_bytes != profile.state_bytes:
            return f"state_bytes={desired.state_bytes} must be {profile.state_bytes} for profile {profile.name}"
        return self._parts.delivery.refusal(carried, profile) or (SessionId(desired.session_id), carried)

    def _credit(self, credit: Credit) -> None:
        """Whoever has lost chunks on their way could wait for them, and the session for its credit or its target."""
        session_id = SessionId(credit.session_id)
        carried, record = self._parts.seats.get(session_id), self._parts.table.records.get(session_id)
        if carried is None or record is None or credit.lineage != carried.head.lineage:
            return
        credited = carried.credited(credit)
        self._parts.seats.put(session_id, credited)
        begins_more = record.state != "frozen" and (credited.has_credit or record.state in _NOT_SERVED)
        if not (begins_more or self._parts.delivery.has_chunks(session_id)):
            number = credited.head.chunk_number
            self._parts.tell(Uncredited(session_id=session_id, lineage=credit.lineage, chunk_number=number))

    def _steer(self, steer: Steer) -> None:
        """What is answered is part of the session; what is not comes again, here or where the session is by then."""
        session_id = SessionId(steer.session_id)
        carried, record = self._parts.seats.get(session_id), self._parts.table.records.get(session_id)
        if carried is None or record is None or record.state in _NOT_SERVED or steer.lineage != carried.head.lineage:
            return
        steered = carried.steered(steer)
        if steered is None:
            self._unsteered(steer, f"{CHANGES_MAX} changes wait for their chunks, and no more may")
            return
        refusal = None if steered is carried else self._parts.model.refusal(carried.with_change(steer))
        if refusal is not None:
            self._unsteered(steer, refusal)
            return
        self._parts.seats.put(session_id, steered)
        self._parts.tell(
            Steered(session_id=session_id, lineage=steer.lineage, serial=steered.serial, asker=steer.asker)
        )

    def _unsteered(self, steer: Steer, reason: str) -> None:
        unsteered = Unsteered(
            session_id=steer.session_id,
            lineage=steer.lineage,
            serial=steer.serial,
            reason=reason[:REASON_MAX],
            prompt=steer.prompt,
            control=steer.control,
        )
        self._parts.tell(unsteered)

    def _checked(self, event: Arrived) -> Event:
        """A state that this ChunkModel cannot continue fails before anybody counts on it."""
        records = self._parts.table.records.values()
        arrived = (record for record in records if record.incoming and record.incoming.attempt == event.attempt)
        record = next(arrived, None)
        wrong = None if record is None else self._what_is_wrong(record, unpacked(event.head))
        return event if wrong is None else LaneFailed(attempt=event.attempt, reason=wrong[:REASON_MAX])

    def _what_is_wrong(self, record: Record, carried: Carried | str) -> str | None:
        if isinstance(carried, str):
            return carried
        if carried.head.session != record.session_id:
            return f"the head is that of session {carried.head.session!r}"
        refusal = self._parts.model.refusal(carried.head)
        if refusal is not None:
            return refusal
        profile = self._parts.model.profiles[carried.head.profile]
        assert isinstance(record.device, Block)
        if record.device.size_bytes < profile.state_bytes:
            return f"a block of {record.device.size_bytes} bytes is too small for profile {profile.name}"
        return self._parts.delivery.refusal(carried, profile)

    def _held(self, record: Record) -> Held:
        attempt = None
        if record.outgoing is not None:
            attempt = record.outgoing.attempt
        elif record.incoming is not None:
            attempt = record.incoming.attempt
        # That its encoder has failed was said once, and may not have been heard.
        failed = record.outgoing is None and self._parts.delivery.has_failed(record.session_id)
        held = Held(
            session_id=record.session_id,
            state="lost" if failed else record.state,
            state_bytes=record.state_bytes,
            ownership=record.ownership,
            active=record.active,
            attempt=attempt,
        )
        carried = self._parts.seats.get(record.session_id)
        return held if carried is None else _with_text(held, carried)


def _with_text(held: Held, carried: Carried) -> Held:
    return replace(
        held,
        lineage=carried.head.lineage,
        chunk_number=carried.head.chunk_number,
        serial=carried.serial,
        profile=carried.head.profile,
    )
