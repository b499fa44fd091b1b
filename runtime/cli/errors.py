"""How a command ends: which exceptions become which message and exit code.

Decides the exit codes 1, 2 and 130; must never know what a command does.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from traces.errors import BadInputError

FAILED = 1
BAD_INPUT = 2
UNSERVED_OR_LATE = 3
INTERRUPTED = 130

_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk with -o",
    errno.EACCES: "write to a place that you may write to, with -o",
    errno.EROFS: "write to a place that you may write to, with -o",
    errno.ENOENT: "make the folder first",
}


@contextmanager
def told() -> Iterator[None]:
    """Wrap a command's body: bad input, a failing disk and Ctrl-C become a message on stderr and an exit code.

    Usable as `with told():` and as `@told()`. A closed pipe on stdout (as with `| head`) ends quietly. Every other
    exception is a bug and keeps its traceback.
    """
    try:
        yield
    except BadInputError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        raise typer.Exit(FAILED) from error
    except OSError as error:
        place = error.filename2 or error.filename
        reason = f"{error.strerror or error}" + (f": {place}" if place else "")
        hint = _HINTS.get(error.errno or 0)
        typer.echo(f"{reason}; {hint}" if hint else reason, err=True)
        raise typer.Exit(FAILED) from error
