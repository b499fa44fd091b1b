"""The sizes of the network, of its cache and of the videos that it makes.

Decides which numbers make a network and which of them fit together; must never know a tensor, a weight or a session.
"""

from __future__ import annotations

import msgspec

CHANNELS = 3  # red, green, blue


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """One size of video; its name is the profile's."""

    name: str
    height: int  # pixels, a multiple of the patch
    width: int

    def tokens_per_frame(self, patch: int) -> int:
        return (self.height // patch) * (self.width // patch)


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what the weights mean; it is stored with them and is part of the revision."""

    dim: int = 128
    layers: int = 4
    heads: int = 4
    patch: int = 8  # pixels a side
    frames: int = 3  # of one chunk
    frames_per_s: float = 8.0
    sink_chunks: int = 1  # the session's first chunks, kept for good
    ring_chunks: int = 3  # the most recent ones, the chunk in progress among them
    noise_levels: tuple[float, ...] = (1.0, 0.6, 0.3)  # of each denoise pass; 1 is noise alone
    resolutions: tuple[Resolution, ...] = (
        Resolution(name="shapes-32", height=32, width=32),
        Resolution(name="shapes-48", height=48, width=48),
    )

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.head_dim % 16:
            raise ValueError(f"dim={self.dim} must be heads={self.heads} times a multiple of 16")
        if self.sink_chunks < 0 or self.ring_chunks < 1:
            raise ValueError(f"sink_chunks={self.sink_chunks} must be >= 0 and ring_chunks={self.ring_chunks} >= 1")
        if not self.noise_levels or self.noise_levels[0] != 1.0 or self.noise_levels[-1] <= 0:
            raise ValueError(f"noise_levels={self.noise_levels} must begin with 1 and stay > 0")
        if any(after >= before for before, after in zip(self.noise_levels, self.noise_levels[1:], strict=False)):
            raise ValueError(f"noise_levels={self.noise_levels} must fall")
        for one in self.resolutions:
            if one.height % self.patch or one.width % self.patch:
                raise ValueError(f"{one.name}: height and width must be multiples of patch={self.patch}")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def patch_values(self) -> int:
        """Numbers in one token's piece of a frame."""
        return self.patch * self.patch * CHANNELS

    @property
    def window_chunks(self) -> int:
        """Chunks that the cache holds, the one in progress among them."""
        return self.sink_chunks + self.ring_chunks

    @property
    def passes_per_chunk(self) -> int:
        """The denoise passes, and one that writes the finished chunk into the cache."""
        return len(self.noise_levels) + 1

    def tokens_per_chunk(self, resolution: Resolution) -> int:
        return self.frames * resolution.tokens_per_frame(self.patch)

    def resolution(self, name: str) -> Resolution:
        """Raises `KeyError` for an unknown name."""
        return {one.name: one for one in self.resolutions}[name]
