"""A controller's process as far as its provider goes: it starts one worker, says so, and is killed.

Decides what is written on stdout; must never know what is done to it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from runtime.provider.local import LocalProvider
from tests.runtime.provider.small_workers import GPU, POLITE, Ears, program, started


async def serve(folder: Path) -> None:
    ears = Ears()
    provider = await LocalProvider.open(folder, program(POLITE), ears)
    pid = await started(provider, ears, folder)
    provider.note_incarnation(GPU, 23)
    print(pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
