"""What a controller has decided: records to be written together, and only then words to be said.

Decides the words between decisions and whoever carries them out; must never know how either works.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.gateway.messages import ToGateway
from runtime.journal.records import Record
from runtime.transfer.messages import Migrating
from runtime.worker.messages import Desired
from runtime.worker.process.messages import AskInventory, Renew
from scheduler.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """To one incarnation of a worker; `None`: to the one that is there."""

    worker: str
    body: Migrating | Desired | Renew | AskInventory
    incarnation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """To whoever starts and stops workers."""

    worker: str
    on: bool
    at_once: bool = False  # off, whatever it does: it has been silent for too long, and its memory is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where the records could not be written, the copy of the state that decided this is thrown away with it."""

    records: tuple[Record, ...] = ()
    words: tuple[Word, ...] = ()
    replies: tuple[ToGateway, ...] = ()
    switches: tuple[Switch, ...] = ()
    events: tuple[Event, ...] = ()  # as the planner's picture was told; for whoever writes down what happened
