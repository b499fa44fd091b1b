"""The planner's picture of one session, drawn anew from what is written down and what its owner has said.

Decides which events lead there; must never know what has gone wrong before.
"""

from __future__ import annotations

from runtime.controller.books import Books
from scheduler import events
from scheduler.cluster import GpuId, SessionId


def draw(books: Books, session_id: str, now_s: float) -> None:
    """Where a state was lost, came back, or was found after a restart, no single event tells what happened."""
    name, owned = SessionId(session_id), books.truth.sessions.get(session_id)
    books.touched.add(session_id)
    if name in books.cluster.sessions:
        books.tell(events.SessionClosed(session_id=name), now_s)
    if owned is None or (owned.worker is not None and not books.is_gpu(owned.worker)):
        return
    books.tell(events.SessionOpened(session_id=name, profile=owned.profile, tenant=owned.tenant), now_s)
    known = books.known[session_id]
    if owned.worker is None:
        if not known.active:
            books.tell(events.SessionIdled(session_id=name), now_s)
        return
    gpu = GpuId(owned.worker)
    books.tell(events.MoveStarted(session_id=name, kind="place", source=None, target=gpu), now_s)
    books.tell(events.MoveEnded(session_id=name), now_s)
    in_host_memory = known.state == "suspended"
    if in_host_memory or not known.active:
        books.tell(events.SessionIdled(session_id=name), now_s)
    if in_host_memory:
        books.tell(events.MoveStarted(session_id=name, kind="offload", source=gpu, target=None), now_s)
        books.tell(events.MoveEnded(session_id=name), now_s)
        if known.active:
            books.tell(events.SessionActivated(session_id=name), now_s)
