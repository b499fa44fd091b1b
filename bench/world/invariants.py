"""What must hold after every step, whatever goes wrong.

Decides nothing: it looks, and tells what does not hold. I1 to I15 are those of docs/promises.md.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bench.world.fleet import FLEET, LIMITS
from bench.world.worker import SESSIONS_MAX, SimulatedWorker
from runtime.journal.journal import Journal
from runtime.journal.truth import Truth, truth_to_bytes
from runtime.state.blocks import BlockMap
from runtime.transfer.messages import Activate, Prepare, Reactivate, Release
from runtime.worker.messages import Command, Open
from runtime.worker.process.messages import FromController
from runtime.worker.process.outbox import WORDS_MAX
from scheduler.cluster_checks import validate

if TYPE_CHECKING:
    from bench.world.world import World

AGAIN_MAX = 64  # of what a controller keeps while its disk is full: exits of four workers, epochs and one plan
CHUNK_BYTES = 4096  # that one chunk is at most


def check(world: World) -> None:
    truth = world.control.controller.truth
    for worker in world.workers.values():
        _memories_hold_their_blocks(worker)
        _queues_are_bounded(worker)
        _serves_only_its_own(worker, truth)
    _one_serves_each(world)
    _gateway_is_bounded(world)
    world.account.check(world.now_s)
    assert world.control.kept <= AGAIN_MAX, f"I13: {world.control.kept} happenings wait for the disk"
    if world.wrote_now:
        assert world.control.journal.truth == truth, "I15: the journal does not lead to where the controller is"
        _promises_are_kept(world, truth)
        world.clients.strangers_are_told_nothing()
    if world.told_now:
        _picture_is_consistent(world, truth)


def nothing_is_said_early(name: str, message: FromController, truth: Truth) -> None:
    """I4: what a worker is told follows from what is durable."""
    if not isinstance(message, Command):
        return
    match message.body:
        case Open(session_id=session_id, ownership=ownership):
            owned = truth.sessions.get(session_id)
            later = owned is None or owned.ownership > ownership
            ours = owned is not None and (owned.worker, owned.ownership) == (name, ownership)
            assert later or ours, f"I4: {name} is told to open {session_id}, which is not written down"
        case Prepare(attempt=attempt):
            assert attempt <= truth.last_attempt, f"I4: attempt {attempt} is prepared, and not written down"
        case Activate(attempt=attempt):
            handover = truth.handovers.get(attempt)
            assert attempt <= truth.last_attempt, f"I4: attempt {attempt} is activated, and not written down"
            committed = handover is None or handover.phase == "committed"  # none: it has ended in the same step
            assert committed, f"I4: attempt {attempt} is activated, and not committed"
        case Release(session_id=session_id):
            owned = truth.sessions.get(session_id)
            assert owned is None or owned.worker != name, f"I4: {name} is told to release {session_id}, which it owns"
        case Reactivate(session_id=session_id):
            owned = truth.sessions.get(session_id)
            assert owned is None or owned.worker in (name, None), f"I4: {session_id} is another's, and {name} goes on"
        case _:
            pass


def the_journal_leads_here(world: World) -> None:
    """I15: whoever opens it anew finds the same, byte for byte. This ends the controller's hold on it."""
    opened = Journal.open(world.path)
    try:
        before = truth_to_bytes(world.control.controller.truth)
        now = truth_to_bytes(_with_epoch(opened.truth, world.control.controller.truth.controller_epoch))
        assert before == now, "I15: the journal, read anew, does not lead to where the controller was"
    finally:
        opened.close()


def _with_epoch(truth: Truth, controller_epoch: int) -> Truth:
    return replace(truth, controller_epoch=controller_epoch)


def _memories_hold_their_blocks(worker: SimulatedWorker) -> None:
    """I5 and I6: what is resident, staged, frozen or on its way lies in the memory, and apart from each other."""
    for memory, where in ((worker.device.blocks, "device"), (worker.host.blocks, "host")):
        _blocks_lie_apart(worker.name, where, memory)
    device, host = worker.device.blocks.uses, worker.host.blocks.uses
    blocks = [record.device for record in worker.table.records.values() if record.device is not None]
    assert len(set(blocks)) == len(blocks), f"I5: {worker.name}: two sessions share a block"
    assert set(blocks) <= set(device), f"I5: {worker.name}: a session's block is free"
    hosted = [record.host for record in worker.table.records.values() if record.host is not None]
    assert len(set(hosted)) == len(hosted), f"I6: {worker.name}: two sessions share a block"
    assert set(hosted) <= set(host), f"I6: {worker.name}: a session's block is free"


