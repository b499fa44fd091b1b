"""Who is on a worker, in which state, and what of its memories belongs to whom.

Decides what a record may say and when memory becomes free; must never know why a session moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from runtime.state.blocks import Block, BlockMap
from runtime.transfer.incoming import Incoming
from runtime.transfer.messages import AttemptId
from runtime.transfer.outgoing import Outgoing
from runtime.worker.events import Say
from runtime.worker.messages import Moved
from scheduler.cluster import SessionId

State = Literal[
    "opening",
    "active",
    "idle",
    "suspending",
    "suspended",
    "resuming",
    "precopy",
    "frozen",
    "incoming",
    "received",
    "lost",
]
SERVES: tuple[State, ...] = ("active", "idle", "precopy")  # this worker may compute its chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One session. It holds a block of the device, of the host, or of both while it is copied."""

    session_id: SessionId
    state: State
    state_bytes: int
    ownership: int  # epoch; 0 until the session serves here
    active: bool  # what the user wants
    device: Block | None = None
    host: Block | None = None
    copy_id: int | None = None  # of the copy between the two
    outgoing: Outgoing | None = None
    incoming: Incoming | None = None
    came_by: AttemptId | None = None

    @property
    def at_rest(self) -> State:
        """What it is when nothing happens to it."""
        return "active" if self.active else "idle"

    @property
    def said(self) -> Say:
        return Say(report=Moved(session_id=self.session_id, state=self.state, ownership=self.ownership))


class Books:
    """The records of a worker and its two memories.

    A block is held while a lane, a copy or a chunk touches it, whatever becomes of its session meanwhile.
    """

    def __init__(self, device: BlockMap, host: BlockMap) -> None:
        self.device, self.host = device, host
        self._records: dict[SessionId, Record] = {}
        self._computing: dict[SessionId, Block] = {}
        self._lanes: dict[AttemptId, Block] = {}
        self._copies: dict[int, tuple[Block, Block]] = {}
        self._copy_id = 0

    @property
    def records(self) -> Mapping[SessionId, Record]:
        return self._records

    def get(self, session_id: SessionId) -> Record | None:
        return self._records.get(session_id)

    def write(self, record: Record) -> Record:
        """The new truth about a session; blocks that it no longer has become free."""
        old = self._records.get(record.session_id)
        self._records[record.session_id] = record
        if old is not None:
            self._free_blocks(old, keep=record)
        return record

    def remove(self, record: Record) -> None:
        """Nothing is known of the session from now on."""
        self._free_blocks(self._records.pop(record.session_id), keep=None)

    def _free_blocks(self, old: Record, keep: Record | None) -> None:
        if old.device is not None and (keep is None or keep.device != old.device):
            self.device.free(old.device)
        if old.host is not None and (keep is None or keep.host != old.host):
            self.host.free(old.host)

    def is_computing(self, session_id: SessionId) -> bool:
        return session_id in self._computing

    def begin_round(self, session_id: SessionId) -> None:
        block = self._records[session_id].device
        assert block is not None
        assert session_id not in self._computing, f"{session_id} is computed already"
        self.device.hold(block)
        self._computing[session_id] = block

    def end_round(self, session_id: SessionId) -> None:
        self.device.let_go(self._computing.pop(session_id))

    @property
    def lanes(self) -> int:
        """How many may still touch a block."""
        return len(self._lanes)

    def has_lane(self, attempt: AttemptId) -> bool:
        return attempt in self._lanes

    def open_lane(self, attempt: AttemptId, block: Block) -> None:
        assert attempt not in self._lanes, f"attempt {attempt} has a lane already"
        self.device.hold(block)
        self._lanes[attempt] = block

    def end_lane(self, attempt: AttemptId) -> None:
        self.device.let_go(self._lanes.pop(attempt))

    def begin_copy(self, device: Block, host: Block) -> int:
        self._copy_id += 1
        self.device.hold(device)
        self.host.hold(host)
        self._copies[self._copy_id] = (device, host)
        return self._copy_id

    def end_copy(self, copy_id: int) -> Record | None:
        """Whose copy that was, unless the session has gone meanwhile."""
        device, host = self._copies.pop(copy_id)
        self.device.let_go(device)
        self.host.let_go(host)
        return next((record for record in self._records.values() if record.copy_id == copy_id), None)

    def rest(self, record: Record) -> Record:
        """The session serves from its device block, and nothing happens to it."""
        assert record.device is not None
        resting = replace(record, state=record.at_rest, outgoing=None, incoming=None, host=None, copy_id=None)
        return self.write(resting)
