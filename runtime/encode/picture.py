"""A frame of a chunk as the codecs want it.

Decides scaling, colour matrix and chroma sampling; must never know what a codec does with the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The same numbers on every processor; costs a tenth of the conversion.
_EXACTLY = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """A colour matrix and the range of its numbers."""

    matrix: Colorspace
    numbers: ColorRange  # MPEG: 16 to 235; JPEG: all


VIDEO = Colours(matrix=Colorspace.ITU709, numbers=ColorRange.MPEG)
JPEG = Colours(matrix=Colorspace.ITU601, numbers=ColorRange.JPEG)  # what JFIF files are, without saying so


class Pictures:
    """Turns RGB frames into 4:2:0; keeps its tables between frames."""

    def __init__(self, colours: Colours, scale: int) -> None:
        self._colours, self._scale = colours, scale
        self._reformatter = VideoReformatter()

    def of(self, frame: NDArray[np.uint8]) -> VideoFrame:
        """A picture in yuv420p, each pixel a square of `scale` by `scale`."""
        if self._scale > 1:
            frame = frame.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        return self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            dst_colorspace=self._colours.matrix,
            dst_color_range=self._colours.numbers,
            interpolation=_EXACTLY,
            threads=1,
        )
