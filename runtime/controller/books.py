"""All that a controller goes by while it decides, and what the step that it is deciding says so far.

Decides how truth, workers and the planner's picture of the fleet change together; must never know why they do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from msgspec.structs import replace as with_fields

from runtime.controller.handovers import Handovers
from runtime.controller.orders import Orders
from runtime.controller.owners import Owners
from runtime.controller.roster import Roster
from runtime.controller.step import Step, Switch, Word
from runtime.controller.tally import Tally
from runtime.controller.waiting import Waiting
from runtime.gateway.messages import Serving, ToGateway
from runtime.journal.records import Record
from runtime.journal.rules import after
from runtime.journal.truth import Owned, Truth
from runtime.worker.messages import Desired, Text
from scheduler import events
from scheduler.cluster import GpuId, History, Session, SessionId
from scheduler.cluster_state import ClusterState, all_off
from scheduler.fleet import Fleet

NEWS_MAX = 1000  # sessions that a gateway which begins anew hears of in a tick: more would not wait in its connection
VERSIONS = 1_000_000_000  # of plans, for each controller: what is said of one never means another controller's


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a session beyond what is written down; after a restart it has to be heard again."""

    active: bool  # what its client wants
    state: str = ""  # as its owner has said last; empty: it has not
    losses: int = 0  # in a row, of its state, by workers that are still there
    ending: str = ""  # why, as soon as nobody hands it over; empty: it goes on
    heard: bool = False  # its client has said what it wants to this controller
    there_at: int = 0  # inventories up to this number were asked for before it was placed, or known to be there


