"""Clients of several tenants at the product's gateway: each sees every chunk of its own session once, and in order.

Decides what a client says and takes; must never repair anything for the gateway.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.world.fleet import LIMITS
from runtime.chunk_models.emulated import mark_of
from runtime.gateway.client import Client
from runtime.gateway.desk import Desk
from runtime.gateway.session import Session
from runtime.gateway.stream import Kept
from runtime.gateway.tokens import digest_of, scopes_of
from runtime.worker.messages import Text

TENANTS = ("red", "blue")
POISON_CHANCE = 0.02  # that a user asks for it
POISON = "poison"  # whoever computes a prompt with this word ends at once
LOST = ("its state was lost", "its workers have ended")  # why a session that its user wants may end all the same

Proved = Callable[[str, int, int, bytes], bool]  # session, lineage, number, body: whether it was computed for it


@dataclass
class User:
    """One person's session, from the wish for it to its end."""

    tenant: str
    token: str
    seed: int
    asked: str  # the prompt that it has asked for last
    begun_s: float
    session_id: str = ""  # empty: nobody has taken it on
    promised: bool = False
    ending: bool = False
    paused: bool = False
    away_s: float = 0.0  # until when it is not there
    slow_s: float = 0.0  # until when it takes nothing
    client: Client | None = None
    next_seq: int | None = None  # of the chunk that it will take next; None: it has had none
    last: tuple[int, int] = (0, -1)  # lineage and number of its newest chunk
    shown: bytes = b""  # mark of the prompt of its newest chunk
    taken: int = 0
    unsure: bool = False  # whether the gateway has what it has asked for
    unacked: list[int] = field(default_factory=list)


