"""Copies of states between a worker's device and its host memory, for suspend and resume.

Decides on which thread or stream a copy runs, and how much may be in flight; must never know what a layer computes.

Layer by layer: who computes layer l waits for its own bytes only. `copies_for` picks the way that the device has.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from runtime.state.arena import part
from runtime.state.checksum import GranuleSums
from runtime.state.ranges import Range, Ranges, cut

COPIES_MAX = 4  # in flight per worker
_PIECE_BYTES = 16 << 20  # smaller ones cost switches between threads, larger ones leave the caches
_PIECES_MAX = 4
_POLL_S = 0.0005
CLOSE_S = 10.0  # for the copies that are under way when a worker ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """As many copies as may be are in flight."""

    copies_max: int

    def __str__(self) -> str:
        return f"{self.copies_max} copies are in flight, and no more may be"


class Copy(Protocol):
    """One copy under way; both blocks must stay where they are until it is done."""

    def done(self) -> bool:
        """Whether all bytes are there."""
        ...

    def wait(self, seconds: float) -> bool:
        """Until all bytes are there; False if that took longer."""
        ...

    def wait_layer(self, index: int, seconds: float) -> bool:
        """Make the caller (its thread, or its current stream) wait for one layer; False if that took longer."""
        ...


class Copies(Protocol):
    """The copies of one worker."""

    def begin(self, source: Tensor, target: Tensor, layers: Ranges, sums: GranuleSums | None = None) -> Copy | Busy:
        """Copy the layers of one block, in order; where there are sums, they are of what was read."""
        ...

    def close(self) -> None:
        """Wait for what is under way, and take nothing more."""
        ...


def copies_for(device: torch.device, copies_max: int = COPIES_MAX) -> Copies:
    """Streams for CUDA, one thread elsewhere."""
    return StreamCopies(device, copies_max) if device.type == "cuda" else ThreadCopies(copies_max)


class _ThreadCopy:
    def __init__(self, source: Tensor, target: Tensor, layers: Ranges, sums: GranuleSums | None) -> None:
        assert source.numel() == target.numel(), f"{source.numel()} bytes do not fit {target.numel()}"
        self.source, self.target, self.layers, self.sums = source, target, layers, sums
        self.there = [threading.Event() for _ in layers]
        self.all_there = threading.Event()

    def done(self) -> bool:
        return self.all_there.is_set()

    def wait(self, seconds: float) -> bool:
        return self.all_there.wait(seconds)

    def wait_layer(self, index: int, seconds: float) -> bool:
        return self.there[index].wait(seconds)


_Piece = tuple[_ThreadCopy, Range | None]  # None: the copy has no more


class ThreadCopies:
    """Plain copies, one after another, in a thread of their own; a second one sums what has just been read."""

    def __init__(self, copies_max: int = COPIES_MAX) -> None:
        self._copies_max = copies_max
        self._queue: queue.Queue[_ThreadCopy | None] = queue.Queue(copies_max + 1)  # the last place is for the end
        self._copied: queue.Queue[_Piece | None] = queue.Queue(_PIECES_MAX)
        self._in_flight: list[_ThreadCopy] = []
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._copy_all, "copies"), (self._sum_all, "sums of copies"))
        ]
        for thread in self._threads:
            thread.start()

    def begin(self, source: Tensor, target: Tensor, layers: Ranges, sums: GranuleSums | None = None) -> Copy | Busy:
        self._in_flight = [copy for copy in self._in_flight if not copy.done()]
        if len(self._in_flight) >= self._copies_max:
            return Busy(copies_max=self._copies_max)
        copy = _ThreadCopy(source, target, layers, sums)
        self._in_flight.append(copy)
        self._queue.put_nowait(copy)
        return copy

    def close(self) -> None:
        self._queue.put(None, timeout=CLOSE_S)
        for thread in self._threads:
            thread.join(CLOSE_S)

    def _copy_all(self) -> None:
        while (copy := self._queue.get()) is not None:
            for layer, there in zip(copy.layers, copy.there, strict=True):
                for piece in cut((layer,), _PIECE_BYTES):
                    part(copy.target, piece).copy_(part(copy.source, piece))
                    if copy.sums is not None:
                        self._copied.put((copy, piece))
                there.set()
            self._copied.put((copy, None))
        self._copied.put(None)

    def _sum_all(self) -> None:
        while (copied := self._copied.get()) is not None:
            copy, piece = copied
            if piece is None:
                copy.all_there.set()
            elif copy.sums is not None:
                copy.sums.add(copy.source, piece)


class _StreamCopy:
    def __init__(self, layers: int) -> None:
        self.events = [torch.cuda.Event() for _ in range(layers)]

    def done(self) -> bool:
        return not self.events or self.events[-1].query()

    def wait(self, seconds: float) -> bool:
        return wait_event(self.events[-1], seconds) if self.events else True

    def wait_layer(self, index: int, seconds: float) -> bool:  # noqa: ARG002 - the stream waits, not the caller
        torch.cuda.current_stream().wait_event(self.events[index])
        return True


class StreamCopies:
    """Asynchronous copies on a stream for each direction, with an event after each layer; not measured yet.

    Copies begin after what the caller's current stream has been given so far: a suspended state holds its last chunk.
    Whoever wants sums waits for the copy.
    """

    def __init__(self, device: torch.device, copies_max: int = COPIES_MAX) -> None:
        self._copies_max = copies_max
        self._out, self._back = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._in_flight: list[_StreamCopy] = []

    def begin(self, source: Tensor, target: Tensor, layers: Ranges, sums: GranuleSums | None = None) -> Copy | Busy:
        assert source.numel() == target.numel(), f"{source.numel()} bytes do not fit {target.numel()}"
        self._in_flight = [copy for copy in self._in_flight if not copy.done()]
        if len(self._in_flight) >= self._copies_max:
            return Busy(copies_max=self._copies_max)
        copy = _StreamCopy(len(layers))
        stream = self._out if source.is_cuda else self._back
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            for span, there in zip(layers, copy.events, strict=True):
                part(target, span).copy_(part(source, span), non_blocking=True)
                there.record(stream)
            if sums is not None:
                device_memory = source if source.is_cuda else target
                for span in layers:
                    sums.add(device_memory, span)
        self._in_flight.append(copy)
        return copy

    def close(self) -> None:
        for copy in self._in_flight:
            copy.wait(CLOSE_S)


def wait_event(event: torch.cuda.Event, seconds: float) -> bool:
    """Poll: a synchronize cannot be given a deadline."""
    pause = threading.Event()
    rounds = max(1, int(seconds / _POLL_S))
    for _ in range(rounds):
        if event.query():
            return True
        pause.wait(_POLL_S)
    return bool(event.query())
