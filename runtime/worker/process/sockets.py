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
from runtime.worker.process.inbox import Inbox
from runtime.worker.process.messages import FRAME_BYTES_MAX, FromWorker, encoded, to_worker
from runtime.worker.process.outbox import Outbox

COMMANDS_MAX = 1024  # high-water marks, in messages
REPORTS_MAX = 1024
CHUNKS_MAX = 8
BATCH_MAX = 64  # messages that are taken at once before the other sockets have their turn
PING_MS, PONG_MS = 1000, 5000  # of the connections; a peer that has stopped is given up after that
LINGER_MS = 2000  # for what a socket has taken, when the worker stops


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
        context = zmq.Context()
        try:
            self._serve(context)
        except BaseException as error:  # noqa: BLE001 - the thread's outermost loop: whoever owns it stops the process
            failure = error
        finally:
            context.destroy(linger=LINGER_MS)
            self._ended(failure)

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        controller = context.socket(zmq.DEALER)
        controller.set(zmq.ROUTING_ID, f"{self._config.name}/{self._config.incarnation}".encode())
        self._set_up(controller, sent_max=REPORTS_MAX, received_max=COMMANDS_MAX)
        gateway = context.socket(zmq.PUSH)
        self._set_up(gateway, sent_max=CHUNKS_MAX, received_max=1)
        controller.connect(self._config.controller)
        gateway.connect(self._config.gateway)
        poller = zmq.Poller()
        poller.register(self._waker.ours.fileno(), zmq.POLLIN)
        next_heartbeat_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            self._send(controller, gateway)
            if now_s >= next_heartbeat_s:
                next_heartbeat_s = now_s + self._config.heartbeat_s
                _try_to_send(controller, encoded(self._heartbeat(now_s, self.dropped)))
            if self._stop_s is not None and (self._outbox.is_empty or now_s >= self._stop_s):
                return
            self._register(poller, controller, gateway)
            next_s = next_heartbeat_s if self._stop_s is None else min(next_heartbeat_s, self._stop_s)
            ready = dict(poller.poll(math.ceil(max(0.0, next_s - time.monotonic()) * 1000)))
            if self._waker.ours.fileno() in ready:
                self._waker.calm()
            if ready.get(controller, 0) & zmq.POLLIN:
                self._receive(controller)

    def _set_up(self, made: zmq.Socket[bytes], *, sent_max: int, received_max: int) -> None:
        made.set(zmq.SNDHWM, sent_max)
        made.set(zmq.RCVHWM, received_max)
        made.set(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        made.set(zmq.IMMEDIATE, 1)  # nothing is queued for somebody who is not there
        made.set(zmq.LINGER, LINGER_MS)
        made.set(zmq.HEARTBEAT_IVL, PING_MS)
        made.set(zmq.HEARTBEAT_TIMEOUT, PONG_MS)
        made.set(zmq.HEARTBEAT_TTL, PONG_MS)
        made.set(zmq.RECONNECT_IVL, 50)
        made.set(zmq.RECONNECT_IVL_MAX, 1000)
        keys = self._config.keys
        if keys is not None:
            made.set(zmq.CURVE_PUBLICKEY, keys.public)
            made.set(zmq.CURVE_SECRETKEY, keys.secret)
            made.set(zmq.CURVE_SERVERKEY, keys.server)

    def _register(self, poller: zmq.Poller, controller: zmq.Socket[bytes], gateway: zmq.Socket[bytes]) -> None:
        hears = self._inbox.has_room and not self._outbox.is_crowded
        says = self._outbox.report() is not None
        poller.register(controller, (zmq.POLLIN if hears else 0) | (zmq.POLLOUT if says else 0))
        poller.register(gateway, zmq.POLLOUT if self._outbox.chunk() is not None else 0)

    def _send(self, controller: zmq.Socket[bytes], gateway: zmq.Socket[bytes]) -> None:
        for _ in range(BATCH_MAX):
            frame = self._outbox.report()
            if frame is None or not _try_to_send(controller, frame):
                break
            self._outbox.report_sent()
        for _ in range(BATCH_MAX):
            frame = self._outbox.chunk()
            if frame is None or not _try_to_send(gateway, frame):
                break
            self._outbox.chunk_sent()

    def _receive(self, controller: zmq.Socket[bytes]) -> None:
        for _ in range(BATCH_MAX):
            if not self._inbox.has_room:
                return
            try:
                frames = controller.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = to_worker(frames)
            if message is None:
                self.dropped += 1
            else:
                self._inbox.offer(message)


def _try_to_send(made: zmq.Socket[bytes], frame: bytes) -> bool:
    """False if there is nobody, or nobody who reads."""
    try:
        made.send(frame, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True
