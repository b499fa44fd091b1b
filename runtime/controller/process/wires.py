"""The controller's two sockets: workers and the gateway connect to them.

Decides what is dropped, and whom a message is for; must never know what follows from one. Nothing blocks: what a peer
does not take is dropped, and said again by whoever wanted it said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq

from runtime.controller.step import Word
from runtime.gateway import messages as gate
from runtime.journal.truth import Truth
from runtime.security.certificates import key_pair
from runtime.security.doorkeeper import Doorkeeper
from runtime.security.listening import Guard, ListeningBounds, listen
from runtime.transfer.messages import UNREADABLE
from runtime.worker.messages import Command
from runtime.worker.process.messages import (
    FRAME_BYTES_MAX,
    PROTOCOL,
    AskInventory,
    FromWorker,
    Hello,
    Inventory,
    Renew,
    encoded,
    from_worker,
)

WORKERS, GATEWAYS = "workers", "gateways"  # domains, and folders of certificates
MESSAGES_MAX = 4096  # high-water marks of one peer
FOREIGN_MAX = 4096
PRETENDERS_MAX = 64  # that are told
BATCH_MAX = 512  # messages that are taken at once

Socket = zmq.Socket[bytes]


class Wires:
    """Used by one thread."""

    def __init__(self, workers: str, gateways: str, keys: Path | None = None) -> None:
        """`keys`: a folder as `epochal keys` makes it; who is let in is in its `workers` and `gateways`.

        Raises `BadInputError` for addresses beyond this machine without keys and for keys that cannot be used, and
        `zmq.ZMQError` where an address cannot be bound.
        """
        self._context: zmq.Context[Socket] = zmq.Context()
        self._door: Doorkeeper | None = None
        try:
            if keys is not None:
                own = key_pair(keys / "controllers" / "controller.key_secret")
                self._door = Doorkeeper(self._context, {domain: keys / domain for domain in (WORKERS, GATEWAYS)})
                guards = {domain: Guard(keys=own, door=self._door, domain=domain) for domain in (WORKERS, GATEWAYS)}
            else:
                guards = {}
            bounds = ListeningBounds(received_max=MESSAGES_MAX, sent_max=MESSAGES_MAX, frame_bytes_max=FRAME_BYTES_MAX)
            self.workers: Socket = listen(
                self._context, zmq.ROUTER, "--workers", workers, guard=guards.get(WORKERS), bounds=bounds
            )
            self.gateways: Socket = listen(
                self._context, zmq.ROUTER, "--gateways", gateways, guard=guards.get(GATEWAYS), bounds=bounds
            )
        except BaseException:
            self.close()
            raise
        self._gateway: bytes | None = None  # the one that was heard last
        self._version = 0
        self.dropped = 0  # messages that are none, and those of whoever is somebody else
        self._foreign: dict[str, int] = {}  # who speaks another protocol, and which
        self._pretenders: set[tuple[str, str]] = set()
        self._news: list[str] = []

    @property
    def addresses(self) -> tuple[str, str]:
        """Where they are bound, with the ports that were found."""
        return (
            self.workers.get_string(zmq.LAST_ENDPOINT),
            self.gateways.get_string(zmq.LAST_ENDPOINT),
        )

    def close(self) -> None:
        if self._door is not None:
            self._door.close()
        self._context.destroy(linger=0)

    def heard(self) -> list[FromWorker | gate.FromGateway]:
        """All that has come so far, up to a bound."""
        found: list[FromWorker | gate.FromGateway] = []
        for socket in (self.workers, self.gateways):
            for _ in range(BATCH_MAX):
                try:
                    identity, *frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                message = self._read(socket, identity.bytes, frames)
                if message is not None:
                    found.append(message)
        return found

    def news(self) -> list[str]:
        """For people: who speaks another protocol or under another's name, once each."""
        found, self._news = self._news, []
        return found

    def say(self, word: Word, truth: Truth) -> None:
        """To the incarnation that is meant, or to the one that is written down."""
        incarnation = word.incarnation if word.incarnation is not None else truth.workers.get(word.worker)
        if incarnation is None:
            return
        message = word.body
        if not isinstance(message, Renew | AskInventory):
            self._version += 1
            epoch = truth.controller_epoch
            frame = encoded(
                Command(controller_epoch=epoch, incarnation=incarnation, version=self._version, body=message)
            )
        elif isinstance(message, AskInventory):
            frame = encoded(msgspec.structs.replace(message, version=self._version))
        else:
            frame = encoded(message)
        self._send(self.workers, f"{word.worker}/{incarnation}".encode(), frame)

    def reply(self, message: gate.ToGateway) -> None:
        if self._gateway is not None:
            self._send(self.gateways, self._gateway, gate.encoded(message))

    def _read(
        self, socket: Socket, identity: bytes, frames: Sequence[zmq.Frame]
    ) -> FromWorker | gate.FromGateway | None:
        """The identity frame says where answers go; with keys, who speaks is whose key the connection has."""
        try:
            (frame,) = frames
            message = from_worker(frame.bytes) if socket is self.workers else gate.from_gateway(frame.bytes)
        except UNREADABLE:
            self.dropped += 1
            return None
        if not self._is_who_it_says(message, frame) or self._is_foreign(message):
            self.dropped += 1
            return None
        if socket is self.gateways:
            self._gateway = identity
        return message

    def _is_foreign(self, message: FromWorker | gate.FromGateway) -> bool:
        """Whoever says hello in another protocol is not let in; what else it says is of a stranger, or of no use."""
        hello = message.hello if isinstance(message, Inventory) else message
        match hello:
            case Hello(worker=name, protocol=protocol):
                ours = PROTOCOL
            case gate.Here(gateway=name, protocol=protocol):
                ours = gate.PROTOCOL
            case _:
                return False
        if protocol == ours:
            self._foreign.pop(name, None)
            return False
        if self._foreign.get(name) != protocol and len(self._foreign) < FOREIGN_MAX:
            self._foreign[name] = protocol
            self._news.append(f"{name} speaks protocol {protocol}, and this controller {ours}: run both of one version")
        return True

    def _is_who_it_says(self, message: FromWorker | gate.FromGateway, frame: zmq.Frame) -> bool:
        if self._door is None:
            return True
        if isinstance(message, gate.FromGateway):
            return self._door.name_of(GATEWAYS, frame) is not None
        named = message.hello if isinstance(message, Inventory) else message
        said, known = named.worker, self._door.name_of(WORKERS, frame)
        pretender = (known or "", said)
        if known not in (None, said) and pretender not in self._pretenders and len(self._pretenders) < PRETENDERS_MAX:
            self._pretenders.add(pretender)
            self._news.append(
                f"a worker with the key of {known!r} calls itself {said!r}, and is not heard: give it --name={known}, "
                "or the key of that name"
            )
        return known == said

    def _send(self, socket: Socket, identity: bytes, frame: bytes) -> None:
        try:
            socket.send_multipart([identity, frame], zmq.NOBLOCK)
        except zmq.ZMQError:  # nobody of that name, or nobody who reads
            return
