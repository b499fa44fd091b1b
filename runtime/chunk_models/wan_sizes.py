"""What a session of Wan 2.1 occupies, in exact bytes, and what follows from that.

Decides shapes and arithmetic; must never know a tensor or a device. The figures of the networks are those of their
configurations (1.3B and 14B, 480x832); no weights are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.chunk_models.transformer.cache import CacheLayout

TOKENS_PER_FRAME = 30 * 52  # 480x832 pixels, 8 to a latent, 2 latents to a token
FRAMES_PER_CHUNK = 3  # latent ones; each is 4 of video
HEAD_DIM = 128
ELEMENT_BYTES = 2  # bfloat16
VAE_CACHE_BYTES = 1_900_000_000  # what the decoder of a causal VAE keeps of past frames, beside keys and values


@dataclass(frozen=True, slots=True, kw_only=True)
class WanSize:
    """One network, and how far back its sessions see."""

    network: str
    layers: int
    heads: int
    parameters: int
    window_frames: int  # latent ones, the chunk in progress among them

    @property
    def name(self) -> str:
        return f"wan-{self.network}-{self.window_frames}"

    def layout(self, *, layers: int | None = None, page_tokens: int = 1) -> CacheLayout:
        """Keys and values of all layers, or of so many; the window is one chunk that stays and a ring."""
        return CacheLayout(
            layers=self.layers if layers is None else layers,
            heads=self.heads,
            head_dim=HEAD_DIM,
            chunk_tokens=FRAMES_PER_CHUNK * TOKENS_PER_FRAME,
            sink_chunks=1,
            ring_chunks=self.window_frames // FRAMES_PER_CHUNK - 1,
            element_bytes=ELEMENT_BYTES,
            page_tokens=page_tokens,
        )

    @property
    def cache_bytes(self) -> int:
        return self.layout().state_bytes

    @property
    def layer_bytes(self) -> int:
        return 2 * self.layout().part_bytes

    @property
    def frame_bytes(self) -> int:
        """Of one latent frame, in all layers."""
        return 2 * self.layers * TOKENS_PER_FRAME * self.layout().row_bytes

    @property
    def chunk_bytes(self) -> int:
        """What one chunk writes."""
        return FRAMES_PER_CHUNK * self.frame_bytes

    @property
    def state_bytes(self) -> int:
        return self.cache_bytes + VAE_CACHE_BYTES

    @property
    def weights_bytes(self) -> int:
        return self.parameters * ELEMENT_BYTES

    def sessions_in(self, memory_bytes: int) -> int:
        """States that fit beside the weights; at most, because activations and the text encoder need room as well."""
        return max(0, (memory_bytes - self.weights_bytes) // self.state_bytes)


def _sizes(network: str, layers: int, heads: int, parameters: int) -> tuple[WanSize, ...]:
    return tuple(
        WanSize(network=network, layers=layers, heads=heads, parameters=parameters, window_frames=frames)
        for frames in (12, 21)
    )


WAN_SIZES = {
    size.name: size
    for size in (
        *_sizes("1.3b", layers=30, heads=12, parameters=1_300_000_000),
        *_sizes("14b", layers=40, heads=40, parameters=14_000_000_000),
    )
}


def seconds_over(size_bytes: int, link_gb_s: float) -> float:
    """How long so many bytes take at a rate in 1e9 bytes per second, if nothing else is in the way."""
    return size_bytes / (link_gb_s * 1e9)
