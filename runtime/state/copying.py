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
from runtime.state.checksum import GranuleSums, warm_up
from runtime.state.ranges import Ranges

COPIES_MAX = 4  # in flight per worker
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


class ThreadCopies:
    """Plain copies, one after another, in a thread of their own, which sums what it copies."""

    def __init__(self, copies_max: int = COPIES_MAX) -> None:
        warm_up()
        self._copies_max = copies_max
        self._queue: queue.Queue[_ThreadCopy | None] = queue.Queue(copies_max + 1)  # the last place is for the end
        self._in_flight: list[_ThreadCopy] = []
        self._thread = threading.Thread(target=self._copy_all, name="copies", daemon=True)
        self._thread.start()

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
        self._thread.join(CLOSE_S)

    def _copy_all(self) -> None:
        while (copy := self._queue.get()) is not None:
            for layer, there in zip(copy.layers, copy.there, strict=True):
                if copy.sums is None:
                    part(copy.target, layer).copy_(part(copy.source, layer))
                else:
                    copy.sums.copy(copy.source, copy.target, layer)
                there.set()
            copy.all_there.set()


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
