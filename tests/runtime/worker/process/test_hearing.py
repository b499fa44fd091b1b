"""What a worker says when it is asked for all that it holds."""

from __future__ import annotations

import random

from bench.world.fleet import STATE_BYTES
from bench.world.worker import SimulatedWorker
from runtime.worker.messages import Command, Open, Text
from runtime.worker.process import messages as wire
from runtime.worker.process.inbox import Message
from runtime.worker.process.messages import AskInventory, Credit, Inventory, Renew

FENCE = {"controller_epoch": 1, "incarnation": 1}
TEXT = Text(profile="a", seed=1, prompt="p")


def asked(worker: SimulatedWorker, question: int) -> Inventory:
    worker.hear([AskInventory(**FENCE, question=question)])
    worker.turn()
    found = [wire.from_worker(frame) for frame in worker.frames("controller")]
    (inventory,) = [message for message in found if isinstance(message, Inventory) and message.question == question]
    return inventory


def test_a_session_whose_encoder_has_failed_is_lost_whenever_anybody_asks() -> None:
    """That it failed is said once, and may not be heard."""
    worker = SimulatedWorker("w", 1, lambda: 1.0, random.Random(1), lambda *_: False)
    order = Open(session_id="s", state_bytes=STATE_BYTES, ownership=1, text=TEXT)
    told: list[Message] = [Renew(**FENCE, sent_s=1.0), Command(**FENCE, version=1, body=order)]
    worker.hear(told)
    worker.turn()
    (held,) = asked(worker, 1).sessions
    assert held.state == "active"
    worker.hear([Credit(**FENCE, session_id="s", lineage=0, up_to=1)])
    for _ in range(4):
        worker.turn()
    for question in (2, 3):
        (held,) = asked(worker, question).sessions
        assert (held.state, held.ownership) == ("lost", 1)
    assert held.chunk_number == 1
