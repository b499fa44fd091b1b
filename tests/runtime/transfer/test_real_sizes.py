"""Decisions and messages of a migration at the sizes of large models: 28.7 GB of 141 GB."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runtime.chunk_models.wan_sizes import WAN_SIZES, WanSize
from runtime.state.ranges import GRANULE_BYTES, bytes_in, round_up, to_granules
from runtime.transfer import messages as m
from runtime.transfer.attempt import Arrived, LaneEnded, Listening, OpenReceiving, RoundSent
from runtime.transfer.messages import AttemptId
from runtime.worker.events import ChunkEnded, SlotReady
from runtime.worker.messages import Command, Open, Report
from tests.runtime.worker.tables import DEADLINE_S, HEAD, S, Told, rounds, route, start

GRANULES = 141 * 10**9 // GRANULE_BYTES
DIGEST = 2**64 - 1
FIRST = AttemptId(1)


def through_the_wire(said: Any, kind: Any) -> Any:
    """As the other side reads it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=kind)


def commanded(table: Told, body: Any) -> Any:
    command = Command(controller_epoch=1, incarnation=3, version=table.version, body=body)
    return table.tell(through_the_wire(command, Command).body)


def computed(table: Told, one: WanSize, chunk: int) -> None:
    block_bytes = round_up(one.state_bytes)
    dirty = to_granules([(each.start, each.stop) for each in one.layout().dirty(chunk)], block_bytes)
    table.begin_round([S])
    table.happen(ChunkEnded(session_id=S, dirty=dirty))


@pytest.mark.parametrize("name", WAN_SIZES)
def test_a_state_of_real_size_is_sent_in_rounds_that_add_up(name: str) -> None:
    one = WAN_SIZES[name]
    table = Told(device_granules=GRANULES)
    commanded(table, Open(session_id=S, state_bytes=one.state_bytes, ownership=1))
    table.happen(SlotReady(session_id=S))
    (first,) = rounds(commanded(table, start()))
    assert bytes_in(first.ranges) == round_up(one.state_bytes)
    for chunk in (5, 6):
        computed(table, one, chunk)
    (second,) = rounds(table.happen(RoundSent(attempt=FIRST, number=1)))
    assert bytes_in(second.ranges) == 2 * one.chunk_bytes
    computed(table, one, 7)
    (third,) = rounds(table.happen(RoundSent(attempt=FIRST, number=2)))
    assert bytes_in(third.ranges) == one.chunk_bytes
    (last,) = rounds(table.happen(RoundSent(attempt=FIRST, number=3)))
    assert (last.ranges, last.last) == ((), True)
    table.happen(RoundSent(attempt=FIRST, number=4, digest=DIGEST))
    (sent,) = table.reports(m.Sent)
    assert sent.moved_bytes == round_up(one.state_bytes) + 3 * one.chunk_bytes
    assert through_the_wire(sent, Report) == sent


def test_a_target_takes_as_many_states_as_fit_and_refuses_the_next_in_numbers() -> None:
    one = WAN_SIZES["wan-14b-21"]
    table = Told(device_granules=GRANULES)
    for attempt in range(1, 6):
        prepare = m.Prepare(
            session_id=f"{S}{attempt}",
            attempt=attempt,
            state_bytes=one.state_bytes,
            route=route(attempt),
            active=True,
            deadline_s=DEADLINE_S,
            horizon=0,
        )
        actions = commanded(table, prepare)
        for opened in (action for action in actions if isinstance(action, OpenReceiving)):
            assert opened.block.size_bytes == round_up(one.state_bytes)
            table.happen(Listening(attempt=opened.attempt, route=route(attempt)))
            table.happen(Arrived(attempt=opened.attempt, digest=DIGEST, head=HEAD))
            table.happen(LaneEnded(attempt=opened.attempt))
    assert [staged.digest for staged in table.reports(m.Staged)] == [DIGEST] * 4
    (refused,) = table.reports(m.Nack)
    assert "needs 27405." in refused.reason
    room = table.device.room
    assert room.used + room.reserved == 4 * round_up(one.state_bytes)
    assert room.largest_free == room.free < one.state_bytes
