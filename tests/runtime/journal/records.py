"""Random lives of sessions and workers as records, each of which may follow those before it.

Decides which step is tried next; must never know what a record changes: whether it may follow is asked of the rules.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from runtime.journal.records import (
    Aborted,
    Cleared,
    Committed,
    Created,
    Ended,
    Finished,
    GivenBack,
    Joined,
    Left,
    Lost,
    Placed,
    Prepared,
    Prompted,
    Reactivated,
    Record,
    Withheld,
)
from runtime.journal.rules import ContradictionError, after
from runtime.journal.truth import Truth

TOKEN = bytes(range(32))


def a_session(name: str, prompt: str = "a red square") -> Created:
    return Created(session_id=name, profile="shapes", seed=7, prompt=prompt, token_sha256=TOKEN)


def lives(seed: int, truth: Truth | None = None) -> Iterator[Record]:
    """Without an end."""
    chance, truth = random.Random(seed), truth or Truth()
    while True:
        record = _tried(chance, truth)
        try:
            truth = after(truth, [record])
        except ContradictionError:
            continue
        yield record


def _tried(chance: random.Random, truth: Truth) -> Record:
    session, worker, attempt = f"s{chance.randrange(6)}", f"w{chance.randrange(4)}", truth.last_attempt + 1
    opened = chance.choice(list(truth.handovers)) if truth.handovers else 0
    incarnation = truth.workers.get(worker, 0)
    tried: tuple[Record, ...] = (
        Joined(worker=worker, incarnation=chance.randrange(1000)),
        a_session(session, prompt=f"prompt {chance.randrange(9)}"),
        Prompted(session_id=session, prompt="another"),
        Placed(session_id=session, worker=worker),
        Placed(session_id=session, worker=worker),
        Prepared(session_id=session, attempt=attempt, target=worker),
        Prepared(session_id=session, attempt=attempt, target=worker),
        Committed(attempt=opened),
        Aborted(attempt=opened),
        Reactivated(attempt=opened),
        Finished(attempt=opened),
        *((Lost(session_id=session),) if chance.random() < 0.3 else ()),
        *((Withheld(worker=worker),) if chance.random() < 0.3 else ()),
        *((GivenBack(worker=worker),) if chance.random() < 0.3 else ()),
        *((Cleared(session_id=session),) if chance.random() < 0.3 else ()),
        *((Ended(session_id=session),) if chance.random() < 0.3 else ()),
        *((Left(worker=worker, incarnation=incarnation, reason="gone"),) if chance.random() < 0.3 else ()),
    )
    return chance.choice(tried)
