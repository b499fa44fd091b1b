"""States over a process group of two workers.

Decides in which order parts are handed to the group, and how many at once; must never know which backend it is.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from runtime.state.arena import part
from runtime.state.ranges import Range, Ranges, cut
from runtime.transfer.messages import Route
from runtime.transfer.pairs import Pair, Pairs
from runtime.transfer.transport import NOTE_BYTES_MAX, PART_BYTES, PartDone, TransferError, Transport
from runtime.transfer.wire import Patience

PARTS_MAX = 3  # handed over and not done, so that some travel while the checksum of another is computed
_TAG = 0
_LENGTH_BYTES = 8


class Backend(Protocol):
    """What differs between the backends of torch."""

    device: torch.device  # where notes have to be

    def wait(self, work: Any, patience: Patience, end_s: float) -> None:
        """Until a send or receive is done; `TransferError` otherwise."""
        ...


class PairTransport:
    """One transfer over a pair that is lent for it."""

    def __init__(self, pairs: Pairs, pair: Pair, backend: Backend, patience: Patience) -> None:
        self._pairs, self._pair, self._backend, self._patience = pairs, pair, backend, patience
        self._posted = 0  # and not waited for with success

    def send_note(self, note: bytes, end_s: float) -> None:
        assert 0 < len(note) <= NOTE_BYTES_MAX, f"a note of {len(note)} bytes must have 1 to {NOTE_BYTES_MAX}"
        length = torch.tensor([len(note)], dtype=torch.int64).view(torch.uint8)
        body = torch.frombuffer(bytearray(note), dtype=torch.uint8)
        for tensor in (length, body):
            self._all([tensor.to(self._backend.device)], end_s, sends=True)

    def receive_note(self, end_s: float) -> bytes:
        length = torch.zeros(_LENGTH_BYTES, dtype=torch.uint8, device=self._backend.device)
        self._all([length], end_s, sends=False)
        count = int(length.cpu().view(torch.int64).item())
        if not 0 < count <= NOTE_BYTES_MAX:
            self._posted += 1  # nobody knows what the peer sends next
            raise TransferError("malformed", f"a note of {count} bytes must have 1 to {NOTE_BYTES_MAX}")
        body = torch.zeros(count, dtype=torch.uint8, device=self._backend.device)
        self._all([body], end_s, sends=False)
        return body.cpu().numpy().tobytes()

    def send(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None:
        """The checksum of a part is computed while the part travels."""
        under_way: deque[Any] = deque()
        try:
            for span in cut(ranges, PART_BYTES):
                under_way.append(self._post(part(memory, span), sends=True))
                part_done(span)
                while len(under_way) >= PARTS_MAX:
                    self._wait(under_way.popleft(), end_s)
            while under_way:
                self._wait(under_way.popleft(), end_s)
        finally:
            under_way.clear()  # a traceback must not keep buffers registered

    def receive(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None:
        """The group always has a part to fill while the checksum of another is computed."""
        under_way: deque[tuple[Any, Range]] = deque()
        spans = cut(ranges, PART_BYTES)
        try:
            for span in islice(spans, PARTS_MAX):
                under_way.append((self._post(part(memory, span), sends=False), span))
            while under_way:
                work, arrived = under_way.popleft()
                self._wait(work, end_s)
                for span in islice(spans, 1):
                    under_way.append((self._post(part(memory, span), sends=False), span))
                part_done(arrived)
        finally:
            under_way.clear()

    def close(self, *, finished: bool) -> None:
        self._pairs.give_back(self._pair, sound=finished and self._posted == 0)

    def _all(self, tensors: list[Tensor], end_s: float, *, sends: bool) -> None:
        for tensor in tensors:
            self._wait(self._post(tensor, sends=sends), end_s)

    def _post(self, tensor: Tensor, *, sends: bool) -> Any:
        self._posted += 1
        group, peer = self._pair.group, self._pair.peer_rank
        try:
            return group.send([tensor], peer, _TAG) if sends else group.recv([tensor], peer, _TAG)
        except RuntimeError as error:
            raise TransferError("lost", str(error).partition("\n")[0]) from None

    def _wait(self, work: Any, end_s: float) -> None:
        self._patience.check()
        self._backend.wait(work, self._patience, self._patience.until(end_s))
        self._posted -= 1


class PairPosted:
    """A target that meets its source at the store: there is nothing to listen at."""

    def __init__(self, way: PairWay, route: Route, patience: Patience) -> None:
        self._way, self.route, self._patience = way, route, patience

    def accept(self, end_s: float) -> Transport:
        return self._way.connect(self.route, self._patience, end_s)

    def close(self) -> None:
        """Nothing waits."""


class PairWay:
    """How a worker reaches others over pairs of one backend."""

    def __init__(self, pairs: Pairs, backend: Backend) -> None:
        self.pairs, self._backend = pairs, backend

    def post(self, route: Route, patience: Patience) -> PairPosted:
        return PairPosted(self, route, patience)

    def connect(self, route: Route, patience: Patience, end_s: float) -> Transport:
        pair = self.pairs.lend(route.peer, route.incarnation, patience, end_s)
        return PairTransport(self.pairs, pair, self._backend, patience)