class Books:
    """Used by the parts of one controller. `step` tells what was decided, and begins the next."""

    def __init__(
        self, fleet: Fleet, truth: Truth, roster: Roster, handovers: Handovers, history: History | None = None
    ) -> None:
        self.fleet, self.truth, self.roster, self.handovers = fleet, truth, roster, handovers
        self.orders = Orders()
        self.orphans: dict[tuple[str, str], float] = {}  # worker and session that nobody knows: since when it is seen
        self.known: dict[str, Known] = {}
        off = all_off(fleet)
        begins = replace(off, version=truth.controller_epoch * VERSIONS, history=history or off.history)
        self.cluster = ClusterState(begins)
        self.tally = Tally()
        self.touched: set[str] = set()  # sessions of which a gateway may have to hear
        self.chunks: dict[str, int] = {}  # of each session's next chunk, as its owner has told in this lineage
        self.gateway_since = 0  # of the last gateway that has come
        self._untold: tuple[str, ...] = ()  # sessions of which that gateway is still to hear
        self.owners = Owners(truth)
        self.waiting = Waiting()
        self._served: dict[str, Serving] = {}  # as the gateway has it
        self._records: list[Record] = []
        self._words: list[Word] = []
        self._replies: list[ToGateway] = []
        self._switches: list[Switch] = []
        self._told: list[events.Event] = []  # to the planner's picture

    def copy(self) -> Books:
        """What is decided on it is forgotten with it."""
        copied = Books.__new__(Books)
        copied.fleet, copied.truth = self.fleet, self.truth
        copied.roster, copied.handovers, copied.orders = self.roster.copy(), self.handovers.copy(), self.orders.copy()
        copied.orphans = dict(self.orphans)
        copied.known, copied.cluster = dict(self.known), ClusterState(self.cluster.snapshot())
        copied.tally = self.tally.copy()
        copied.touched, copied._told, copied._served = set(self.touched), list(self._told), dict(self._served)
        copied.chunks, copied.gateway_since, copied._untold = dict(self.chunks), self.gateway_since, self._untold
        copied.owners, copied.waiting = self.owners.copy(), self.waiting.copy()
        copied._records, copied._words = list(self._records), list(self._words)
        copied._replies, copied._switches = list(self._replies), list(self._switches)
        return copied

    def step(self) -> Step:
        """All that was decided since the last one."""
        self._replies += self._news()
        step = Step(
            records=tuple(self._records),
            words=tuple(self._words),
            replies=tuple(self._replies),
            switches=tuple(self._switches),
            events=tuple(self._told),
        )
        self._records, self._words, self._replies, self._switches, self._told = [], [], [], [], []
        return step

    def write(self, *records: Record) -> None:
        before, self.truth = self.truth, after(self.truth, records)
        self.owners.follow(records, before, self.truth)
        self._records += records

    def take(self, step: Step) -> tuple[Record, ...]:
        """What a part has decided by itself; gives its records."""
        self.write(*step.records)
        self._words += step.words
        for word in step.words:
            assert word.worker, "every word is to somebody"
        return step.records

    def order(self, worker: str, body: Desired, now_s: float) -> None:
        """Said until it is confirmed."""
        self._words.append(self.orders.give(worker, body, now_s))

    def say(self, *words: Word) -> None:
        self._words += words

    def reply(self, *messages: ToGateway) -> None:
        self._replies += messages

    def switch(self, worker: str, *, on: bool, at_once: bool = False) -> None:
        self._switches.append(Switch(worker=worker, on=on, at_once=at_once))

    def tell(self, event: events.Event, now_s: float) -> None:
        """The planner's picture."""
        self.cluster.apply(event, now_s)
        self._told.append(event)
        session_id = getattr(event, "session_id", None)
        if session_id is not None:
            self.touched.add(session_id)
            self._note_wait(session_id)
        elif isinstance(event, events.GpuLost | events.GpuStopped):
            for name in self.cluster.sessions:
                self._note_wait(name)

    def session(self, session_id: str) -> Session | None:
        """As the planner sees it."""
        return self.cluster.sessions.get(SessionId(session_id))

    def is_gpu(self, worker: str) -> bool:
        return GpuId(worker) in self.cluster.gpus

    def is_there(self, worker: str) -> bool:
        """It has said what it can do, and is listened to."""
        present = self.roster.present.get(worker)
        return present is not None and present.hello is not None

    def is_anothers(self, session_id: str, worker: str) -> bool:
        """Somebody owns the session, and it is not this worker."""
        owned = self.truth.sessions.get(session_id)
        return owned is not None and owned.worker not in (None, worker)

    def is_handed_over(self, session_id: str) -> bool:
        return any(handover.session_id == session_id for handover in self.truth.handovers.values())

    def gateway_is_here(self, since: int) -> None:
        """One that begins anew hears of every session, some at a time."""
        if since > self.gateway_since:
            self.gateway_since = since
            self._served.clear()
            self._untold = tuple(sorted(self.truth.sessions))
            self.tell_gateway_more()

    def tell_gateway_more(self) -> None:
        """Once in a tick."""
        self.touched.update(self._untold[:NEWS_MAX])
        self._untold = self._untold[NEWS_MAX:]

    @property
    def gateway_told(self) -> int:
        """Since when the gateway is there that has heard of every session; 0: it has not yet."""
        return 0 if self._untold else self.gateway_since

    def say_where(self, session_id: str) -> None:
        """Also if nothing has changed: somebody asks."""
        self._served.pop(session_id, None)
        self.touched.add(session_id)

    def computes(self, worker: str, chunks: Iterable[tuple[str, int]]) -> None:
        """What a worker's heartbeat tells of the sessions that it owns."""
        for session_id, number in chunks:
            owned = self.truth.sessions.get(session_id)
            if owned is not None and owned.worker == worker:
                self.chunks[session_id] = number

    def _news(self) -> list[ToGateway]:
        """Of sessions that are not where, or with whom, the gateway believes them to be."""
        news = list[ToGateway]()
        for session_id in sorted(self.touched):
            owned = self.truth.sessions.get(session_id)
            if owned is None:
                self._served.pop(session_id, None)
                self.chunks.pop(session_id, None)
                continue
            if owned.worker is None:  # another lineage begins at 0
                self.chunks.pop(session_id, None)
            serving = self._serving(session_id, owned)
            if self._served.get(session_id) != serving:
                self._served[session_id] = serving
                news.append(with_fields(serving, chunk_number=self.chunks.get(session_id, 0)))
        self.touched.clear()
        return news

    def _note_wait(self, session_id: str) -> None:
        session = self.session(session_id)
        waits_since_s = session.since_s if session is not None and session.status == "waiting" else None
        self.waiting.note(session_id, waits_since_s)

    def _serving(self, session_id: str, owned: Owned) -> Serving:
        session = self.session(session_id)
        present = None if owned.worker is None else self.roster.present.get(owned.worker)
        return Serving(
            controller_epoch=self.truth.controller_epoch,
            session_id=session_id,
            where="waiting" if session is None else session.status,
            ownership=owned.ownership,
            lineage=owned.lineage,
            worker="" if present is None else present.worker,
            incarnation=0 if present is None else present.incarnation,
            position=self.waiting.position(session_id),
            token_sha256=owned.token_sha256,
            text=text_of(owned),
            prompt_serial=owned.prompt_serial,
        )


def text_of(owned: Owned) -> Text:
    """What a session is to show if it begins now."""
    return Text(
        profile=owned.profile,
        seed=owned.seed,
        prompt=owned.prompt,
        lineage=owned.lineage,
        encoding=owned.encoding,
        scale=owned.scale,
    )
