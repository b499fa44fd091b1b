"""Changes of prompt and control on their way to whoever serves a session.

Decides which change is said next, and to whom again; must never know a socket, nor what a change looks like.

A worker numbers the changes of a lineage 1, 2, 3, ..., takes only the next one, and answers each with how far it has
come. Only its last answer counts, and it is asked again now and then: whatever was lost, doubled or late, and whoever
serves by then, what was asked for becomes part of the session. Changes are absolute, so that one who has come less far
than somebody before it is brought there with their sum.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

AGAIN_S = 0.5
RECHECK_S = 5.0  # after which a worker is asked again how far it has come


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`None` leaves it as it is."""

    prompt: str | None = None
    control: str | None = None
    prompt_serial: int = 0  # of the prompt among those that the controller writes down

    def then(self, later: Change) -> Change:
        return Change(
            prompt=self.prompt if later.prompt is None else later.prompt,
            control=self.control if later.control is None else later.control,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a worker is to be told: a change with its serial; with serial 0, a question that changes nothing."""

    serial: int
    change: Change = Change()


class Changes:
    """Of one session. Time is an argument, in seconds of any clock that only grows."""

    def __init__(self, prompt: str, waiting_max: int) -> None:
        self.prompt = prompt  # that of the newest change which took effect
        self._waiting_max = waiting_max
        self._waiting: deque[Change] = deque()
        self._sum = Change()  # of all that were confirmed in this lineage
        self._next = 1  # the serial of the first that waits
        self._has: int | None = None  # how far the owner has come, as it has said last
        self._known = False  # whether `_next` is more than a guess
        self._said = False  # whether the first that waits has been said
        self._say_s = 0.0
        self._prompt_serial = self._written = 0
        self._to_write: tuple[int, str] | None = None
        self._write_s = 0.0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, prompt: str | None, control: str | None, now_s: float) -> bool:
        """False if too many wait already. The last of several controls counts where none has been said yet."""
        later = len(self._waiting) > (1 if self._said else 0)
        if prompt is None and later and self._waiting[-1].prompt is None:
            self._waiting[-1] = Change(control=control)
            return True
        if len(self._waiting) >= self._waiting_max:
            return False
        serial = 0 if prompt is None else self._write(prompt, now_s)
        self._waiting.append(Change(prompt=prompt, control=control, prompt_serial=serial))
        self._say_s = min(self._say_s, now_s)
        return True

    def lineage_begins(self, now_s: float) -> None:
        """Its prompt is the newest that is written down; all else is to be said anew."""
        if self._sum != Change():
            self._waiting.appendleft(self._sum)
            self._sum = Change()
        self._next, self._known = 1, True
        self._new_owner(now_s)

    def owner_changes(self, now_s: float) -> None:
        """What it has come to is to be heard from itself."""
        self._new_owner(now_s)

    def written_before(self, serial: int) -> None:
        """The controller has written down prompts up to here, before this gateway began."""
        self._prompt_serial, self._written = max(self._prompt_serial, serial), max(self._written, serial)

    def prompted(self, serial: int) -> None:
        """The controller has written a prompt down."""
        if serial <= self._prompt_serial:
            self._written = max(self._written, serial)
        if self._to_write is not None and self._to_write[0] <= self._written:
            self._to_write = None
            self._say_s = 0.0

    def steered(self, serial: int, now_s: float) -> tuple[Change, ...]:
        """The owner says how far it has come. What has taken effect by that."""
        self._has = serial
        last = self._next + len(self._waiting) - 1
        self._say_s = now_s if self._waiting or serial + 1 < self._next else now_s + RECHECK_S
        if serial > last or not self._known:
            self._next, self._known, self._said = max(serial + 1, self._next if self._known else 0), True, False
            return ()
        done = []
        while self._next <= serial:
            change = self._waiting.popleft()
            done.append(change)
            self._sum = self._sum.then(change)
            self.prompt = self.prompt if change.prompt is None else change.prompt
            self._next, self._said = self._next + 1, False
        return tuple(done)

    def unsteered(self, serial: int, prompt: str | None, control: str | None, now_s: float) -> Change | None:
        """The owner refuses the change that would have been the next: it never was. None if another is meant."""
        change = self._waiting[0] if self._waiting else None
        if change is None or serial != self._next or (change.prompt, change.control) != (prompt, control):
            return None
        self._waiting.popleft()
        self._said, self._say_s = False, now_s
        if change.prompt is not None and not any(later.prompt is not None for later in self._waiting):
            self._write(self.prompt, now_s)  # what begins anew is not to show what was refused
        return change

    def to_write(self, now_s: float) -> tuple[int, str] | None:
        """The prompt that the controller is to be told now."""
        if self._to_write is None or now_s < self._write_s:
            return None
        self._write_s = now_s + AGAIN_S
        return self._to_write

    def to_say(self, now_s: float) -> Step | None:
        """What the owner is to be told now."""
        if now_s < self._say_s or not self._concerned:
            return None
        self._say_s = now_s + AGAIN_S
        if self._has is None or not self._known:
            return Step(serial=0)
        if self._has + 1 < self._next:
            return Step(serial=self._has + 1, change=self._sum)
        if self._waiting and self._waiting[0].prompt_serial <= self._written:
            self._said = True
            return Step(serial=self._next, change=self._waiting[0])
        self._say_s = now_s + RECHECK_S if not self._waiting else self._say_s
        return Step(serial=0) if not self._waiting else None

    def next_s(self) -> float | None:
        """When there may be something to say; None: not before something happens."""
        times = [self._write_s] if self._to_write is not None else []
        return min([*times, self._say_s] if self._concerned else times, default=None)

    @property
    def _concerned(self) -> bool:
        """Whether anything was ever asked for."""
        return bool(self._waiting) or self._sum != Change()

    def _new_owner(self, now_s: float) -> None:
        self._has, self._said, self._say_s = None, False, now_s

    def _write(self, prompt: str, now_s: float) -> int:
        self._prompt_serial += 1
        self._to_write, self._write_s = (self._prompt_serial, prompt), now_s
        return self._prompt_serial
