"""What could not be written and comes again: what nobody else repeats.

Decides what is kept while a disk has no room; must never know a disk.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.controller.controller import Available, EpochOver, Exited, Happening, Planned, Unavailable

UNREPEATED = (Exited, Available, Unavailable, Planned, EpochOver)  # nobody says these again


def kept(before: Iterable[Happening], happening: Happening) -> list[Happening]:
    """With one more; a plan takes the place of the one before, so that a disk may be full for as long as it likes."""
    stay = [each for each in before if not (isinstance(each, Planned) and isinstance(happening, Planned))]
    return [*stay, happening]
