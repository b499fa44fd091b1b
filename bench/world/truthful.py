"""What every chunk has to look like, computed apart from all workers.

Decides whether a chunk proves its session's whole history; must never know where the session was.
"""

from __future__ import annotations

from msgspec.structs import replace

from bench.world.fleet import FLEET, STATE_BYTES, STATE_SHARE
from runtime.chunk_models.chunk_model import Chunk, Head, Seat
from runtime.chunk_models.emulated import EmulatedChunkModel
from runtime.state.arena import Arena

KEPT = 16  # chunks of a lineage to which a session may go back: what a lost target has computed is computed again


class Truthful:
    """All sessions; each chunk from the state that the one before it has left."""

    def __init__(self) -> None:
        self._arena = Arena(STATE_BYTES)
        self._model = EmulatedChunkModel(
            FLEET, "h100", lambda _: None, passes_per_chunk=1, state_share=STATE_SHARE, words_read=16
        )
        self._model.bind(self._arena.memory)
        self._states: dict[tuple[str, int], dict[int, bytes]] = {}  # by session and lineage: before that chunk

    @property
    def revision(self) -> str:
        return self._model.revision

    def check(self, head: Head, chunk: Chunk) -> None:
        """`head` is that with which the chunk began."""
        states = self._states.setdefault((head.session, head.lineage), {0: bytes(STATE_BYTES)})
        assert head.chunk_number in states, f"{head.session}: chunk {head.chunk_number} does not follow the ones before"
        memory = self._arena.memory.numpy()
        memory[:] = bytearray(states[head.chunk_number])
        (wanted,) = self._model.run_pass((Seat(head=replace(head), offset=0),))
        same = wanted.frames.tobytes() == chunk.frames.tobytes()
        assert same, f"{head.session}: chunk {head.chunk_number} was made from another state or prompt"
        states[head.chunk_number + 1] = memory.tobytes()
        states.pop(head.chunk_number - KEPT, None)
