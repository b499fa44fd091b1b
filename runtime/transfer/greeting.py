"""How two workers make sure of each other before a byte of state flows.

Decides who is let in: whoever knows the token of this one transfer; must never send the token itself.

The target sends a nonce; the source answers with its own and a proof over both; the target answers with its proof. A
stranger is turned away and counted, and the target waits on. The token travels beforehand, from target to controller to
source, over connections that are encrypted; what follows the greeting is not.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket

from runtime.transfer.messages import TOKEN_BYTES
from runtime.transfer.transport import TransferError
from runtime.transfer.wire import Patience, Wire, wait_for

STRANGERS_MAX = 16  # per transfer
_NONCE_BYTES = 32
_PROOF_BYTES = 32
_GREETING_S = 2.0  # for whoever has connected; a stranger that says nothing costs that much


class Listener:
    """A port on one address, for one transfer."""

    def __init__(self, host: str, patience: Patience) -> None:
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self.strangers = 0
        self._patience = patience
        self._socket = socket.create_server((host, 0), backlog=STRANGERS_MAX)
        self._socket.setblocking(False)

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"{host}:{port}"

    def accept(self, end_s: float) -> Wire:
        """The first that knows the token; the port is closed then."""
        while self.strangers < STRANGERS_MAX:
            if not wait_for(self._socket, self._patience, end_s, writable=False):
                raise TransferError("late", "nobody has come")
            try:
                wire = Wire(self._socket.accept()[0], self._patience)
            except OSError:
                continue  # gone before it was let in
            try:
                self._greet(wire, min(end_s, self._patience.clock() + _GREETING_S))
            except TransferError as error:
                wire.close()
                if error.cause == "aborted":
                    raise
                self.strangers += 1
                continue
            self.close()
            return wire
        raise TransferError("refused", f"{STRANGERS_MAX} strangers have come")

    def close(self) -> None:
        self._socket.close()

    def _greet(self, wire: Wire, end_s: float) -> None:
        ours = secrets.token_bytes(_NONCE_BYTES)
        wire.send_bytes(ours, end_s)
        answer = bytearray(_NONCE_BYTES + _PROOF_BYTES)
        wire.receive_into(memoryview(answer), end_s)
        theirs, proof = bytes(answer[:_NONCE_BYTES]), bytes(answer[_NONCE_BYTES:])
        if not hmac.compare_digest(proof, _proof(self.token, b"source", ours, theirs)):
            raise TransferError("refused", "a stranger")
        wire.send_bytes(_proof(self.token, b"target", ours, theirs), end_s)


def connect(address: str, token: bytes, patience: Patience, end_s: float) -> Wire:
    """To the target that gave out the token."""
    host, _, port = address.rpartition(":")
    end_s = patience.until(end_s)
    try:
        left_s = max(0.001, end_s - patience.clock())
        wire = Wire(socket.create_connection((host, int(port)), timeout=left_s), patience)
    except (OSError, ValueError) as error:
        raise TransferError("lost", f"cannot connect to {address}: {error}") from error
    try:
        _introduce(wire, token, end_s)
    except TransferError:
        wire.close()
        raise
    return wire


def _introduce(wire: Wire, token: bytes, end_s: float) -> None:
    nonce = bytearray(_NONCE_BYTES)
    wire.receive_into(memoryview(nonce), end_s)
    theirs, ours = bytes(nonce), secrets.token_bytes(_NONCE_BYTES)
    wire.send_bytes(ours + _proof(token, b"source", theirs, ours), end_s)
    proof = bytearray(_PROOF_BYTES)
    wire.receive_into(memoryview(proof), end_s)
    if not hmac.compare_digest(proof, _proof(token, b"target", theirs, ours)):
        raise TransferError("refused", "who listens there does not know the token")


def _proof(token: bytes, side: bytes, target_nonce: bytes, source_nonce: bytes) -> bytes:
    return hmac.digest(token, side + target_nonce + source_nonce, hashlib.sha256)
