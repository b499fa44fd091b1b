"""Every transport moves exactly the ranges it is told to, ends at its deadline, and lets no stranger in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import torch
from torch._C._distributed_c10d import TCPStore

from runtime.chunk_models.wan_sizes import WAN_SIZES
from runtime.state.ranges import GRANULE_BYTES, Range, Ranges, bytes_in
from runtime.transfer.gloo import gloo_way
from runtime.transfer.greeting import STRANGERS_MAX
from runtime.transfer.messages import Route, Way
from runtime.transfer.pair_transport import PairWay
from runtime.transfer.tcp import TcpWay
from runtime.transfer.transport import NOTE_BYTES_MAX, TransferError, Transport
from runtime.transfer.ways import Approach, Posted
from runtime.transfer.wire import Patience
from tests.runtime.state.vast import vast_memory

BLOCK = 5 << 20
STALL_S, NEVER_S = 0.4, 60.0
SPANS: Ranges = (Range(0, 2 * GRANULE_BYTES), Range(5 * GRANULE_BYTES, 3 << 20), Range(BLOCK - GRANULE_BYTES, BLOCK))


def nothing(_: Range) -> None:
    """Nobody sums."""


@dataclass
class Side:
    """One worker's way of connecting, and whether it has given up."""

    way: Approach
    stopped: threading.Event = field(default_factory=threading.Event)
    stall_s: float = STALL_S

    @property
    def patience(self) -> Patience:
        return Patience(clock=time.monotonic, stopped=self.stopped.is_set, stall_s=self.stall_s)


class Ends:
    """Two connected ends in one process; calls of one of them run in the background."""

    def __init__(self, name: Way, source: Side, target: Side) -> None:
        self.name, self.source, self.target = name, source, target
        self.pool = ThreadPoolExecutor(2)
        self.incarnation = 0

    def post(self) -> tuple[Route, Future[Transport]]:
        self.incarnation += 1
        route = Route(way=self.name, peer="a", incarnation=self.incarnation)
        posted = self.target.way.post(route, self.target.patience)
        where = posted.route
        accepted = self.pool.submit(_accepted, posted)
        back = Route(way=self.name, peer="b", incarnation=self.incarnation, address=where.address, token=where.token)
        return back, accepted

    def connected(self) -> tuple[Transport, Transport]:
        route, accepted = self.post()
        sending = self.source.way.connect(route, self.source.patience, soon(5.0))
        return sending, accepted.result()

    def background(self, call: Callable[..., object], *arguments: object) -> Future[object]:
        return self.pool.submit(call, *arguments)


def _accepted(posted: Posted) -> Transport:
    try:
        return posted.accept(soon(5.0))
    finally:
        posted.close()


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


@pytest.fixture(scope="module")
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=5), False)


@pytest.fixture(params=["tcp", "gloo"])
def ends(request: pytest.FixtureRequest, store: TCPStore) -> Iterator[Ends]:
    if request.param == "tcp":
        found = Ends("tcp", Side(TcpWay()), Side(TcpWay()))
    else:
        # Another place at the store for each test: a pair is never made twice.
        address = ("127.0.0.1", store.port)
        names = [f"{side}{time.monotonic_ns()}" for side in "ab"]
        ways = [gloo_way(name, address, rendezvous_s=3.0) for name in names]
        found = Ends("gloo", Side(_Named(ways[0], names[1])), Side(_Named(ways[1], names[0])))
    yield found
    found.pool.shutdown()
    for side in (found.source, found.target):
        if isinstance(side.way, _Named):
            side.way.way.pairs.close()


class _Named:
    """A pair way whose peer's name is fixed."""

    def __init__(self, way: PairWay, peer: str) -> None:
        self.way, self._peer = way, peer

    def _route(self, route: Route) -> Route:
        return Route(way=route.way, peer=self._peer, incarnation=route.incarnation)

    def post(self, route: Route, patience: Patience) -> Posted:
        return self.way.post(self._route(route), patience)

    def connect(self, route: Route, patience: Patience, end_s: float) -> Transport:
        return self.way.connect(self._route(route), patience, end_s)


def test_ranges_arrive_and_nothing_else_is_touched(ends: Ends) -> None:
    sending, receiving = ends.connected()
    here = torch.randint(0, 256, (BLOCK,), dtype=torch.uint8)
    there = torch.randint(0, 256, (BLOCK,), dtype=torch.uint8)
    expected = there.clone()
    for start, end in SPANS:
        expected[start:end] = here[start:end]
    parts: list[Range] = []
    received = ends.background(receiving.receive, there, SPANS, parts.append, soon(5.0))
    sending.send(here, SPANS, nothing, soon(5.0))
    received.result()
    assert torch.equal(there, expected)
    assert bytes_in(tuple(parts)) == bytes_in(SPANS)
    for transport in (sending, receiving):
        transport.close(finished=True)


def test_ranges_far_behind_in_the_largest_state_arrive_where_they_belong(ends: Ends) -> None:
    size = WAN_SIZES["wan-14b-21"].cache_bytes
    sending, receiving = ends.connected()
    here, there = vast_memory(size), vast_memory(size)
    spans = tuple(Range(start - 2 * GRANULE_BYTES, start + GRANULE_BYTES) for start in (2**31, 2**32, 2**34))
    spans = (*spans, Range(size - (9 << 20), size))  # more than a part
    for start, end in spans:
        here[start:end] = torch.randint(0, 256, (end - start,), dtype=torch.uint8)
    received = ends.background(receiving.receive, there, spans, nothing, soon(30.0))
    sending.send(here, spans, nothing, soon(30.0))
    received.result()
    for start, end in spans:
        assert torch.equal(there[start:end], here[start:end])
        assert int(there[start - 1]) == 0
    for transport in (sending, receiving):
        transport.close(finished=True)


