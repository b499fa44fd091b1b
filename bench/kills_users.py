"""Clients who come, watch, steer, rest and leave at random, and see to it that nothing is lost meanwhile.

Decides what a client does and which chunk is wrong; must never know a controller, nor when one is killed.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

import numpy as np

from runtime.chunk_models.emulated import FRAMES, SIDE, seal_of
from runtime.client import Chunk, Client, ClientError, Fault, Lost, Video

PATIENCE_S = 60.0  # for a session, while the controller is away
IDLE_S, STEER_S = (0.5, 5.0), (0.5, 2.0)
STAY_S = 0.1
RESTS_MAX, STEERS_MAX = 4, 5  # of a session; of a turn
PROMPT_SHARE = 0.4  # of what it steers; the rest are controls
PROMPTS, CONTROLS = ("a red circle", "a blue square", "two of them"), ("up", "down", "")


@dataclass(kw_only=True)
class Seen:
    """By all clients together."""

    created: int = 0
    ended: int = 0
    chunks: int = 0
    steers: int = 0
    rests: int = 0
    last_s: float = 0.0  # when the last chunk came
    wrong: list[str] = field(default_factory=list)  # what was lost, began anew, is missing or came out of order
    waits_s: list[float] = field(default_factory=list)  # between two chunks of a session that plays


class User:
    """One client after another at one place. `pace_s`: of each chunk."""

    def __init__(self, client: Client, profile: str, pace_s: float, seed: int, seen: Seen) -> None:
        self._client, self._profile, self._pace_s, self._seen = client, profile, pace_s, seen
        self._chance = random.Random(seed)
        self._is_leaving = False
        self._number = 0  # chunks of this session
        self._wants = False
        self._served = asyncio.Event()  # a chunk of this turn has come
        self._came_s = 0.0  # when the last one came
        self.stays = False  # whether its turn goes on for the time being
        self.session_id = ""
        self.turn = 0  # of all sessions; a rest ends it

    @property
    def plays(self) -> bool:
        """Chunks of this turn have come, and more are wanted."""
        return self._wants and self._served.is_set()

    @property
    def number(self) -> int:
        """Chunks of this session that have come."""
        return self._number

    def leave(self) -> None:
        """After the turn that has begun, once a chunk of it has come; and nobody comes after it."""
        self._is_leaving = True

    async def run(self) -> None:
        """Until it is to leave, or something is lost."""
        while not self._is_leaving:
            try:
                await self._session()
            except ClientError as error:
                self._wrong(str(error))
                return

    async def _session(self) -> None:
        prompt = self._chance.choice(PROMPTS)
        created = await self._client.create(
            profile=self._profile, prompt=prompt, encoding="none", patience_s=PATIENCE_S
        )
        self.session_id, self._number = created.session_id, 0
        self._seen.created += 1
        self._begin()
        async with self._client.watch(created) as video:
            steering = asyncio.create_task(self._steer(video))
            while (event := await video.next_event()) is not None:
                match event:
                    case Chunk():
                        self._take(event)
                        await asyncio.sleep(self._pace_s)
                        await video.ack(event.seq)
                    case Fault() | Lost():
                        self._wrong(f"{event}")
                    case _:
                        pass
            if not steering.done():
                steering.cancel()
                self._wrong(f"it is over, and nobody has ended it: {video.done}")
        self._seen.ended += 1

    async def _steer(self, video: Video) -> None:
        """Turn after turn, and then it ends."""
        for _ in range(self._chance.randint(0, RESTS_MAX)):
            await self._play(video)
            if self._is_leaving:
                break
            self._wants, self.turn = False, self.turn + 1
            self._seen.rests += 1
            await video.pause()
            await asyncio.sleep(self._chance.uniform(*IDLE_S))
            self._begin()
            await video.resume()
        await self._play(video)
        self._wants = False
        await video.end()

    async def _play(self, video: Video) -> None:
        await self._served.wait()
        for _ in range(self._chance.randint(0, STEERS_MAX)):
            await asyncio.sleep(self._chance.uniform(*STEER_S))
            if self._chance.random() < PROMPT_SHARE:
                await video.update(prompt=self._chance.choice(PROMPTS))
            else:
                await video.update(control=self._chance.choice(CONTROLS))
            self._seen.steers += 1
        while self.stays:
            await asyncio.sleep(STAY_S)

    def _begin(self) -> None:
        self._wants, self.turn = True, self.turn + 1
        self._served.clear()

    def _take(self, chunk: Chunk) -> None:
        """The client library sees to the order; the chunk itself says how many its state has made.

        A place that was lost before its first chunk came is no loss: nothing had been shown.
        """
        now_s, made = time.monotonic(), _number_in(chunk)
        if chunk.discontinuity and self._number:
            self._wrong(f"chunk {chunk.seq} begins lineage {chunk.lineage}: its state was lost")
        elif chunk.gap:
            self._wrong(f"chunks before {chunk.seq} may be missing")
        elif (chunk.seq, made) != (self._number, self._number):
            self._wrong(f"chunk {chunk.seq} is number {made} of its state, and not {self._number}")
        if self.plays:
            self._seen.waits_s.append(now_s - self._came_s)
        self._came_s, self._seen.last_s, self._number = now_s, now_s, self._number + 1
        self._seen.chunks += 1
        self._served.set()

    def _wrong(self, what: str) -> None:
        self._seen.wrong.append(f"{self.session_id}: {what}")


def _number_in(chunk: Chunk) -> int:
    """What the emulated state says of itself."""
    return seal_of(np.frombuffer(chunk.body, np.uint8).reshape(FRAMES, SIDE, SIDE, 3)).number
