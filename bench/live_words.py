"""What an emulated worker says of itself and of the sessions that it holds.

Decides the words; must never know when they are said.
"""

from __future__ import annotations

from bench.live_users import User
from runtime.state.blocks import BlockMap
from runtime.state.ranges import round_up
from runtime.worker.books import Record
from runtime.worker.process.messages import PROTOCOL, Held, Hello, ProfileRoom
from scheduler.fleet import Fleet
from scheduler.sizes import state_bytes

COALESCE_MAX = 1024


def hello_of(fleet: Fleet, name: str, incarnation: int, device: BlockMap, host: BlockMap, now_s: float) -> Hello:
    """Of a worker that has all profiles of the fleet."""
    sizes = {profile: round_up(state_bytes(fleet, profile)) for profile in fleet.profiles}
    rooms = tuple(
        ProfileRoom(
            name=profile,
            state_bytes=size,
            chunk_s=fleet.profiles[profile].chunk_s,
            sessions_max=device.total_bytes // size,
        )
        for profile, size in sizes.items()
    )
    return Hello(
        protocol=PROTOCOL,
        worker=name,
        incarnation=incarnation,
        revision="emulated",
        profiles=rooms,
        device_bytes=device.total_bytes,
        host_bytes=host.total_bytes,
        coalesce_max=COALESCE_MAX,
        ways=("tcp",),
        sent_s=now_s,
    )


def held_of(record: Record, user: User) -> Held:
    outgoing, incoming = record.outgoing, record.incoming
    attempt = outgoing.attempt if outgoing is not None else incoming.attempt if incoming is not None else None
    return Held(
        session_id=record.session_id,
        state=record.state,
        state_bytes=record.state_bytes,
        ownership=record.ownership,
        active=record.active,
        attempt=attempt,
        chunk_number=user.number,
        profile=user.profile,
    )
