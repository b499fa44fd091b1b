"""Which encoders there are.

Decides which codec serves which kind, and what is said where it is missing; must never import one unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from runtime.encode.chunk import KINDS, Encoder, Form, Kind, RefusedError, refusal_of_form

OpenEncoder = Callable[[Form], Encoder]  # raises `RefusedError` and `EncoderError`

CODECS: Mapping[Kind, str] = {"h264": "libx264", "mjpeg": "mjpeg"}  # by libav's names


def open_encoder(form: Form) -> Encoder:
    """An encoder for one session. Raises `RefusedError` and `EncoderError`."""
    refusal = refusal_of_form(form) or refusal_of_kind(form.kind, kinds_here())
    if refusal is not None:
        raise RefusedError(refusal)
    return _ENCODERS[form.kind](form)


def kinds_here() -> tuple[Kind, ...]:
    """What the libraries of this installation can encode."""
    return tuple(kind for kind in KINDS if _is_here(CODECS[kind]))


def refusal_of_kind(kind: Kind, here: Collection[Kind]) -> str | None:
    """Why there is no encoder of that kind; None if there is."""
    if kind in here:
        return None
    return (
        f"kind={kind} needs the encoder {CODECS[kind]}, which this build of libav lacks; "
        f"it can do: {', '.join(here) or 'none of ours'}"
    )


def _is_here(codec: str) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(codec, "w")
    except UnknownCodecError:
        return False
    return True


def _h264(form: Form) -> Encoder:
    from runtime.encode.h264 import H264Encoder

    return H264Encoder(form)


def _mjpeg(form: Form) -> Encoder:
    from runtime.encode.mjpeg import MjpegEncoder

    return MjpegEncoder(form)


_ENCODERS: Mapping[Kind, OpenEncoder] = {"h264": _h264, "mjpeg": _mjpeg}
