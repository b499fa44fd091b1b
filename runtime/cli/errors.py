"""What the command line says and returns when something goes wrong.

Decides exit codes and the one message that a person sees; must never know which command it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from traces.errors import BadInputError


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNSERVED_OR_LATE = 3  # done, but some session is unserved or late
    INTERRUPTED = 130


@contextmanager
def told() -> Iterator[None]:
    """Turn what is not our bug into a message on stderr and an exit code."""
    try:
        yield
    except BadInputError as error:
        _stop(str(error), ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        _stop("interrupted; nothing was written", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains again
        raise SystemExit(ExitCode.FAILED) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _stop(f"{place}{error.strerror or error}", ExitCode.FAILED)


def _stop(message: str, code: ExitCode) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(int(code)) from None
