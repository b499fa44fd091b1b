"""The thread that owns a worker's sockets: one to the controller, one to the gateway.

Decides when a socket is read and written, and what is dropped; must never know what a message means.

Nothing blocks, and neither connection waits for the other: while a peer does not read, what is for it waits in the
outbox, and heartbeats are left out; while the inbox is full or too many words wait for a peer, it is not listened to,
and its messages wait at its own end.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import zmq

from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.connection import LINGER_MS, Connection, Socket
from runtime.worker.process.inbox import Inbox, Message
from runtime.worker.process.messages import FromWorker, encoded, from_controller, from_gateway
from runtime.worker.process.outbox import Outbox, Peer

SENT_MAX: Mapping[Peer, int] = {"controller": 1024, "gateway": 8}  # high-water marks, in messages: those are chunks
RECEIVED_MAX = 1024
BATCH_MAX = 64  # messages that are taken at once before the other socket has its turn

_READ: Mapping[Peer, Callable[[Iterable[bytes]], Message | None]] = {
    "controller": from_controller,
    "gateway": from_gateway,
}


class Waker:
    """Wakes a thread that polls sockets, from any other."""

    def __init__(self) -> None:
        self._theirs, self.ours = socket.socketpair()
        for end in (self._theirs, self.ours):
            end.setblocking(False)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # woken already; or it has ended
            self._theirs.send(b"w")

    def calm(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.ours.recv(4096)

    def close(self) -> None:
        self._theirs.close()
        self.ours.close()


class SocketThread(threading.Thread):
    """`heartbeat` makes one; `ended` is called when the thread is over, with what has ended it if that was a bug."""

    def __init__(
        self,
        config: WorkerConfig,
        inbox: Inbox,
        outbox: Outbox,
        waker: Waker,
        heartbeat: Callable[[float, int], FromWorker],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        super().__init__(name="sockets", daemon=True)
        self._config, self._inbox, self._outbox, self._waker = config, inbox, outbox, waker
        self._heartbeat, self._ended = heartbeat, ended
        self._stop_s: float | None = None
        self.dropped = 0

    def stop(self, wait_s: float) -> None:
        """Send what is there, but no longer than that, and end."""
        self._stop_s = time.monotonic() + wait_s
        self._waker.wake()
        self.join(wait_s + LINGER_MS / 1000 + 1.0)

    def run(self) -> None:
        failure: BaseException | None = None
        context: zmq.Context[Socket] = zmq.Context()
        try:
            connections = self._connect(context)  # until the context closes them
            self._serve(connections)
        except BaseException as error:  # noqa: BLE001 - the thread's outermost loop: whoever owns it stops the process
            failure = error
        finally:
            context.destroy(linger=LINGER_MS)
            self._ended(failure)

    def _serve(self, connections: Mapping[Peer, Connection]) -> None:
        controller = connections["controller"]
        poller = zmq.Poller()
        poller.register(self._waker.ours.fileno(), zmq.POLLIN)
        for connection in connections.values():
            poller.register(connection.monitor, zmq.POLLIN)
        next_heartbeat_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            for peer, connection in connections.items():
                self._send(peer, connection)
            if now_s >= next_heartbeat_s:
                next_heartbeat_s = now_s + self._config.heartbeat_s
                controller.try_to_send(encoded(self._heartbeat(now_s, self.dropped)))
            if self._stop_s is not None and (self._outbox.is_empty or now_s >= self._stop_s):
                return
            for peer, connection in connections.items():
                poller.register(connection.socket, self._awaited(peer))
            ends_s = (next_heartbeat_s, self._stop_s, *(connection.again_s for connection in connections.values()))
            next_s = min(end_s for end_s in ends_s if end_s is not None)
            ready = dict(poller.poll(math.ceil(max(0.0, next_s - time.monotonic()) * 1000)))
            if self._waker.ours.fileno() in ready:
                self._waker.calm()
            for peer, connection in connections.items():
                if ready.get(connection.socket, 0) & zmq.POLLIN:
                    self._receive(peer, connection)
                connection.look(time.monotonic())

    def _connect(self, context: zmq.Context[Socket]) -> dict[Peer, Connection]:
        config = self._config
        addresses: dict[Peer, str] = {"controller": config.controller, "gateway": config.gateway}
        connections: dict[Peer, Connection] = {}
        for peer, address in addresses.items():
            made: Socket = context.socket(zmq.DEALER)
            made.set(zmq.ROUTING_ID, f"{config.name}/{config.incarnation}".encode())
            connections[peer] = Connection(
                made, address, config.keys, sent_max=SENT_MAX[peer], received_max=RECEIVED_MAX
            )
        return connections

    def _awaited(self, peer: Peer) -> int:
        hears = self._inbox.has_room and not self._outbox.is_crowded(peer)
        says = self._outbox.next_for(peer) is not None
        return (zmq.POLLIN if hears else 0) | (zmq.POLLOUT if says else 0)

    def _send(self, peer: Peer, connection: Connection) -> None:
        for _ in range(BATCH_MAX):
            frame = self._outbox.next_for(peer)
            if frame is None or not connection.try_to_send(frame):
                break
            self._outbox.taken_for(peer)

    def _receive(self, peer: Peer, connection: Connection) -> None:
        for _ in range(BATCH_MAX):
            if not self._inbox.has_room:
                return
            try:
                frames = connection.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = _READ[peer](frames)
            if message is None:
                self.dropped += 1
            else:
                self._inbox.offer(message)
