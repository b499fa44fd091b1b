"""A controller's process as far as its provider goes: it starts one worker, says so, and is killed.

Decides what is written on stdout; must never know what is done to it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.runtime.provider.places import Place
from tests.runtime.provider.small_workers import GPU, POLITE, Ears


async def serve(place: Place) -> None:
    ears = Ears()
    provider = await place.open(place.program(POLITE), ears)
    pid = await place.started(provider, ears)
    provider.note_incarnation(GPU, 23)
    await asyncio.sleep(0.5)  # where the note is kept by another process
    print(pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Place(folder=Path(sys.argv[1]), address=sys.argv[2])))
