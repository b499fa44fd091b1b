"""One connection of a worker, with all bounds and deadlines set, that comes back after whatever has ended it.

Decides when to connect anew: libzmq does so by itself when a peer is gone, but not after what breaks the protocol, as
a message that is too long or another key does. Must never know what travels.
"""

from __future__ import annotations

import contextlib

import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.worker.process.addresses import CurveKeys
from runtime.worker.process.messages import FRAME_BYTES_MAX

PING_MS, PONG_MS = 1000, 5000  # a peer that has stopped is given up after that
LINGER_MS = 2000  # for what a socket has taken, when the worker stops
RETRY_MS, RETRY_MS_MAX = 50, 1000  # between libzmq's own tries
AGAIN_S = 1.0  # after which we connect anew if libzmq has not

Socket = zmq.Socket[bytes]


class Connection:
    """Used by one thread. `look` is to be called when `monitor` is readable, and at `again_s`."""

    def __init__(self, made: Socket, address: str, keys: CurveKeys | None, *, sent_max: int, received_max: int) -> None:
        self.socket, self._address = made, address
        made.set(zmq.SNDHWM, sent_max)
        made.set(zmq.RCVHWM, received_max)
        made.set(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        made.set(zmq.IMMEDIATE, 1)  # nothing is queued for somebody who is not there
        made.set(zmq.LINGER, LINGER_MS)
        made.set(zmq.HEARTBEAT_IVL, PING_MS)
        made.set(zmq.HEARTBEAT_TIMEOUT, PONG_MS)
        made.set(zmq.HEARTBEAT_TTL, PONG_MS)
        made.set(zmq.RECONNECT_IVL, RETRY_MS)
        made.set(zmq.RECONNECT_IVL_MAX, RETRY_MS_MAX)
        if keys is not None:
            made.set(zmq.CURVE_PUBLICKEY, keys.public)
            made.set(zmq.CURVE_SECRETKEY, keys.secret)
            made.set(zmq.CURVE_SERVERKEY, keys.server)
        self.monitor: Socket = made.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.again_s: float | None = None
        made.connect(address)

    def look(self, now_s: float) -> None:
        """Notice what has happened to the connection, and connect anew if nobody else does."""
        with contextlib.suppress(zmq.Again):
            while True:
                event = recv_monitor_message(self.monitor, zmq.NOBLOCK)["event"]
                self.again_s = now_s + AGAIN_S if event == zmq.EVENT_DISCONNECTED else None
        if self.again_s is not None and now_s >= self.again_s:
            self.again_s = None
            with contextlib.suppress(zmq.ZMQError):  # libzmq may have dropped it already
                self.socket.disconnect(self._address)
            self.socket.connect(self._address)

    def try_to_send(self, frame: bytes) -> bool:
        """False if there is nobody, or nobody who reads."""
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True
