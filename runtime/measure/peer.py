"""A worker that does nothing but hold, change and migrate states, so that this can be timed.

Decides nothing of its own: it carries out what the table of sessions says. Must never know what the times are for.
Run as `python -m runtime.measure.peer`; it is told over stdin and answers on stdout.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from dataclasses import dataclass
from typing import BinaryIO

import torch

from runtime.chunk_models.chunk_model import Chunk
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.weights import load_bundled
from runtime.measure.neighbours import Neighbours, largest
from runtime.measure.occupants import ModelOccupant, Occupant, RingOccupant
from runtime.measure.one_layer import mark_of, one_layer
from runtime.measure.peer_messages import (
    ASKED,
    Answered,
    Flat,
    Made,
    Mark,
    Order,
    Said,
    Setup,
    Watch,
    Watched,
    read,
    write,
)
from runtime.state.arena import Arena
from runtime.state.ranges import round_up
from runtime.transfer.attempt import OpenReceiving, OpenSending, SendRound, StopLane
from runtime.transfer.cuda_ipc import CudaIpcWay
from runtime.transfer.gloo import gloo_way
from runtime.transfer.lanes import Lanes
from runtime.transfer.messages import Way
from runtime.transfer.nccl import nccl_way
from runtime.transfer.pair_transport import PairWay
from runtime.transfer.tcp import TcpWay
from runtime.transfer.ways import Approach
from runtime.transfer.wire import Patience
from runtime.worker.events import Action, Adopt, ChunkEnded, Event, Forget, OpenSlot, Say, SlotReady
from runtime.worker.sessions import SessionTable

FLAT_S = 120.0  # for one flat send of any size
_INCARNATION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """Nobody asks any more."""


class Peer:
    """One thread decides and computes; another reads; lanes have theirs."""

    def __init__(self, setup: Setup, answers: BinaryIO) -> None:
        self._setup, self._answers = setup, answers
        model = TransformerChunkModel(load_bundled(), setup.device) if setup.neighbours else None
        beside_bytes = 0 if model is None else setup.neighbours * round_up(largest(model).state_bytes)
        self._arena = Arena(setup.arena_bytes + beside_bytes, setup.device)
        self._neighbours = None if model is None else Neighbours(self._arena, model, setup.neighbours)
        host = Arena(round_up(1))
        self._table = SessionTable(self._arena.blocks, host.blocks, incarnation=_INCARNATION)
        self.inbox: queue.Queue[Event | Flat | Order | Watch | _Closed] = queue.Queue()
        self._occupant = self._made_occupant()
        store = ("127.0.0.1", setup.store_port)
        self._pairs: dict[Way, PairWay] = {"gloo": gloo_way(setup.name, store)}
        ways: dict[Way, Approach] = {"tcp": TcpWay(), **self._pairs}
        if setup.device != "cpu":
            self._pairs["nccl"] = nccl_way(setup.name, store, self._arena.device)
            ways |= {"nccl": self._pairs["nccl"], "cuda-ipc": CudaIpcWay()}
        self._lanes = Lanes(self._arena, ways, self.inbox.put, self._occupant.head)

    def run(self) -> None:
        """Until nobody asks any more."""
        self._answer(Mark(at_s=time.monotonic(), what="up"))
        next_chunk_s = time.monotonic() + self._setup.chunk_s
        while True:
            match self._next(next_chunk_s):
                case None if time.monotonic() >= next_chunk_s and self._setup.chunk_s:
                    next_chunk_s = max(time.monotonic(), next_chunk_s + self._setup.chunk_s)
                    self._compute()
                case None if self._neighbours is not None:
                    self._neighbours.run_pass()
                case None:
                    """Not yet."""
                case _Closed():
                    break
                case Order() as order:
                    self._do(self._table.command(order.command, time.monotonic()))
                case Flat() as flat:
                    self._flat(flat)
                case Watch():
                    assert self._neighbours is not None, "nobody is there to be watched"
                    self._answer(Watched(at_s=time.monotonic(), chunks_s=self._neighbours.taken()))
                case event:
                    self._do(self._table.handle(event, time.monotonic()))
        self._lanes.close()
        for way in self._pairs.values():
            way.pairs.close()

    def _next(self, next_chunk_s: float) -> Event | Flat | Order | Watch | _Closed | None:
        """What is told; None when nothing is, and there is something to compute."""
        wait_s = max(0.0, next_chunk_s - time.monotonic()) if self._setup.chunk_s else None
        try:
            return self.inbox.get(timeout=wait_s) if self._neighbours is None else self.inbox.get_nowait()
        except queue.Empty:
            return None

    def _compute(self) -> None:
        """How long a chunk takes does not matter here, but to the neighbours."""
        runnable = self._table.runnable
        self._table.begin_round(runnable)
        for session_id in runnable:
            dirty = self._occupant.chunk(session_id)
            if self._arena.device.type == "cuda":
                torch.cuda.synchronize()
            self._do(self._table.handle(ChunkEnded(session_id=session_id, dirty=dirty), time.monotonic()))

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Say():
                    self._answer(Said(at_s=time.monotonic(), report=action.report))
                case OpenSlot():
                    self._occupant.open(action.session_id, action.block)
                    self.inbox.put(SlotReady(session_id=action.session_id))
                case Adopt():
                    self._occupant.adopt(action.session_id, action.block, action.head)
                case Forget():
                    self._occupant.forget(action.session_id)
                case OpenSending():
                    self._answer(Mark(at_s=time.monotonic(), what="begun"))
                    self._lanes.act(action)
                case SendRound():
                    if action.last:
                        self._answer(Mark(at_s=time.monotonic(), what="frozen"))
                    self._lanes.act(action)
                case OpenReceiving() | StopLane():
                    self._lanes.act(action)

    def _flat(self, flat: Flat) -> None:
        patience = Patience(clock=time.monotonic, stopped=lambda: False)
        pairs = self._pairs[flat.way].pairs
        pair = pairs.lend(flat.peer, flat.incarnation, patience, time.monotonic() + FLAT_S)
        memory = self._arena.memory[: flat.size_bytes]
        began_s = time.monotonic()
        if flat.sends:
            work = pair.group.send([memory], pair.peer_rank, 1)
            self._answer(Mark(at_s=began_s, what="flat begun"))
        else:
            work = pair.group.recv([memory], pair.peer_rank, 1)
            self._answer(Mark(at_s=began_s, what="posted"))
        work.wait()
        if self._arena.device.type == "cuda":
            torch.cuda.synchronize()
        self._answer(Mark(at_s=time.monotonic(), what="flat ended"))
        pairs.give_back(pair, sound=True)

    def _made_occupant(self) -> Occupant:
        memory, layer_of = self._arena.memory, self._setup.layer_of
        if not layer_of:
            return RingOccupant(memory, self._setup.dirty_share)
        model = one_layer(layer_of, self._setup.device)
        return ModelOccupant(memory, model, self._made)

    def _made(self, chunk: Chunk) -> None:
        self._answer(Made(at_s=time.monotonic(), number=chunk.number, mark=mark_of(chunk)))

    def _answer(self, answer: Answered) -> None:
        write(self._answers, answer)


def main() -> int:
    """0 when the other side closes the pipe."""
    torch.set_num_threads(1)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    first = read(asked)
    setup = ASKED.decode(first) if first is not None else None
    assert isinstance(setup, Setup), "the first message must be a Setup"
    peer = Peer(setup, answers)

    def listen() -> None:
        while (body := read(asked)) is not None:
            told = ASKED.decode(body)
            assert not isinstance(told, Setup), "there is one Setup"
            peer.inbox.put(told)
        peer.inbox.put(_Closed())

    threading.Thread(target=listen, name="listen", daemon=True).start()
    peer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
