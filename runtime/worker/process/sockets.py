"""The thread that owns a worker's sockets: one to the controller, one to the gateway.

Decides when a socket is read and written, and what is dropped; must never know what a message means.

Nothing blocks: while the controller does not read, reports wait in the outbox and heartbeats are left out; while the
inbox or the outbox is full, the controller is not listened to, and its messages wait at its own end.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable

import zmq

from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.connection import LINGER_MS, Connection, Socket
from runtime.worker.process.inbox import Inbox
from runtime.worker.process.messages import FromWorker, encoded, to_worker
from runtime.worker.process.outbox import Outbox

COMMANDS_MAX = 1024  # high-water marks, in messages
REPORTS_MAX = 1024
CHUNKS_MAX = 8
BATCH_MAX = 64  # messages that are taken at once before the other sockets have their turn


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
            self._serve(context)
        except BaseException as error:  # noqa: BLE001 - the thread's outermost loop: whoever owns it stops the process
            failure = error
        finally:
            context.destroy(linger=LINGER_MS)
            self._ended(failure)

    def _serve(self, context: zmq.Context[Socket]) -> None:
        controller, gateway = self._connect(context)
        poller = zmq.Poller()
        for watched in (self._waker.ours.fileno(), controller.monitor, gateway.monitor):
            poller.register(watched, zmq.POLLIN)
        next_heartbeat_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            self._send(controller, gateway)
            if now_s >= next_heartbeat_s:
                next_heartbeat_s = now_s + self._config.heartbeat_s
                controller.try_to_send(encoded(self._heartbeat(now_s, self.dropped)))
            if self._stop_s is not None and (self._outbox.is_empty or now_s >= self._stop_s):
                return
            self._register(poller, controller, gateway)
            ends_s = (next_heartbeat_s, self._stop_s, controller.again_s, gateway.again_s)
            next_s = min(end_s for end_s in ends_s if end_s is not None)
            ready = dict(poller.poll(math.ceil(max(0.0, next_s - time.monotonic()) * 1000)))
            if self._waker.ours.fileno() in ready:
                self._waker.calm()
            if ready.get(controller.socket, 0) & zmq.POLLIN:
                self._receive(controller)
            for connection in (controller, gateway):
                connection.look(time.monotonic())

    def _connect(self, context: zmq.Context[Socket]) -> tuple[Connection, Connection]:
        config = self._config
        to_controller: Socket = context.socket(zmq.DEALER)
        to_controller.set(zmq.ROUTING_ID, f"{config.name}/{config.incarnation}".encode())
        controller = Connection(
            to_controller, config.controller, config.keys, sent_max=REPORTS_MAX, received_max=COMMANDS_MAX
        )
        to_gateway: Socket = context.socket(zmq.PUSH)
        return controller, Connection(to_gateway, config.gateway, config.keys, sent_max=CHUNKS_MAX, received_max=1)

    def _register(self, poller: zmq.Poller, controller: Connection, gateway: Connection) -> None:
        hears = self._inbox.has_room and not self._outbox.is_crowded
        says = self._outbox.report() is not None
        poller.register(controller.socket, (zmq.POLLIN if hears else 0) | (zmq.POLLOUT if says else 0))
        poller.register(gateway.socket, zmq.POLLOUT if self._outbox.chunk() is not None else 0)

    def _send(self, controller: Connection, gateway: Connection) -> None:
        for _ in range(BATCH_MAX):
            frame = self._outbox.report()
            if frame is None or not controller.try_to_send(frame):
                break
            self._outbox.report_sent()
        for _ in range(BATCH_MAX):
            frame = self._outbox.chunk()
            if frame is None or not gateway.try_to_send(frame):
                break
            self._outbox.chunk_sent()

    def _receive(self, controller: Connection) -> None:
        for _ in range(BATCH_MAX):
            if not self._inbox.has_room:
                return
            try:
                frames = controller.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = to_worker(frames)
            if message is None:
                self.dropped += 1
            else:
                self._inbox.offer(message)
