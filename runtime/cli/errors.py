"""How a command ends: which exceptions become which message and exit code.

Decides the exit codes 1, 2 and 130; must never know what a command does.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from traces.errors import BadInputError

FAILED = 1
BAD_INPUT = 2
UNSERVED_OR_LATE = 3  # done, but some session is unserved or late
INTERRUPTED = 130

_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk with -o",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or write to another disk with -o",
    errno.EACCES: "write to a place that you may write to, with -o",
    errno.EROFS: "write to a place that you may write to, with -o",
    errno.ENOENT: "make the folder first",
}


@contextmanager
def told() -> Iterator[None]:
    """Turn what is not our bug into a message on stderr and an exit code; bugs keep their traceback."""
    try:
        yield
    except BadInputError as error:
        _stop(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains again
        raise SystemExit(FAILED) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        hint = f"; {_HINTS[error.errno]}" if error.errno in _HINTS else ""
        _stop(f"{place}{error.strerror or error}{hint}", FAILED)


def _stop(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code) from None
