"""What a planner and its solving process say to each other, as bytes.

Decides the frames on the pipes and that nothing but well-typed values comes out of them; must never know processes,
nor whether an answer is any good.
"""

from __future__ import annotations

import json
import struct
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from solvers.placement.problem import Problem
from solvers.placement.solution import Bounds, Placement, StageReport

FRAME_BYTES_MAX = 1 << 28
PREFIX = struct.Struct("<II")  # bytes of the words, bytes of the arrays

Message = TypeVar("Message")


class MessageError(ValueError):
    """Bytes that are no message of the wanted type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The process has loaded its solver."""

    solver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Solve within `seconds` of reading this; `hint` is an allowed placement."""

    serial: int
    problem: Problem
    hint: Placement
    seconds: float
    seed: int
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to the question of that number; without a placement `end_reason` says why there is none."""

    serial: int
    placement: Placement | None
    bounds: Bounds
    solver: str
    end_reason: str
    stages: tuple[StageReport, ...]  # of the cascade


def encode(message: object) -> bytes:
    """One frame: two lengths, the message as JSON in which arrays are numbers, and the arrays one after another."""
    buffers: list[bytes] = []
    words = json.dumps(_plain(message, buffers), allow_nan=False).encode()
    arrays = b"".join(buffers)
    return PREFIX.pack(len(words), len(arrays)) + words + arrays


def frame_bytes(prefix: bytes) -> int:
    """How many bytes follow the prefix."""
    words, arrays = PREFIX.unpack(prefix)
    if words + arrays > FRAME_BYTES_MAX:
        raise MessageError(f"a frame of {words + arrays} bytes; {FRAME_BYTES_MAX} are allowed")
    return int(words + arrays)


def decode(kind: type[Message], prefix: bytes, body: bytes) -> Message:
    """The message in a frame; `MessageError` if it is not exactly of that type."""
    length = PREFIX.unpack(prefix)[0]
    try:
        words = json.loads(body[:length], parse_constant=_no_constant)
        return typing.cast(Message, _Reader(memoryview(body)[length:]).read(kind, words, kind.__name__))
    except (json.JSONDecodeError, UnicodeDecodeError, AssertionError, OverflowError) as error:
        raise MessageError(f"{kind.__name__}: {error}") from error


def _plain(value: object, buffers: list[bytes]) -> object:
    if isinstance(value, np.ndarray):
        buffers.append(np.ascontiguousarray(value).tobytes())
        return {"dtype": value.dtype.name, "shape": value.shape, "bytes": len(buffers[-1])}
    if is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name), buffers) for part in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item, buffers) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, buffers) for key, item in value.items()}
    if isinstance(value, np.integer | np.floating):
        return value.item()
    return value


class _Reader:
    """Values as their types want them; arrays are taken from the bytes in the order of their descriptions."""

    def __init__(self, arrays: memoryview) -> None:
        self._arrays, self._at = arrays, 0

    def read(self, kind: Any, value: Any, where: str) -> object:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if is_dataclass(kind):
            return self._dataclass(kind, value, where)
        if origin is np.ndarray:
            return self._array(np.dtype(typing.get_args(args[1])[0]), value, where)
        if origin is types.UnionType:
            return None if value is None else self.read(args[0], value, where)
        if origin is tuple:
            _wants(isinstance(value, list), where, "a list")
            return tuple(self.read(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if origin is dict:
            _wants(isinstance(value, dict), where, "an object")
            return {self.read(args[0], k, where): self.read(args[1], v, f"{where}.{k}") for k, v in value.items()}
        if origin is typing.Literal:
            _wants(value in args, where, f"one of {args}")
            return value
        if kind is float:
            _wants(isinstance(value, int | float) and not isinstance(value, bool), where, "a number")
            return float(value)
        _wants(type(value) is kind, where, kind.__name__)
        return value

    def _dataclass(self, kind: Any, value: Any, where: str) -> object:
        hints = typing.get_type_hints(kind)
        names = [part.name for part in fields(kind)]
        _wants(isinstance(value, dict) and list(value) == names, where, f"the fields {', '.join(names)}")
        return kind(**{name: self.read(hints[name], value[name], f"{where}.{name}") for name in names})

    def _array(self, dtype: np.dtype[Any], value: Any, where: str) -> object:
        _wants(isinstance(value, dict) and list(value) == ["dtype", "shape", "bytes"], where, "an array")
        _wants(value["dtype"] == dtype.name, where, f"an array of {dtype.name}, not of {value['dtype']}")
        shape = value["shape"]
        _wants(
            isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape), where, "an array with a shape"
        )
        count = int(np.prod(shape, dtype=np.int64))
        end = self._at + count * dtype.itemsize
        _wants(value["bytes"] == count * dtype.itemsize and end <= len(self._arrays), where, "an array of its length")
        # A copy: kernels are compiled once more for arrays that may not be written.
        array = np.frombuffer(self._arrays[self._at : end], dtype=dtype).reshape(shape).copy()
        self._at = end
        return array


def _wants(is_so: bool, where: str, what: str) -> None:
    if not is_so:
        raise MessageError(f"{where} must be {what}")


def _no_constant(name: str) -> float:
    raise MessageError(f"{name} is no number")
