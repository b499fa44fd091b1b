"""A network between two workers that forwards every byte but one.

Decides which byte arrives changed; must never know what the bytes mean.
"""

from __future__ import annotations

import socket
import threading

FORWARD_BYTES = 1 << 16
WAIT_S = 20.0


class FlippingProxy:
    """Forwards one connection; of what the source sends, one bit of one byte arrives flipped."""

    def __init__(self, at_byte: int) -> None:
        self._at_byte = at_byte
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(WAIT_S)
        self._threads: list[threading.Thread] = []
        self.flipped = False

    def before(self, address: str) -> str:
        """The address to connect to instead."""
        thread = threading.Thread(target=self._run, args=(address,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        for thread in self._threads:
            thread.join(WAIT_S)
        self._server.close()

    def _run(self, address: str) -> None:
        host, port = address.split(":")
        source, target = self._server.accept()[0], socket.create_connection((host, int(port)), timeout=WAIT_S)
        with source, target:
            back = threading.Thread(target=self._forward, args=(target, source, None), daemon=True)
            back.start()
            self._forward(source, target, self._at_byte)
            back.join(WAIT_S)

    def _forward(self, source: socket.socket, target: socket.socket, at_byte: int | None) -> None:
        seen = 0
        try:
            while data := bytearray(source.recv(FORWARD_BYTES)):
                if at_byte is not None and seen <= at_byte < seen + len(data):
                    data[at_byte - seen] ^= 1
                    self.flipped = True
                seen += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            """One side has gone; the other will notice."""
