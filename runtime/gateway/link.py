"""The thread that owns the gateway's ZeroMQ sockets: one where workers connect, one to the controller.

Decides when a socket is read and written, and what is dropped; must never know what a message means.

Nothing blocks and nothing piles up: while the gateway has not taken what was heard, nobody is listened to, and chunks
wait at their workers; what cannot be sent is dropped, because everything that the gateway says is said again.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import zmq

from runtime.gateway import messages as m
from runtime.gateway.config import GatewayConfig
from runtime.gateway.session import Outgoing
from runtime.gateway.workers import CHUNK_BYTES_MAX, ToOwner, from_worker
from runtime.security.doorkeeper import Doorkeeper
from runtime.security.listening import Guard, ListeningBounds, endpoint, listen
from runtime.transfer.messages import UNREADABLE
from runtime.worker.process.connection import LINGER_MS, Connection, Socket
from runtime.worker.process.messages import ToGateway
from traces.errors import BadInputError

CHUNKS_MAX = 8  # high-water marks, in messages, of each worker
SAID_MAX = 1024
HEARD_MAX = 4096  # from the controller
BATCH_MAX = 64  # messages that are taken at once from a socket
UNTAKEN_MAX = 256  # messages that were heard and that the gateway has not taken yet
OUTBOX_MAX = 32_768  # messages that wait for the thread
DOMAIN = "workers"  # whose list says who is let in


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was heard at once. `reconnected`: the connection to the controller has begun, first or anew."""

    reconnected: bool
    from_controller: tuple[m.ToGateway, ...]
    from_workers: tuple[ToGateway, ...]

    @property
    def size(self) -> int:
        return len(self.from_controller) + len(self.from_workers)


