"""Opening, suspending, resuming and closing the sessions of a worker.

Decides what follows from what is desired of a session that does not migrate; must never know another worker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from runtime.state.blocks import NoRoom
from runtime.worker.books import Books, Record
from runtime.worker.events import Action, CopyEnded, CopyState, Forget, OpenSlot, Say, SlotReady, StateLost
from runtime.worker.messages import Close, Closed, Demand, Desired, Lost, Open, Refused, Resume, Suspend
from scheduler.cluster import SessionId

Steps = tuple[Action, ...]


class Residency:
    """Where states are in one worker. Every desire is answered: by what became of it, or by why it was refused."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def desire(self, desired: Desired) -> Steps:
        session_id = SessionId(desired.session_id)
        record = self._books.get(session_id)
        if isinstance(desired, Open):
            return self._open(desired) if record is None else (record.said,)
        if record is None:
            gone = Closed(session_id=session_id)
            return (Say(report=gone),) if isinstance(desired, Close) else _refuse(session_id, "is not here")
        match desired:
            case Demand():
                return self._demand(record, desired.active)
            case Suspend():
                return self._suspend(record)
            case Resume():
                return self._resume(record)
            case Close():
                return self._close(record)
            case _:
                assert_never(desired)

    def slot_ready(self, event: SlotReady) -> Steps:
        record = self._books.get(event.session_id)
        if record is None or record.state != "opening":
            return ()  # closed or lost meanwhile
        return (self._books.rest(record).said,)

    def chunk_ended(self, record: Record) -> Steps:
        """Whoever was to be suspended has waited for its chunk."""
        return self._copy_out(record) if record.state == "suspending" and record.copy_id is None else ()

    def copy_ended(self, event: CopyEnded) -> Steps:
        record = self._books.end_copy(event.copy_id)
        if record is None:
            return ()
        failed = () if event.failure is None else _refuse(record.session_id, event.failure)
        on_host = (record.state == "suspending") == (event.failure is None)
        if on_host:
            resting = self._books.write(replace(record, state="suspended", device=None, copy_id=None))
        else:
            resting = self._books.rest(record)
        return (*failed, resting.said)

    def lost(self, record: Record, event: StateLost) -> Steps:
        """A copy in host memory does not help: it is unfinished, or the session has gone on since."""
        self._books.write(replace(record, state="lost", device=None, host=None, copy_id=None))
        told = Lost(session_id=record.session_id, reason=event.reason)
        return Forget(session_id=record.session_id), Say(report=told)

    def _open(self, desired: Open) -> Steps:
        session_id = SessionId(desired.session_id)
        block = self._books.device.take(desired.state_bytes)
        if isinstance(block, NoRoom):
            return _refuse(session_id, str(block))
        self._books.write(
            Record(
                session_id=session_id,
                state="opening",
                state_bytes=desired.state_bytes,
                ownership=desired.ownership,
                active=True,
                device=block,
            )
        )
        return (OpenSlot(session_id=session_id, block=block),)

    def _demand(self, record: Record, active: bool) -> Steps:
        changed = replace(record, active=active)
        if record.incoming is not None:
            changed = replace(changed, incoming=replace(record.incoming, active=active))
        if record.state in ("active", "idle"):
            changed = replace(changed, state=changed.at_rest)
        return (self._books.write(changed).said,)

    def _suspend(self, record: Record) -> Steps:
        if record.state in ("suspending", "suspended"):
            return (record.said,)
        if record.state not in ("active", "idle"):
            return _refuse(record.session_id, f"is {record.state}")
        host = self._books.host.take(record.state_bytes)
        if isinstance(host, NoRoom):
            return _refuse(record.session_id, f"host memory: {host}")
        leaving = self._books.write(replace(record, state="suspending", host=host))
        return () if self._books.is_computing(record.session_id) else self._copy_out(leaving)

    def _copy_out(self, record: Record) -> Steps:
        return self._copy(record, to_host=True)

    def _resume(self, record: Record) -> Steps:
        if record.state in ("active", "idle", "resuming"):
            return (record.said,)
        if record.state != "suspended":
            return _refuse(record.session_id, f"is {record.state}")
        device = self._books.device.take(record.state_bytes)
        if isinstance(device, NoRoom):
            return _refuse(record.session_id, str(device))
        return self._copy(self._books.write(replace(record, state="resuming", device=device)), to_host=False)

    def _copy(self, record: Record, *, to_host: bool) -> Steps:
        assert record.device is not None
        assert record.host is not None
        copy_id = self._books.begin_copy(record.device, record.host)
        self._books.write(replace(record, copy_id=copy_id))
        copy = CopyState(
            copy_id=copy_id, session_id=record.session_id, device=record.device, host=record.host, to_host=to_host
        )
        return (copy,)

    def _close(self, record: Record) -> Steps:
        if record.outgoing is not None or record.incoming is not None:
            return _refuse(record.session_id, f"is {record.state}: its migration has to end first")
        self._books.remove(record)
        return Forget(session_id=record.session_id), Say(report=Closed(session_id=record.session_id))


def _refuse(session_id: SessionId, reason: str) -> Steps:
    return (Say(report=Refused(session_id=session_id, reason=reason)),)
