"""A network between a client and its gateway that can be cut.

Decides when connections end and where new ones lead; must never look at what goes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """`port` is where the client goes, `target` where it is led; 0: nowhere."""

    def __init__(self, target: int) -> None:
        self.target, self.port, self.opened = target, 0, 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.flowing = asyncio.Event()  # cleared: what comes is held back, and connections stay
        self.flowing.set()

    def cut(self) -> None:
        """All connections end, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self._writers.add(writer)
        with suppress(OSError):
            if self.target:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
                self._writers.add(back)
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
                self._writers.discard(back)
        writer.transport.abort()
        self._writers.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def a_relay(target: int) -> AsyncIterator[Relay]:
    relay = Relay(target)
    server = await asyncio.start_server(relay._lead, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        relay.cut()
        server.close()
