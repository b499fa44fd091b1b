"""A worker process without a network to its controller: the table of sessions, lanes, and a toy chunk model.

It is told and tells over a pipe, and may be asked to do something terrible when so many bytes of an attempt have moved.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

import torch

from runtime.state.arena import Arena
from runtime.state.blocks import Block, Room
from runtime.state.checksum import digest
from runtime.state.copying import Busy, Copy, ThreadCopies
from runtime.state.ranges import whole
from runtime.transfer.attempt import OpenReceiving, OpenSending, SendRound, StopLane
from runtime.transfer.gloo import gloo_way
from runtime.transfer.lanes import Lanes, LaneSettings
from runtime.transfer.messages import AttemptId, Way
from runtime.transfer.outgoing import PrecopyRule
from runtime.transfer.tcp import TcpWay
from runtime.transfer.ways import Approach
from runtime.worker.events import (
    Action,
    Adopt,
    ChunkEnded,
    CopyEnded,
    CopyState,
    Event,
    Forget,
    OpenSlot,
    Say,
    SlotReady,
    Ticked,
)
from runtime.worker.messages import Command, Report
from runtime.worker.sessions import SessionTable
from scheduler.cluster import SessionId
from tests.runtime.transfer.toy_model import write_chunk

TICK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One incarnation of a small worker."""

    name: str
    incarnation: int
    device_bytes: int
    store_port: int
    chunk_s: float = 0.01  # from the begin of a chunk to that of the next
    stall_s: float = 2.0
    rendezvous_s: float = 4.0
    rule: PrecopyRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """When so many bytes of an attempt have moved through this worker, once."""

    attempt: int
    at_bytes: int
    signals: tuple[tuple[int, int], ...] = ()  # (pid, signal number)
    flip: bool = False  # a bit of the last byte that has arrived, before its checksum is computed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question that is answered with `Answer`."""

    what: Literal["room", "state", "stop"]
    session_id: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How things stand."""

    device: Room
    host: Room
    lanes: int
    states: Mapping[SessionId, str]
    chunks: int = 0
    digest: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkMade:
    """One chunk of a session, with the fence that its sink would check."""

    session_id: SessionId
    ownership: int
    number: int


Told = Command | Fault | Ask
Tells = Report | Answer | ChunkMade


class SmallWorker:
    """Compute and control in one thread; lanes and copies in theirs."""

    def __init__(self, config: WorkerConfig, pipe: Connection) -> None:
        self._config, self._pipe = config, pipe
        self._device, self._host = Arena(config.device_bytes), Arena(config.device_bytes)
        self._table = SessionTable(
            self._device.blocks, self._host.blocks, incarnation=config.incarnation, rule=config.rule
        )
        self._events: queue.Queue[Event] = queue.Queue()
        self._chunks: dict[SessionId, int] = {}
        self._fault: Fault | None = None
        self._copies, self._copying = ThreadCopies(), dict[int, Copy]()
        store = ("127.0.0.1", config.store_port)
        self._gloo = gloo_way(config.name, store, rendezvous_s=config.rendezvous_s)
        ways: dict[Way, Approach] = {"tcp": TcpWay(), "gloo": self._gloo}
        settings = LaneSettings(stall_s=config.stall_s, progress=self._progress)
        self._lanes = Lanes(self._device, ways, self._events.put, self._head, settings)

    def run(self) -> None:
        """Until it is told to stop or the pipe is closed."""
        next_chunk_s = next_tick_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if self._pipe.poll(0.001) and not self._take(self._pipe.recv()):
                break
            while not self._events.empty():
                self._do(self._table.handle(self._events.get(), now_s))
            self._end_copies(now_s)
            if now_s >= next_tick_s:
                next_tick_s = now_s + TICK_S
                self._do(self._table.handle(Ticked(), now_s))
            if now_s >= next_chunk_s:
                next_chunk_s = now_s + self._config.chunk_s
                self._compute(now_s)
        self._lanes.close()
        self._copies.close()
        self._gloo.pairs.close()

    def _take(self, told: Told) -> bool:
        match told:
            case Command():
                self._do(self._table.command(told, time.monotonic()))
            case Fault():
                self._fault = told
            case Ask(what="stop"):
                return False
            case Ask():
                self._pipe.send(self._answer(told.session_id))
        return True

    def _answer(self, session_id: SessionId | None) -> Answer:
        records = self._table.records
        record = records.get(session_id) if session_id is not None else None
        block = record.device if record is not None else None
        return Answer(
            device=self._device.blocks.room,
            host=self._host.blocks.room,
            lanes=self._table.lanes,
            states={record.session_id: record.state for record in records.values()},
            chunks=self._chunks.get(record.session_id, 0) if record is not None else 0,
            digest=digest(self._device.view(block)) if block is not None else 0,
        )

    def _compute(self, now_s: float) -> None:
        runnable = self._table.runnable
        self._table.begin_round(runnable)
        for session_id in runnable:
            record = self._table.records[session_id]
            assert record.device is not None
            number = self._chunks[session_id]
            dirty = write_chunk(self._device.view(record.device), seed_of(session_id), number)
            self._chunks[session_id] = number + 1
            self._pipe.send(ChunkMade(session_id=session_id, ownership=record.ownership, number=number))
            self._do(self._table.handle(ChunkEnded(session_id=session_id, dirty=dirty), now_s))

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Say():
                    self._pipe.send(action.report)
                case OpenSlot():
                    self._device.view(action.block).zero_()
                    self._chunks[action.session_id] = 0
                    self._events.put(SlotReady(session_id=action.session_id))
                case Adopt():
                    self._chunks[action.session_id] = int.from_bytes(action.head)
                case Forget():
                    self._chunks.pop(action.session_id, None)
                case CopyState():
                    self._copy(action)
                case OpenSending() | OpenReceiving() | SendRound() | StopLane():
                    self._lanes.act(action)

    def _copy(self, action: CopyState) -> None:
        device, host = self._device.view(action.device), self._host.view(action.host)
        source, target = (device, host) if action.to_host else (host, device)
        copy = self._copies.begin(source, target, whole(source.numel()))
        if isinstance(copy, Busy):
            self._events.put(CopyEnded(copy_id=action.copy_id, failure=str(copy)))
        else:
            self._copying[action.copy_id] = copy

    def _end_copies(self, now_s: float) -> None:
        for copy_id in [copy_id for copy_id, copy in self._copying.items() if copy.done()]:
            del self._copying[copy_id]
            self._do(self._table.handle(CopyEnded(copy_id=copy_id), now_s))

    def _head(self, session_id: SessionId) -> bytes:
        """Called by a lane while the session is frozen."""
        return self._chunks[session_id].to_bytes(8)

    def _progress(self, attempt: AttemptId, moved_bytes: int) -> None:
        """Called by a lane."""
        fault = self._fault
        if fault is None or fault.attempt != attempt or moved_bytes < fault.at_bytes:
            return
        self._fault = None
        if fault.flip:
            block = next(r.device for r in self._table.records.values() if isinstance(r.device, Block) and r.incoming)
            self._device.view(block)[fault.at_bytes - 1] ^= 16
        for pid, number in fault.signals:
            os.kill(pid, number)


def seed_of(session_id: SessionId) -> int:
    return sum(session_id.encode())


def run_worker(config: WorkerConfig, pipe: Connection) -> None:
    """The main function of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    SmallWorker(config, pipe).run()


def run_store(pipe: Connection) -> None:
    """The main function of the process where pairs meet."""
    from torch._C._distributed_c10d import TCPStore

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    pipe.send(store.port)
    pipe.recv()
