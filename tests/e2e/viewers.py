"""Clients of a live system, who take chunks at a pace and steer at given chunks.

Decides what a client does, and what its chunks must be; must never know what serves it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from itertools import product

from runtime.client import Chunk, Client, Started, Updated, Video
from tests.runtime.worker.live_sessions import Script, reference

PATIENCE_S = 180.0
PROFILE, PROMPT = "shapes-32", "red circle"

Steer = tuple[int, str | None, str | None]  # a number of chunks, prompt, control


async def until(there: Callable[[], bool], claim: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s, f"not in time: {claim}"
        await asyncio.sleep(0.1)


class Viewer:
    """One session of the bundled network; after so many chunks of `steers` it asks for something else.

    It asks when all has come that it has given credit for, so that nobody is in the middle of a chunk: then the next
    one shows the change.
    """

    def __init__(self, client: Client, seed: int, pace_s: float, steers: tuple[Steer, ...] = ()) -> None:
        self.digests: list[bytes] = []
        self.is_done = False
        self._client, self._seed, self._pace_s = client, seed, pace_s
        self._steers, self._changes, self._ahead = list(steers), list[Steer](), 0
        self._video: Video | None = None

    @property
    def video(self) -> Video:
        assert self._video is not None, "it has begun"
        return self._video

    async def run(self) -> None:
        """Until somebody ends the session."""
        session = await self._client.create(
            profile=PROFILE, prompt=PROMPT, seed=self._seed, encoding="none", patience_s=PATIENCE_S
        )
        async with self._client.watch(session) as self._video:
            while (event := await self._video.next_event()) is not None:
                match event:
                    case Started(ahead=ahead):
                        self._ahead = ahead
                    case Chunk():
                        await self._take(event)
                    case Updated():
                        self._changes.append((len(self.digests), event.prompt, event.control))
                        await self._video.ack(len(self.digests) - 1)
                    case _:
                        pass
        self.is_done = True

    def check(self) -> None:
        """Every chunk is what the ChunkModel makes of a session that is alone and is left in peace.

        A change shows from the next chunk on that begins: that is the next one, or the one after it.
        """
        assert not self._steers, f"seed {self._seed} has not asked for {self._steers}"
        wrong = [self._first_wrong(later) for later in product((0, 1), repeat=len(self._changes))]
        assert None in wrong, f"seed {self._seed}, changes {self._changes}: chunk {wrong[0]} is wrong, or {wrong[1:]}"

    def _first_wrong(self, later: tuple[int, ...]) -> int | None:
        """By how many chunks each change shows later; None: all are right."""
        changes = tuple((at + by, to, how) for (at, to, how), by in zip(self._changes, later, strict=True))
        script = Script(model="bundled", profile=PROFILE, seed=self._seed, prompt=PROMPT, changes=changes)
        right = reference(script)
        return next((number for number, one in enumerate(self.digests) if one != right.digest(number)), None)

    async def _take(self, chunk: Chunk) -> None:
        assert (chunk.seq, chunk.lineage, chunk.gap, chunk.discontinuity) == (len(self.digests), 0, False, False)
        self.digests.append(hashlib.sha256(chunk.body).digest())
        await asyncio.sleep(self._pace_s)
        at = self._steers[0][0] if self._steers else None
        if at is None or chunk.seq < at:
            await self.video.ack(chunk.seq)
        elif chunk.seq == at - 1 + self._ahead:
            _, prompt, control = self._steers.pop(0)
            await self.video.update(prompt=prompt, control=control)
