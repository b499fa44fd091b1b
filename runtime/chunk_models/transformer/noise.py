"""The chance in a session: a function of its seed, the chunk and the pass, so that no state of it has to travel.

Decides which numbers those are; must never know a device, a network or who shares a pass.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from runtime.chunk_models.transformer.configuration import Configuration, Resolution

START_MARGIN = 0.27  # of height and width, at either side: room for a first chunk in any direction

_START = 2**32  # no chunk has this number


def noise_of(configuration: Configuration, resolution: Resolution, seed: int, chunk: int, level: int) -> Tensor:
    """Normal numbers for the denoise pass at `level`: [frames, tokens per frame, patch values]."""
    tokens = resolution.tokens_per_frame(configuration.patch)
    shape = (configuration.frames, tokens, configuration.patch_values)
    return torch.from_numpy(_generator(seed, chunk, level).standard_normal(shape, dtype=np.float32))


def start_of(resolution: Resolution, seed: int) -> Tensor:
    """Where the session's first shape starts: y and x in pixels.

    Two numbers of chance beside the noise. Because the network is told, a first chunk has one answer, which few passes
    reach; left to the noise alone, the answer is a mean of places.
    """
    share = torch.from_numpy(_generator(seed, _START, 0).random(2, dtype=np.float32))
    size = torch.tensor([resolution.height, resolution.width], dtype=torch.float32)
    return size * (START_MARGIN + (1 - 2 * START_MARGIN) * share)


def _generator(seed: int, chunk: int, level: int) -> np.random.Generator:
    """Philox (Salmon et al., SC 2011): a counter's place in the stream of a key, with nothing carried along."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, chunk, level]))
