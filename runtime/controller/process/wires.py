"""The controller's two sockets: workers and the gateway connect to them.

Decides what is dropped, and whom a message is for; must never know what follows from one. Nothing blocks: what a peer
does not take is dropped, and said again by whoever wanted it said.
"""

from __future__ import annotations

import zmq

from runtime.controller.step import Word
from runtime.gateway import messages as gate
from runtime.journal.truth import Truth
from runtime.transfer.messages import UNREADABLE
from runtime.worker.messages import Command
from runtime.worker.process.messages import FRAME_BYTES_MAX, AskInventory, FromWorker, Renew, encoded, from_worker

MESSAGES_MAX = 4096  # high-water marks of one peer
BATCH_MAX = 512  # messages that are taken at once
PING_MS, PONG_MS = 1000, 5000

Socket = zmq.Socket[bytes]


class Wires:
    """Used by one thread."""

    def __init__(self, workers: str, gateways: str) -> None:
        """Raises `zmq.ZMQError` where an address cannot be bound."""
        self._context: zmq.Context[Socket] = zmq.Context()
        self.workers, self.gateways = self._bound(workers), self._bound(gateways)
        self._gateway: bytes | None = None  # the one that was heard last
        self._version = 0
        self.dropped = 0  # messages that are none

    def _bound(self, address: str) -> Socket:
        made: Socket = self._context.socket(zmq.ROUTER)
        made.set(zmq.ROUTER_MANDATORY, 1)
        made.set(zmq.ROUTER_HANDOVER, 1)
        made.set(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        made.set(zmq.SNDHWM, MESSAGES_MAX)
        made.set(zmq.RCVHWM, MESSAGES_MAX)
        made.set(zmq.LINGER, 0)
        made.set(zmq.HEARTBEAT_IVL, PING_MS)
        made.set(zmq.HEARTBEAT_TIMEOUT, PONG_MS)
        made.bind(address)
        return made

    @property
    def addresses(self) -> tuple[str, str]:
        """Where they are bound, with the ports that were found."""
        return (
            self.workers.get_string(zmq.LAST_ENDPOINT),
            self.gateways.get_string(zmq.LAST_ENDPOINT),
        )

    def close(self) -> None:
        self._context.destroy(linger=0)

    def heard(self) -> list[FromWorker | gate.FromGateway]:
        """All that has come so far, up to a bound."""
        found: list[FromWorker | gate.FromGateway] = []
        for socket in (self.workers, self.gateways):
            for _ in range(BATCH_MAX):
                try:
                    identity, *frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                message = self._read(socket, identity, frames)
                if message is not None:
                    found.append(message)
        return found

    def say(self, word: Word, truth: Truth) -> None:
        """To the incarnation that is meant, or to the one that is written down."""
        incarnation = word.incarnation if word.incarnation is not None else truth.workers.get(word.worker)
        if incarnation is None:
            return
        body = word.body
        if not isinstance(body, Renew | AskInventory):
            self._version += 1
            body = Command(  # type: ignore[assignment]
                controller_epoch=truth.controller_epoch, incarnation=incarnation, version=self._version, body=body
            )
        self._send(self.workers, f"{word.worker}/{incarnation}".encode(), encoded(body))  # type: ignore[arg-type]

    def reply(self, message: gate.ToGateway) -> None:
        if self._gateway is not None:
            self._send(self.gateways, self._gateway, gate.encoded(message))

    def _read(self, socket: Socket, identity: bytes, frames: list[bytes]) -> FromWorker | gate.FromGateway | None:
        """The identity frame says where answers go; who speaks is what the message says."""
        try:
            (frame,) = frames
            if socket is self.workers:
                return from_worker(frame)
            message = gate.from_gateway(frame)
        except UNREADABLE:
            self.dropped += 1
            return None
        self._gateway = identity
        return message

    def _send(self, socket: Socket, identity: bytes, frame: bytes) -> None:
        try:
            socket.send_multipart([identity, frame], zmq.NOBLOCK)
        except zmq.ZMQError:  # nobody of that name, or nobody who reads
            return
