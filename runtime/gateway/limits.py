"""How much a gateway takes on, and how long it waits.

Decides the bounds and their usual values; must never know how they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

SEQ_MAX = 2**53 - 1  # the largest number that every client reads exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one gateway. What a session may hold in memory is what its ring and its client's chunks ahead come to."""

    sessions_max: int = 10_000
    creates_max: int = 256  # that wait for the controller's answer
    clients_max: int = 2_000
    ahead: int = 4  # chunks that a client may have beyond those it has taken
    ring_chunks_max: int = 64  # that a client may go back to
    ring_bytes_max: int = 32 << 20
    memory_bytes_max: int = 1 << 30  # of all rings
    changes_max: int = 16  # of one session, that wait
    grace_s: float = 10.0  # without a client, before a session pauses
    slow_s: float = 10.0  # without taking a chunk that is there, before a client is cut
    forget_s: float = 3600.0  # without a client, before a session is ended
    create_wait_s: float = 5.0  # for the controller's answer, before a create is given up
    ask_wait_s: float = 5.0
    start_wait_s: float = 10.0  # for the first message of a client
    silent_s: float = 3.0  # without a word of the controller, before it counts as away
    body_bytes_max: int = 64 << 10  # of HTTP
    message_bytes_max: int = 64 << 10  # of a client's WebSocket
    updates_per_s: float = 60.0  # of one client, on average
    updates_burst: int = 120