def _blocks_lie_apart(name: str, where: str, memory: BlockMap) -> None:
    end = 0
    for block in sorted(memory.uses, key=lambda block: block.start):
        assert block.start >= end, f"I5: {name}: blocks of its {where} memory overlap"
        end = block.end
    assert end <= memory.total_bytes, f"I5: {name}: {end} bytes of {memory.total_bytes} in {where} memory"


def _queues_are_bounded(worker: SimulatedWorker) -> None:
    """I13."""
    words = worker.outbox.is_crowded("controller"), worker.outbox.is_crowded("gateway")
    assert not any(words), f"I13: more than {dict(WORDS_MAX)} words of {worker.name} wait"
    assert len(worker.table.records) <= SESSIONS_MAX, f"I13: {len(worker.table.records)} sessions on {worker.name}"


def _serves_only_its_own(worker: SimulatedWorker, truth: Truth) -> None:
    """I1 and I8: whoever holds a lease serves nobody whom the journal gives to another."""
    records = worker.table.records
    for session_id in worker.serves:
        owned = truth.sessions.get(session_id)
        if owned is not None and owned.worker is not None:
            assert owned.worker == worker.name, f"I1: {session_id} is served by {worker.name}, not by {owned.worker}"
            ahead = records[session_id].ownership > owned.ownership
            assert not ahead, f"I1: {session_id} is ahead of the journal on {worker.name}"
    for record in records.values():
        if record.outgoing is not None:
            known = record.outgoing.attempt <= truth.last_attempt
            assert known, f"I8: {record.session_id} is frozen by attempt {record.outgoing.attempt}, which never was"


def _one_serves_each(world: World) -> None:
    """I1. A session that has ended may still be held by several: nobody gives it credit."""
    live = world.control.controller.truth.sessions
    serving = Counter(session_id for worker in world.workers.values() for session_id in worker.serves)
    twice = [session_id for session_id, count in serving.items() if count > 1 and session_id in live]
    assert not twice, f"I1: {twice} are served twice"


def _gateway_is_bounded(world: World) -> None:
    """I13: rings, changes and creates that wait."""
    desk = world.clients.desk
    rings = 0
    for session in desk.sessions.values():
        kept = session.stream.next_seq - session.stream.first_seq
        most = LIMITS.ring_chunks_max + LIMITS.ahead
        assert kept <= most, f"I13: {kept} chunks of {session.session_id} are kept"
        assert session.changes.waiting <= LIMITS.changes_max + 1, f"I13: {session.changes.waiting} changes wait"
        rings += session.stream.ring_bytes
    assert rings == desk.ring_bytes, f"I13: {rings} bytes are kept, and {desk.ring_bytes} are counted"
    here = sum(session.client is not None for session in desk.sessions.values())
    most = LIMITS.memory_bytes_max + (here + 1) * (LIMITS.ahead + 1) * CHUNK_BYTES
    assert rings <= most, f"I13: {rings} bytes are kept, {most} are allowed"


def _promises_are_kept(world: World, truth: Truth) -> None:
    """I12: who was promised a session has it until it ends."""
    ended = world.clients.why_ended
    for user in world.clients.users:
        if user.promised and user.session_id not in ended:
            assert user.session_id in truth.sessions, f"I12: {user.session_id} was promised and is gone"


def _picture_is_consistent(world: World, truth: Truth) -> None:
    """I5, I6, I9 and I10: states fit, GPUs that are off hold nothing, and whoever is there is paid for."""
    controller = world.control.controller
    snapshot = controller.snapshot()
    if controller.ready:  # before that it does not know who is in host memory
        wrong = validate(snapshot, FLEET)
        assert not wrong, wrong[:3]
    for gpu_id, gpu in snapshot.gpus.items():
        usable = gpu.status in ("ready", "draining")
        paid = gpu_id not in truth.workers or gpu_id not in world.workers  # whoever is to stop has stopped
        assert usable == (gpu_id in truth.workers) or paid, f"I10: {gpu_id} is {gpu.status}, and its worker is there"
        assert not usable or gpu_id in truth.workers, f"I10: {gpu_id} is {gpu.status}, and its worker is not there"
        holds = [name for name, owned in truth.sessions.items() if owned.worker == gpu_id]
        assert usable or not holds, f"I9: {gpu_id} is {gpu.status} and holds {holds}"
