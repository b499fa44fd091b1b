"""How much memory is left where states may go.

Decides whether one more state fits; must never know why it moves.
"""

from __future__ import annotations

from runtime.controller.books import Books
from scheduler.cluster_checks import held_mib
from scheduler.plan import Move
from scheduler.sizes import host_room_mib, room_mib, state_mib


class Rooms:
    """Memory in GPUs and hosts, counting what is there and what is on its way; `fill` counts a move that begins."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._on_gpu, self._on_node = held_mib(books.cluster.snapshot(), books.fleet)

    def has_room(self, move: Move) -> bool:
        """For one more state where it goes."""
        fleet, size_mib = self._books.fleet, self._size_mib(move)
        if move.target is not None:
            gpu_type = self._books.cluster.gpus[move.target].gpu_type
            return self._on_gpu.get(move.target, 0) + size_mib <= room_mib(fleet, gpu_type)
        assert move.target_node is not None, "an offload has a node"
        room = host_room_mib(fleet, move.target_node)
        return room is None or self._on_node.get(move.target_node, 0) + size_mib <= room

    def fill(self, move: Move) -> None:
        if move.target is not None:
            self._on_gpu[move.target] = self._on_gpu.get(move.target, 0) + self._size_mib(move)
        elif move.target_node is not None:
            self._on_node[move.target_node] = self._on_node.get(move.target_node, 0) + self._size_mib(move)

    def _size_mib(self, move: Move) -> int:
        session = self._books.session(move.session_id)
        assert session is not None, "it applies"
        return state_mib(self._books.fleet, session.profile)
