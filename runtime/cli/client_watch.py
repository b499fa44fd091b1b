"""Watching one session: chunks into a file and onto a terminal, lines into changes.

Decides when a chunk is shown and taken, and when somebody has seen enough; must never know how a stream is kept going.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Literal

from runtime.cli.client_file import StreamFile
from runtime.cli.client_lines import HELP, Lines, line_of
from runtime.cli.client_screen import Screen
from runtime.client import Chunk, Done, Experience, Fault, Felt, Lost, Started, State, Updated, Video
from runtime.client.messages import Event
from runtime.encode.decoding import Decoder, UndecodableError, scaled

STATUS_S = 0.5
SHOWN_PER_S_MAX = 8.0  # pictures on a terminal
WAITING_MAX = 256  # chunks that wait to be shown; a gateway lets fewer come

Ending = Literal["done", "enough", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How much is watched (None: without an end), and how: `paced` as it plays, or else as soon as it comes."""

    chunks: int | None = None
    seconds: float | None = None  # of video
    paced: bool = True
    pictures: bool = False

    def is_met(self, chunks: int, play_s: float) -> bool:
        enough_s = self.seconds is not None and play_s >= self.seconds - 1e-9
        return enough_s or (self.chunks is not None and chunks >= self.chunks)


class Watching:
    """One stream from its beginning until it is done, there was enough of it, or somebody stops it."""

    def __init__(self, video: Video, wish: Wish, file: StreamFile | None, screen: Screen, lines: Lines) -> None:
        self._video, self._wish, self._file, self._screen, self._lines = video, wish, file, screen, lines
        self._clock_s = asyncio.get_running_loop().time
        self._experience = Experience(self._clock_s())
        self._arrived: asyncio.Queue[tuple[Chunk, float]] = asyncio.Queue(WAITING_MAX)
        self._hurry = asyncio.Event()  # nothing is shown at its time: the session is paused
        if not wish.paced:
            self._hurry.set()
        self._decoder: Decoder | None = Decoder() if wish.pictures else None
        self._state: State | None = None
        self.reason = ""  # why the session is done
        self.ended_by_hand = False

    def felt(self) -> Felt:
        return self._experience.felt()

    async def run(self, stopping: asyncio.Event) -> Ending:
        """Raises `ClientError`, OSError, `BadInputError` and `BadBoxesError`."""
        reading = asyncio.create_task(self._read())
        others = [asyncio.create_task(each) for each in (self._play(), self._obey(), self._tell())]
        stopped = asyncio.create_task(stopping.wait())
        tasks = {reading, stopped, *others}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {reading, stopped}:
                task.result()  # they end with an error only
            if reading not in done:
                return "interrupted"
            if self._wish.pictures:
                shown = asyncio.create_task(self._arrived.join())
                tasks.add(shown)
                await asyncio.wait({shown, stopped, *others}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._experience.chunks and self._video.next_seq:  # whoever comes back begins with the next one
                await self._video.ack(self._video.next_seq - 1)

    async def _read(self) -> Ending:
        """Everything as soon as it comes: nothing waits for the player."""
        while (event := await self._video.next_event()) is not None:
            now_s = self._clock_s()
            self._experience.heard(event, now_s)
            if isinstance(event, Chunk):
                await self._take(event, now_s)
                if self._wish.is_met(self._experience.chunks, self._experience.play_s):
                    return "enough"
            else:
                self._say(event)
        return "done"

    async def _take(self, chunk: Chunk, now_s: float) -> None:
        if self._file is not None:
            self._file.append(chunk)
        until_s = self._experience.shown_until_s
        begins_s = now_s if until_s is None or chunk.play_s is None else until_s - chunk.play_s
        await self._arrived.put((chunk, begins_s))

    async def _play(self) -> None:
        """A chunk is taken when it begins to be shown."""
        while True:
            chunk, begins_s = await self._arrived.get()
            await self._until(begins_s)
            await self._video.ack(chunk.seq)
            self._experience.acked(chunk.seq, self._clock_s())
            if self._decoder is not None:
                await self._show(chunk, begins_s)
            self._arrived.task_done()

    async def _until(self, at_s: float) -> None:
        """Or until nothing is shown at its time any more."""
        wait_s = at_s - self._clock_s()
        if wait_s > 0 and not self._hurry.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await self._hurry.wait()
            except TimeoutError:
                return

    async def _show(self, chunk: Chunk, begins_s: float) -> None:
        assert self._decoder is not None
        picture = chunk.picture
        shape = (picture.frames or 1, picture.height or 0, picture.width or 0)
        try:
            frames = await asyncio.to_thread(self._decoder.pictures, picture.codec, chunk.init, chunk.body, shape)
        except UndecodableError as error:
            self._screen.say(str(error))
            return
        each_s = (chunk.play_s or 0.0) / max(1, len(frames))
        step = max(1, math.ceil(1 / (each_s * SHOWN_PER_S_MAX))) if each_s else max(1, len(frames))
        for index in range(0, len(frames), step):
            await self._until(begins_s + index * each_s)
            columns, rows = self._screen.pixels_max
            fits = min(columns / frames[index].width, rows / frames[index].height)
            width, height = (max(2, int(side * fits) // 2 * 2) for side in (frames[index].width, frames[index].height))
            self._screen.show(scaled(frames[index], width, height))

    async def _obey(self) -> None:
        """What is typed, until the process ends."""
        while True:
            try:
                line = line_of(await self._lines.next())
            except ValueError as error:
                self._screen.say(str(error))
                continue
            match line.verb if line is not None else None:
                case "prompt":
                    await self._video.update(prompt=line.text if line else "")
                case "control":
                    await self._video.update(control=line.text if line else "")
                case "pause":
                    await self._pause(paused=True)
                case "resume":
                    await self._pause(paused=False)
                case "end":
                    self.ended_by_hand = True
                    self._hurry.set()
                    await self._video.end()
                case "help":
                    self._screen.say(HELP)
                case None:
                    pass

    async def _pause(self, *, paused: bool) -> None:
        """What has come by then is taken at once, so that nobody counts as slow."""
        self._experience.pauses(self._clock_s(), paused=paused)
        if paused:
            self._hurry.set()
            await self._video.pause()
        else:
            if self._wish.paced:
                self._hurry.clear()
            await self._video.resume()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(STATUS_S)
            self._screen.status(status_of(self._experience.felt(), self._state))

    def _say(self, event: Event) -> None:
        match event:
            case State():
                self._state = event
                waits = f", {event.position} before it" if event.position else ""
                self._screen.say(f"the session is {event.state}{waits}")
            case Updated():
                names = [name for name in ("prompt", "control") if getattr(event, name) is not None]
                self._screen.say(f"new {' and '.join(names)}: chunks show it from now on")
            case Fault():
                self._screen.say(f"not done: {event}")
            case Lost():
                self._screen.say(f"{event.fault.message}; trying again in {event.pause_s:.1f} s")
            case Done():
                self.reason = event.reason
            case Started() | Chunk():
                pass


def status_of(felt: Felt, state: State | None) -> str:
    """One line."""
    where = "connecting" if state is None else str(state.state)
    if state is not None and state.position:
        where += f", {state.position} before it"
    parts = [where, f"{felt.chunks} chunks, {felt.play_s:.1f} s"]
    if felt.latency_p50_ms is not None and felt.latency_p99_ms is not None:
        parts.append(f"latency p50 {felt.latency_p50_ms:.0f} ms, p99 {felt.latency_p99_ms:.0f} ms")
    parts.append(f"{felt.stalls} stalls, {felt.stall_s:.1f} s")
    if felt.discontinuities:
        parts.append(f"{felt.discontinuities} discontinuities")
    return " | ".join(parts)