class Link(threading.Thread):
    """`heard` is called in the thread; whoever has taken a batch says so with `taken`.

    `ended` is called when the thread is over, with what has ended it if that was a bug. Raises `BadInputError` where
    nobody can listen.
    """

    def __init__(
        self,
        config: GatewayConfig,
        heard: Callable[[Batch], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        super().__init__(name="link", daemon=True)
        self._heard, self._ended = heard, ended
        self._context: zmq.Context[Socket] = zmq.Context()
        self._door = None if config.worker_keys is None else Doorkeeper(self._context, {DOMAIN: config.worker_keys})
        try:
            self._workers = _for_workers(self._context, self._door, config)
        except BaseException:
            self._let_go(linger_ms=0)
            raise
        to_controller: Socket = self._context.socket(zmq.DEALER)
        to_controller.set(zmq.ROUTING_ID, f"{config.name}/{config.since}".encode())
        self._controller = Connection(
            to_controller, config.controller, config.keys, sent_max=SAID_MAX, received_max=HEARD_MAX
        )
        address = f"inproc://wake-{id(self)}"
        self._woken: Socket = self._context.socket(zmq.PAIR)
        self._woken.bind(address)
        self._waker: Socket = self._context.socket(zmq.PAIR)  # used by whoever calls `say`: one thread
        self._waker.connect(address)
        self._lock = threading.Lock()
        self._outbox: deque[Outgoing] = deque()
        self._untaken = 0
        self._hears_workers = self._stopping = False
        self.dropped = 0  # messages that were none, and those that nobody could be told

    @property
    def workers_address(self) -> str:
        return endpoint(self._workers)

    def say(self, messages: Iterable[Outgoing]) -> None:
        """Used by one thread."""
        with self._lock:
            for message in messages:
                if len(self._outbox) < OUTBOX_MAX:
                    self._outbox.append(message)
                else:
                    self.dropped += 1
        self._wake()

    def taken(self, batch: Batch, *, hears_workers: bool) -> None:
        """Used by the thread that calls `say`. `hears_workers`: their sessions are known, so that chunks find them."""
        with self._lock:
            self._untaken -= batch.size
        self._hears_workers = hears_workers
        self._wake()

    def stop(self) -> None:
        """Send what is there, and end."""
        self._stopping = True
        self._wake()
        self.join(2 * LINGER_MS / 1000 + 1.0)

    def run(self) -> None:
        failure: BaseException | None = None
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost loop: whoever owns it stops the process
            failure = error
        finally:
            self._waker.close(0)
            self._let_go(linger_ms=LINGER_MS)
            self._ended(failure)

    def _let_go(self, *, linger_ms: int) -> None:
        if self._door is not None:
            self._door.close()
        self._context.destroy(linger=linger_ms)

    def _wake(self) -> None:
        with contextlib.suppress(zmq.ZMQError):  # woken already; or the thread has ended
            self._waker.send(b"", zmq.NOBLOCK)

    def _serve(self) -> None:
        poller = zmq.Poller()
        for watched in (self._woken, self._controller.monitor):
            poller.register(watched, zmq.POLLIN)
        while True:
            self._send()
            if self._stopping:
                return
            hears = self._untaken < UNTAKEN_MAX
            poller.register(self._controller.socket, zmq.POLLIN if hears else 0)
            poller.register(self._workers, zmq.POLLIN if hears and self._hears_workers else 0)
            again_s = self._controller.again_s
            wait_ms = None if again_s is None else math.ceil(max(0.0, again_s - time.monotonic()) * 1000)
            ready = dict(poller.poll(wait_ms))
            if self._woken in ready:
                _emptied(self._woken)
            from_controller = self._from_controller() if self._controller.socket in ready else ()
            from_workers = self._from_workers() if self._workers in ready else ()
            self._controller.look(time.monotonic())
            # A connection that has ended leaves `again_s`; one that has begun takes it away.
            reconnected = self._controller.monitor in ready and self._controller.again_s is None
            batch = Batch(reconnected=reconnected, from_controller=from_controller, from_workers=from_workers)
            if batch.size or reconnected:
                with self._lock:
                    self._untaken += batch.size
                self._heard(batch)

    def _send(self) -> None:
        while True:
            with self._lock:
                if not self._outbox:
                    return
                message = self._outbox.popleft()
            if not (self._to_worker(message) if isinstance(message, ToOwner) else self._to_controller(message)):
                self.dropped += 1

    def _to_controller(self, message: m.FromGateway) -> bool:
        return self._controller.try_to_send(m.encoded(message))

    def _to_worker(self, message: ToOwner) -> bool:
        """False if it is not there, or does not read."""
        try:
            self._workers.send_multipart([message.address.routing_id, message.frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def _from_controller(self) -> tuple[m.ToGateway, ...]:
        found: list[m.ToGateway] = []
        for _ in range(BATCH_MAX):
            try:
                frames = self._controller.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                found.append(m.to_gateway(frames[0] if len(frames) == 1 else b""))
            except UNREADABLE:
                self.dropped += 1
        return tuple(found)

    def _from_workers(self) -> tuple[ToGateway, ...]:
        found: list[ToGateway] = []
        for _ in range(BATCH_MAX):
            try:
                routing_id, *frames = self._workers.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            message = from_worker(routing_id.bytes, frames[0].bytes) if len(frames) == 1 else None
            if message is None or not self._is_its_own(message.worker, frames[0]):
                self.dropped += 1
            else:
                found.append(message)
        return tuple(found)

    def _is_its_own(self, worker: str, frame: zmq.Frame) -> bool:
        """Where there are keys, a worker is who its key says."""
        return self._door is None or self._door.name_of(DOMAIN, frame) == worker


def _emptied(woken: Socket) -> None:
    with contextlib.suppress(zmq.Again):
        while True:
            woken.recv(zmq.NOBLOCK)


def _for_workers(context: zmq.Context[Socket], door: Doorkeeper | None, config: GatewayConfig) -> Socket:
    guard = None
    if door is not None:
        assert config.listening_keys is not None, "who is let in has keys to speak with"
        guard = Guard(keys=config.listening_keys, door=door, domain=DOMAIN)
    bounds = ListeningBounds(received_max=CHUNKS_MAX, sent_max=SAID_MAX, frame_bytes_max=CHUNK_BYTES_MAX)
    try:
        made: Socket = listen(context, zmq.ROUTER, "--workers", config.workers, guard=guard, bounds=bounds)
    except zmq.ZMQError as error:
        raise BadInputError.of("--workers", f"{config.workers} cannot be listened at: {error}") from None
    return made
