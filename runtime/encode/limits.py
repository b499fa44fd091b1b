"""How much encoding may hold.

Decides the bounds and their usual values; must never know what reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one encode thread."""

    encoders_max: int = 64  # sessions at once; who has waited longest for a chunk makes room
    waiting_max: int = 64  # chunks, besides the one in progress
    waiting_bytes_max: int = 512 * 2**20  # of their frames, and of any one chunk
    key_frame_chunks: int = 16  # at least one of so many begins with a key frame

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ValueError(f"{field.name}={value} must be >= 1")
