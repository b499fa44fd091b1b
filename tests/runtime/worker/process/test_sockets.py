"""Two connections that do not wait for each other: a peer that does not read is not listened to, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import zmq

from runtime.worker.messages import Steered
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.inbox import Heard, Inbox
from runtime.worker.process.messages import (
    AskInventory,
    Credit,
    FromController,
    FromGateway,
    FromWorker,
    Goodbye,
    Heartbeat,
    Told,
    encoded,
)
from runtime.worker.process.outbox import Outbox, Peer
from runtime.worker.process.sockets import SocketThread, Waker

PATIENCE_S = 60.0
WORDS_MAX = 4
LONG = "x" * (1 << 16)  # some hundred fill what sockets and the kernel hold
PEERS: tuple[Peer, ...] = ("controller", "gateway")
IDENTITY = b"w/3"


class Ends:
    """Sockets of a worker, and both peers, who read when they are told to."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sockets: dict[Peer, zmq.Socket[bytes]] = {peer: self._context.socket(zmq.ROUTER) for peer in PEERS}
        addresses: dict[Peer, str] = {}
        for peer, made in self.sockets.items():
            made.set(zmq.ROUTER_MANDATORY, 1)
            made.set(zmq.RCVHWM, 1)
            made.set(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
            addresses[peer] = f"tcp://127.0.0.1:{made.bind_to_random_port('tcp://127.0.0.1')}"
        self.failures: list[BaseException | None] = []
        self._waker = Waker()
        self.inbox = Inbox(self._waker.wake)
        self.outbox = Outbox(self._waker.wake, lambda: None, dict.fromkeys(PEERS, WORDS_MAX))
        config = WorkerConfig(
            name="w",
            incarnation=3,
            controller=addresses["controller"],
            gateway=addresses["gateway"],
            device_bytes=0,
            host_bytes=0,
            heartbeat_s=0.05,
        )
        self._thread = SocketThread(config, self.inbox, self.outbox, self._waker, self._heartbeat, self.failures.append)
        self._thread.start()
        for peer in PEERS:
            until(partial(self.tries, peer, 0))
            self.heard(peer, 1)

    def close(self) -> None:
        self._context.destroy(linger=0)
        self._thread.stop(0.1)
        self._waker.close()

    def tries(self, peer: Peer, number: int) -> bool:
        """Something that the peer says; whether the worker is there."""
        fence = {"controller_epoch": 1, "incarnation": 3}
        message: FromController | FromGateway
        if peer == "controller":
            message = AskInventory(**fence, question=number)
        else:
            message = Credit(**fence, session_id="s", lineage=0, up_to=number)
        try:
            self.sockets[peer].send_multipart([IDENTITY, encoded(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def say(self, peer: Peer, text: str = "") -> None:
        """A word of the worker, for that peer."""
        if peer == "controller":
            self.outbox.say(Goodbye(worker="w", incarnation=3, reason=text))
        else:
            steered = Steered(session_id=text, lineage=0, serial=1)
            self.outbox.tell(Told(worker="w", incarnation=3, controller_epoch=1, report=steered))

    def crowd(self, peer: Peer) -> int:
        """As many long words as it takes until they wait for the peer, though its socket has taken all that it can."""
        count = 0
        end_s = time.monotonic() + PATIENCE_S
        while not self._is_stuck(peer):
            assert time.monotonic() < end_s, f"{count} words do not fill the sockets"
            self.say(peer, LONG)
            count += 1
        return count

    def _is_stuck(self, peer: Peer) -> bool:
        since_s = time.monotonic()
        while self.outbox.is_crowded(peer):
            if time.monotonic() > since_s + 0.3:
                return True
            time.sleep(0.01)
        return False

    def heard(self, peer: Peer, count: int) -> list[int]:
        """The numbers of what the peer has said, as soon as there are so many; nothing of the other may come."""
        numbers: list[int] = []

        def there() -> bool:
            numbers.extend(number_of(peer, heard) for heard in self.inbox.take(0.01))
            return len(numbers) >= count

        until(there)
        return numbers

    def reads(self, peer: Peer, count: int) -> None:
        """So many words, besides heartbeats."""
        while count:
            _, frame = self.sockets[peer].recv_multipart()
            count -= b"Heartbeat" not in frame[:16]

    def _heartbeat(self, now_s: float, dropped: int) -> FromWorker:
        return Heartbeat(
            worker="w",
            incarnation=3,
            controller_epoch=1,
            sent_s=now_s,
            turn=0,
            turn_age_s=0.0,
            leased=True,
            dropped=dropped,
            chunks=(),
        )


def number_of(peer: Peer, heard: Heard) -> int:
    if isinstance(heard, AskInventory) and peer == "controller":
        return heard.question
    assert isinstance(heard, Credit), f"{heard} has come"
    assert peer == "gateway", f"{heard} has come"
    return heard.up_to


def until(there: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s, "it does not come to that"
        time.sleep(0.01)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()
    assert made.failures == [None]


@pytest.mark.parametrize(("peer", "other"), [PEERS, PEERS[::-1]])
def test_who_does_not_read_is_not_heard_until_it_reads_again_and_the_other_is(
    ends: Ends, peer: Peer, other: Peer
) -> None:
    waiting = ends.crowd(peer)
    assert all(ends.tries(peer, number) for number in (1, 2))
    for number in (1, 2, 3):
        assert ends.tries(other, number)
        assert ends.heard(other, 1) == [number]
        ends.say(other)
        ends.reads(other, 1)
    ends.reads(peer, waiting)
    assert ends.heard(peer, 2) == [1, 2]
