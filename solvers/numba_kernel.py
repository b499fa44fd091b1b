"""The one place where a Python function becomes machine code.

Decides how kernels are compiled (cached on disk, without the interpreter lock); must never know what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile on first call; the typed signature of the Python function is kept."""
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))


def inner(function: Kernel) -> Kernel:
    """A part of a kernel, callable from compiled code only, which saves the time to compile its wrappers."""
    options: dict[str, Any] = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Kernel, numba.njit(**options)(function))