def test_notes_of_any_allowed_length_arrive_in_order(ends: Ends) -> None:
    sending, receiving = ends.connected()
    for note in (b"x", bytes(range(256)) * 100, b"y" * NOTE_BYTES_MAX):
        received = ends.background(receiving.receive_note, soon(5.0))
        sending.send_note(note, soon(5.0))
        assert received.result() == note
    for transport in (sending, receiving):
        transport.close(finished=True)


def test_silence_is_a_loss_after_the_stall_time_and_late_at_the_deadline(ends: Ends) -> None:
    for seconds, stall_s in ((NEVER_S, STALL_S), (0.1, NEVER_S)):
        ends.target.stall_s = stall_s
        sending, receiving = ends.connected()
        begun_s = time.monotonic()
        with pytest.raises(TransferError, match=r"late|lost"):
            receiving.receive_note(soon(seconds))
        assert time.monotonic() - begun_s < NEVER_S / 2
        for transport in (sending, receiving):
            transport.close(finished=False)


def test_whoever_gives_up_is_not_kept(ends: Ends) -> None:
    ends.target.stall_s = NEVER_S
    sending, receiving = ends.connected()
    received = ends.background(receiving.receive, torch.zeros(BLOCK, dtype=torch.uint8), SPANS, nothing, soon(NEVER_S))
    ends.target.stopped.set()
    begun_s = time.monotonic()
    with pytest.raises(TransferError):
        received.result()
    assert time.monotonic() - begun_s < NEVER_S / 2
    for transport in (sending, receiving):
        transport.close(finished=False)


def test_a_peer_that_goes_is_noticed(ends: Ends) -> None:
    sending, receiving = ends.connected()
    sending.close(finished=False)
    del sending
    with pytest.raises(TransferError, match="lost"):
        receiving.receive_note(soon(10.0))
    receiving.close(finished=False)


def test_a_source_that_never_comes_is_waited_for_until_the_deadline(ends: Ends) -> None:
    posted = ends.target.way.post(Route(way=ends.name, peer="a", incarnation=99), ends.target.patience)
    begun_s = time.monotonic()
    with pytest.raises(TransferError):
        posted.accept(soon(0.3))
    assert 0.25 < time.monotonic() - begun_s < NEVER_S / 2
    posted.close()


def _dialled(route: Route) -> socket.socket:
    host, port = route.address.split(":")
    return socket.create_connection((host, int(port)), timeout=5.0)


def test_strangers_are_turned_away_and_the_source_still_comes_in() -> None:
    ends = Ends("tcp", Side(TcpWay()), Side(TcpWay()))
    route, accepted = ends.post()
    with _dialled(route) as talker:
        talker.sendall(b"GET / HTTP/1.1\r\n\r\n".ljust(64))
        assert len(talker.recv(32)) == 32  # the nonce
        assert talker.recv(1) == b""  # turned away
    guess = Route(way="tcp", peer="b", incarnation=1, address=route.address, token=bytes(32))
    with pytest.raises(TransferError, match="lost"):
        ends.source.way.connect(guess, ends.source.patience, soon(5.0))
    sending = ends.source.way.connect(route, ends.source.patience, soon(5.0))
    receiving = accepted.result()
    sending.send_note(b"hello", soon(1.0))
    assert receiving.receive_note(soon(1.0)) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        _dialled(route)  # one connection, and no more
    for transport in (sending, receiving):
        transport.close(finished=True)
    ends.pool.shutdown()


def test_too_many_strangers_end_the_transfer() -> None:
    ends = Ends("tcp", Side(TcpWay()), Side(TcpWay()))
    route, accepted = ends.post()
    for _ in range(STRANGERS_MAX):
        with _dialled(route) as stranger:
            stranger.sendall(bytes(64))
            while stranger.recv(64):
                pass
    with pytest.raises(TransferError, match="refused"):
        accepted.result()
    ends.pool.shutdown()


def test_a_target_that_does_not_know_the_token_gets_no_state() -> None:
    """Somebody else listens at the address: the source turns away before it has sent anything but a proof."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def pretend() -> bytes:
            connection = server.accept()[0]
            with connection:
                connection.sendall(bytes(32))
                taken = connection.recv(64, socket.MSG_WAITALL)
                connection.sendall(bytes(32))
                return taken + connection.recv(1)

        pretended = pool.submit(pretend)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        side = Side(TcpWay())
        route = Route(way="tcp", peer="b", incarnation=1, address=address, token=bytes(range(32)))
        with pytest.raises(TransferError, match="refused"):
            side.way.connect(route, side.patience, soon(5.0))
        taken = pretended.result()
    assert len(taken) == 64
    assert route.token not in taken


@pytest.mark.parametrize(
    "frame",
    [
        b"EPO1\x01\0\0\0" + (1 << 40).to_bytes(8, "little"),  # far too long
        b"EPO1\x02\0\0\0" + (4).to_bytes(8, "little") + b"data",  # bytes where a note belongs
        b"EPO2\x01\0\0\0" + (4).to_bytes(8, "little") + b"note",
        bytes(64),
    ],
)
def test_malformed_frames_end_the_transfer(frame: bytes) -> None:
    ends = Ends("tcp", Side(TcpWay()), Side(TcpWay()))
    sending, receiving = ends.connected()
    sending._wire.send_bytes(frame, soon(1.0))  # type: ignore[attr-defined]
    with pytest.raises(TransferError, match="malformed"):
        receiving.receive_note(soon(1.0))
    for transport in (sending, receiving):
        transport.close(finished=False)
    ends.pool.shutdown()
