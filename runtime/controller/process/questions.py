"""What operators ask of the controller: the last plans, and why a session moves or stays in one of them.

Decides what is answered now, and which explanation is to be found first; must never know how one is found. Whoever
asks repeats it, so that nothing waits here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict

import msgspec

from runtime.controller.approval import PLANS_KEPT, Approval
from runtime.controller.process.planning import Explained, Made
from runtime.gateway.messages import FRAME_BYTES_MAX, Answer, Ask
from scheduler.cluster import SessionId
from scheduler.epoch_plan_json import epoch_plan_json

EXPLANATIONS_KEPT = 256
WANTED_MAX = 64  # explanations that are to be found
_HEAD_BYTES = 1024  # of a message, beside its body

Which = tuple[int, SessionId]


class Questions:
    """Used from one thread."""

    def __init__(self) -> None:
        self._plans: dict[int, Made] = {}
        self._found: OrderedDict[Which, bytes | None] = OrderedDict()  # None: it could not be found
        self._wanted: dict[Which, None] = {}

    def keep(self, made: Made, approval: Approval) -> None:
        """A plan that is not decided on yet; of an older one that asked for something, it may be the same version."""
        version = made.decision.plan.version
        if version not in approval.standings:
            self._plans[version] = made
        for old in self._plans.keys() - approval.standings.keys() - {version}:
            del self._plans[old]
        assert len(self._plans) <= PLANS_KEPT + 1, "the approval is bounded"

    def answer(self, asked: Ask, approval: Approval) -> Answer | None:
        """None: it is not known yet."""
        known = self._plans.keys() & approval.standings.keys()
        version = max(known, default=-1) if asked.version is None else asked.version
        if version not in known:
            return Answer(question=asked.question, body=None)
        made = self._plans[version]
        if asked.about == "plan":
            return Answer(question=asked.question, body=_plan(made, approval))
        session_id = SessionId(asked.session_id or "")
        if session_id not in made.snapshot.sessions:
            return Answer(question=asked.question, body=None)
        which = (version, session_id)
        if which not in self._found:
            if len(self._wanted) < WANTED_MAX:
                self._wanted[which] = None
            return None
        body = self._found[which]
        refused = "" if body else "no explanation could be found in time"
        return Answer(question=asked.question, body=body, refused=refused)

    def wanted(self) -> tuple[Made, SessionId] | None:
        """The next explanation to be found; it is wanted until it is explained."""
        for version, session_id in list(self._wanted):
            if version in self._plans:
                return self._plans[version], session_id
            del self._wanted[version, session_id]
        return None

    def explained(self, explained: Explained) -> None:
        """Found, or given up."""
        which = (explained.version, explained.session_id)
        self._wanted.pop(which, None)
        self._found[which] = explained.body
        while len(self._found) > EXPLANATIONS_KEPT:
            self._found.popitem(last=False)


def _plan(made: Made, approval: Approval) -> bytes:
    """With what has become of it; where it is too long for a message, without the seats of all sessions."""
    version = made.decision.plan.version
    told = epoch_plan_json(made.decision) | asdict(approval.standings[version])
    told |= {"early": made.early, "mode": approval.mode, "proposal": approval.proposal}
    body = msgspec.json.encode(told)
    if len(body) > FRAME_BYTES_MAX - _HEAD_BYTES:
        body = msgspec.json.encode(told | {"seats": None})
    return body
