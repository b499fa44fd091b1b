"""What could not be written and comes again: what nobody else repeats.

Decides what is kept while a disk has no room; must never know a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.controller.controller import Available, EpochOver, Exited, Happening, Planned, Unavailable

_PROVIDED = (Exited, Available, Unavailable)  # of a worker, one after the other
_UNREPEATED = (*_PROVIDED, Planned, EpochOver)  # nobody says these again


def one_by_one(happenings: Iterable[Happening], decided: Callable[[Happening], bool]) -> list[Happening]:
    """Those that come again. `decided`: whether what follows from one could be written, or nothing does.

    That a worker can be started again says nothing before its end is written, and waits for that.
    """
    waiting: list[Happening] = []
    for happening in happenings:
        ended = {each.worker for each in waiting if isinstance(each, Exited)}
        waits = isinstance(happening, _PROVIDED) and happening.worker in ended
        if waits or (not decided(happening) and isinstance(happening, _UNREPEATED)):
            waiting = kept(waiting, happening)
    return waiting


def kept(before: Iterable[Happening], happening: Happening) -> list[Happening]:
    """With one more; a plan takes the place of the one before, so that a disk may be full for as long as it likes."""
    stay = [each for each in before if not (isinstance(each, Planned) and isinstance(happening, Planned))]
    return [*stay, happening]
