"""The one place where a Python function becomes machine code.

Decides how kernels are compiled (cached on disk, without the interpreter lock); must never know what they compute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


@cache
def sources_digest(folder: Path) -> str:
    """Of the folder's modules that make kernels, which are those that name this module."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        source = path.read_bytes()
        if b"numba_kernel" in source:
            digest.update(source)
    return digest.hexdigest()[:12]


def kernel(function: Kernel) -> Kernel:
    """Compile on first call; the typed signature of the Python function is kept."""
    # What is cached is named by the function's name. By itself numba looks only at the function's own file, and would
    # take an old kernel from the cache after a change of an inner one in another file of the folder.
    function.__qualname__ += f"_{sources_digest(Path(function.__code__.co_filename).parent)}"
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))


def inner(function: Kernel) -> Kernel:
    """A part of a kernel, callable from compiled code only, which saves the time to compile its wrappers."""
    options: dict[str, Any] = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Kernel, numba.njit(**options)(function))