class Clients:
    """All users, and the desk of the gateway that is there."""

    def __init__(self, chance: random.Random, proved: Proved, reached: Counter[str]) -> None:
        self._chance, self._proved, self.reached = chance, proved, reached
        self.users: list[User] = []
        self.why_ended: dict[str, str] = {}  # as the controller has said
        self._made = self._named = 0
        self.since = 0
        self.desk = self._new_desk()

    def _new_desk(self) -> Desk:
        self.since += 1000
        return Desk("g", self.since, LIMITS, self._new_name)

    def _new_name(self) -> str:
        self._named += 1
        return f"s{self._named}"

    def begin_anew(self) -> None:
        """The gateway's process was killed and begun again: it knows nothing, and its clients come back."""
        self.desk = self._new_desk()
        for user in self.users:
            user.client, user.unsure = None, True
            user.unacked.clear()
        self.users = [user for user in self.users if user.promised]  # nobody has the token of the others
        self.reached["gateway anew"] += 1

    # What users do.

    def come(self, now_s: float, *, poison_chance: float = POISON_CHANCE) -> User:
        self._made += 1
        tenant = TENANTS[self._made % len(TENANTS)]
        asked = f"{POISON if self._chance.random() < poison_chance else 'first'} {self._made}"
        user = User(tenant, f"token-{self._made}", seed=self._made, asked=asked, begun_s=now_s)
        self.users.append(user)
        return user

    def steer(self, user: User, now_s: float) -> None:
        session = self._of(user)
        wish = f"{user.asked.split(' /')[0]} /{self._chance.randrange(1000)}"
        if session is not None and session.update(wish, None, now_s):
            user.asked = wish
            self.desk.changed(user.session_id, now_s)

    def pause(self, user: User, now_s: float, *, paused: bool) -> None:
        session = self._of(user)
        if session is not None:
            user.paused = paused
            session.pause(paused=paused, now_s=now_s)
            self.desk.changed(user.session_id, now_s)

    def go_away(self, user: User, now_s: float, seconds: float) -> None:
        session = self._of(user)
        if session is not None and user.client is not None:
            session.detach(user.client, now_s)
            user.client, user.away_s = None, now_s + seconds
            user.unacked.clear()
            self.desk.changed(user.session_id, now_s)
            self.reached["client away"] += 1

    def _of(self, user: User) -> Session | None:
        """The user's session, if the token opens it, as the gateway decides that."""
        session = self.desk.sessions.get(user.session_id)
        digest = None if session is None else session.token_sha256
        allowed = "attach" in scopes_of(user.token, digest, None)
        return session if allowed and session is not None and not session.ending else None

    # Time.

    def step(self, now_s: float, *, takes: float) -> None:
        """`takes`: the chance that a client shows one more chunk."""
        for user in list(self.users):
            self._live(user, now_s, takes)

    def _live(self, user: User, now_s: float, takes: float) -> None:
        if not user.session_id:
            if self.desk.turned(now_s) is None:
                text = Text(profile="a", seed=user.seed, prompt=user.asked)
                user.session_id = self.desk.create(user.tenant, text, digest_of(user.token), now_s).session_id
                user.begun_s = now_s
            else:
                self.reached["turned away"] += 1
            return
        session = self.desk.sessions.get(user.session_id)
        if session is None:
            self._gone(user)
            return
        if user.promised and not session.ending:
            assert self._of(user) is session, f"{user.session_id} does not open for whom it was promised"
        if not user.promised and session.answer is not None:
            user.promised = True
        elif not user.promised and now_s >= user.begun_s + LIMITS.create_wait_s:
            session.end()
            user.ending = True
            self.desk.changed(user.session_id, now_s)
            self.reached["create given up"] += 1
        if user.ending:
            if not session.ending:
                session.end()
                self.desk.changed(user.session_id, now_s)
            return
        if user.promised:
            self._watch(user, session, now_s, takes)

    def _gone(self, user: User) -> None:
        """Only what its user has ended, what was refused, or what is lost again and again may go."""
        if user.promised and not self.desk.is_complete:
            return
        self.users.remove(user)
        self.reached["ended"] += user.ending
        if user.promised and not user.ending:
            why = self.why_ended.get(user.session_id, "")
            assert why.startswith(LOST), f"{user.session_id} was promised and is gone: {why}"
            self.reached["given up"] += 1

    def _watch(self, user: User, session: Session, now_s: float, takes: float) -> None:
        if user.client is not None and user.client.end is not None:
            self.reached[f"client {user.client.end}"] += 1
            user.client = None
            user.unacked.clear()
        if user.client is None:
            if now_s < user.away_s:
                return
            user.client = session.attach(user.next_seq, acks=True, now_s=now_s)
            session.pause(paused=user.paused, now_s=now_s)
            self.desk.changed(user.session_id, now_s)
            self.reached["client back"] += user.next_seq is not None
        if user.unsure and session.update(user.asked, None, now_s):  # what it has asked for may never have arrived
            user.unsure = False
            self.desk.changed(user.session_id, now_s)
        if now_s < user.slow_s:
            return
        if self._chance.random() < takes:
            self._take(user, user.client, now_s)
        if user.unacked and self._chance.random() < 0.7:
            user.client.acked(user.unacked[-1] + 1, now_s)
            user.unacked.clear()
            self.desk.changed(user.session_id, now_s)

    def _take(self, user: User, client: Client, now_s: float) -> None:
        found = client.next_chunk()
        if found is None:
            return
        seq, kept = found
        gap = client.gap or kept.gap
        client.sent(seq, now_s)
        self._follows(user, seq, kept, gap=gap)
        user.unacked.append(seq)
        user.next_seq, user.last = seq + 1, (kept.lineage, kept.number)
        user.taken += 1
        self.reached["discontinuity"] += kept.discontinuity
        self.reached["gap"] += gap

    def _follows(self, user: User, seq: int, kept: Kept, *, gap: bool) -> None:
        """Once, in order, and nothing is missing that it was not told of."""
        name, (lineage, number) = user.session_id, user.last
        assert user.next_seq is None or seq >= user.next_seq, f"{name}: seq {seq} after {user.next_seq}"
        assert (kept.lineage, kept.number) > (lineage, number), f"{name}: {kept.lineage}/{kept.number} comes again"
        if user.next_seq is not None and not gap:
            assert seq == user.next_seq, f"{name}: seq {seq} after {user.next_seq}, and no gap is told"
            if kept.lineage == lineage:
                assert kept.number == number + 1, f"{name}: chunk {kept.number} after {number}, and no gap is told"
            else:
                assert kept.discontinuity, f"{name}: lineage {kept.lineage} begins, and nobody is told"
        assert self._proved(name, kept.lineage, kept.number, kept.body), f"{name} was shown somebody else's chunk"
        user.shown = kept.body

    # What nobody may have.

    def strangers_are_told_nothing(self) -> None:
        """A token opens its own session, and no other one."""
        sessions = self.desk.sessions
        for user in self.users:
            opened = [name for name, s in sessions.items() if scopes_of(user.token, s.token_sha256, None)]
            assert set(opened) <= {user.session_id}, f"{user.session_id}'s token opens {opened}"

    def shows_what_was_asked(self, user: User) -> bool:
        """Whether the newest chunk that it has seen was made from the prompt that it has asked for last."""
        return mark_of(user.asked) in user.shown
