"""Whatever is lost, doubled or late, and whoever dies: each chunk once and in order, and in the end what was asked."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.gateway.client import Client
from runtime.gateway.desk import Desk
from runtime.gateway.limits import Limits
from runtime.gateway.session import Session
from runtime.gateway.stream import Kept
from runtime.worker.messages import Text
from runtime.worker.process.messages import Delivered, ToGateway
from tests.runtime.gateway.toy_fleet import Fleet

LIMITS = Limits(ahead=3, ring_chunks_max=8, ring_bytes_max=200, changes_max=4, grace_s=3.0, slow_s=5.0, forget_s=1e6)
SETTLE_ROUNDS = 60
FATES = ["once", "once", "once", "once", "twice", "lost", "late"]


class Streams(RuleBasedStateMachine):
    """One session, two workers, and a client that comes and goes."""

    @initialize(answers_credit=st.booleans())
    def begin(self, answers_credit: bool) -> None:
        self.now_s, self.since = 0.0, 1
        self.fleet = Fleet()
        for worker in self.fleet.workers.values():
            worker.answers_credit = answers_credit
        self.desk = Desk("g", self.since, LIMITS, lambda: "s")
        self.client: Client | None = None
        self.is_anew = False  # a gateway that the client has had no chunk from
        self.seen: list[tuple[int, Kept, bool]] = []  # seq, chunk, whether something is known to be left out before
        self.taken: tuple[int, int, int] = (0, -1, 0)  # lineage, number and ownership of the newest chunk
        self.asked: dict[str, str] = {}  # of this gateway, what counts
        self._advance(0.6)
        self.session_id = self.desk.create(
            "", Text(profile="p", seed=1, prompt="first", encoding="h264"), bytes(32), self.now_s
        ).session_id
        for _ in range(3):
            self._round()
        assert self.fleet.owner == "a"
        self.client_comes(resumes=False)

    @property
    def session(self) -> Session | None:
        return self.desk.sessions.get(self.session_id)

    def _advance(self, step_s: float) -> None:
        self.now_s += step_s
        self.fleet.say(self.desk.due(self.now_s))
        while self.fleet.to_controller and not self.fleet.owner:
            self.fleet.hear(self.fleet.to_controller.pop(0))
        while self.fleet.from_controller and not self.desk.is_complete:
            self.desk.heard(self.fleet.from_controller.pop(0), self.now_s)

    def _round(self) -> None:
        """Everything arrives."""
        self.now_s += 0.25
        self.fleet.beat()
        self.fleet.await_taken()
        self.fleet.say(self.desk.due(self.now_s))
        while self.fleet.to_controller:
            self.fleet.hear(self.fleet.to_controller.pop(0))
        while self.fleet.from_controller:
            self.desk.heard(self.fleet.from_controller.pop(0), self.now_s)
        while self.fleet.to_workers:
            self._to_worker(self.fleet.to_workers.pop(0))
        for name in self.fleet.workers:
            while self.fleet.from_workers[name]:
                self._to_gateway(self.fleet.from_workers[name].pop(0))

    def _to_gateway(self, message: ToGateway) -> None:
        """Each chunk is taken once, in order, and never from a lower ownership."""
        if self.desk.heard_from_worker(message, self.now_s) != "taken" or not isinstance(message, Delivered):
            return
        assert (message.lineage, message.number) > self.taken[:2]
        assert message.ownership >= self.taken[2]
        self.taken = (message.lineage, message.number, message.ownership)

    def _to_worker(self, message: object) -> None:
        worker = self.fleet.workers[message.address.worker]  # type: ignore[attr-defined]
        if worker.incarnation == message.address.incarnation:  # type: ignore[attr-defined]
            self.fleet.from_workers[worker.name] += worker.hear(message.message, self.session_id)  # type: ignore[attr-defined]

    @rule(step_s=st.sampled_from([0.1, 0.5, 1.0, 2.5, 6.0]))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s
        self.fleet.beat()
        self.fleet.say(self.desk.due(self.now_s))

    @rule()
    def all_is_well_for_a_moment(self) -> None:
        self._round()
        self.workers_compute(1, 1)
        self._round()
        self.client_takes(2)

    @rule(a=st.integers(0, 3), b=st.integers(0, 3))
    def workers_compute(self, a: int, b: int) -> None:
        for name, count in (("a", a), ("b", b)):
            for _ in range(count):
                self.fleet.from_workers[name] += self.fleet.workers[name].compute(self.session_id)

    @rule(data=st.data(), count=st.integers(1, 4), fate=st.sampled_from(FATES))
    def to_somebody(self, data: st.DataObject, count: int, fate: str) -> None:
        """In any order: what the gateway says, and what the controller answers."""
        for _ in range(count):
            queues = [self.fleet.to_controller, self.fleet.to_workers, self.fleet.from_controller]
            at = data.draw(st.sampled_from([index for index, queue in enumerate(queues) if queue] or [-1]))
            if at < 0:
                return
            queue: list[object] = queues[at]  # type: ignore[assignment]
            message = queue.pop(data.draw(st.integers(0, len(queue) - 1)) if fate == "late" else 0)
            if fate == "twice":
                queue.append(message)
            if fate == "lost":
                continue
            if at == 0:
                self.fleet.hear(message)  # type: ignore[arg-type]
            elif at == 1:
                self._to_worker(message)
            else:
                self.desk.heard(message, self.now_s)  # type: ignore[arg-type]

    @rule(data=st.data(), count=st.integers(1, 4), fate=st.sampled_from(["once", "once", "once", "twice", "lost"]))
    def from_a_worker(self, data: st.DataObject, count: int, fate: str) -> None:
        """In order, from each."""
        name = data.draw(st.sampled_from("ab"))
        for _ in range(min(count, len(self.fleet.from_workers[name]))):
            message = self.fleet.from_workers[name].pop(0)
            for _ in range(("lost", "once", "twice").index(fate)):
                self._to_gateway(message)

    @rule(what=st.sampled_from(["freeze", "abort", "hand over"]))
    def hand_over(self, what: str) -> None:
        if what == "abort":
            self.fleet.abort()
            return
        self.fleet.freeze()
        for _ in range(2 if what == "hand over" else 0):
            self._round()

    @rule(zombie=st.booleans())
    def target_is_lost_after_the_commit(self, zombie: bool) -> None:
        self.fleet.reactivate(zombie=zombie)

    @rule(zombie=st.booleans())
    def owner_is_lost(self, zombie: bool) -> None:
        self.fleet.lose(zombie=zombie)

    @rule()
    def gateway_begins_anew(self) -> None:
        self.since += 1
        self.desk = Desk("g", self.since, LIMITS)
        self.client, self.taken, self.is_anew = None, (0, -1, 0), True
        self.asked.clear()
        while not self.desk.is_complete:
            self._round()

    @rule()
    def connection_to_the_controller_begins_anew(self) -> None:
        self.fleet.from_controller.clear()
        self.fleet.to_controller.clear()
        self.desk.reconnected()
        self.fleet.told = 0

    @rule(resumes=st.booleans())
    def client_comes(self, resumes: bool) -> None:
        session = self.session
        if session is None:
            return
        from_seq = self.seen[-1][0] + 1 if resumes and self.seen else None
        self.client = session.attach(from_seq, acks=False, now_s=self.now_s)
        if from_seq is not None:
            assert self.client.position >= min(from_seq, session.stream.next_seq)
        else:
            self.is_anew = False
            self.seen.clear()  # it has forgotten what it had
        self.desk.changed(self.session_id, self.now_s)

    @rule()
    def client_goes(self) -> None:
        if self.client is not None and self.session is not None:
            self.session.detach(self.client, self.now_s)
        self.client = None

    @rule(count=st.integers(1, 5))
    def client_takes(self, count: int) -> None:
        session, client = self.session, self.client
        for _ in range(count):
            found = None if client is None else client.next_chunk()
            if found is None or client is None or session is None:
                return
            seq, kept = found
            self._check_next(seq, kept, gap=kept.gap or client.gap)
            self.seen.append((seq, kept, client.gap))
            client.sent(seq, self.now_s)
            self.desk.changed(self.session_id, self.now_s)

    @rule(
        prompt=st.one_of(st.none(), st.sampled_from("pq")),
        control=st.one_of(st.none(), st.sampled_from("uv")),
        settles=st.booleans(),
    )
    def client_asks(self, prompt: str | None, control: str | None, settles: bool) -> None:
        if self.session is None or not (prompt or control):
            return
        if self.session.update(prompt, control, self.now_s):
            self.asked |= {name: value for name, value in (("prompt", prompt), ("control", control)) if value}
        self.desk.changed(self.session_id, self.now_s)
        for _ in range(6 if settles else 0):
            self._round()

    def _check_next(self, seq: int, kept: Kept, *, gap: bool) -> None:
        lineage, number, ownership = (int(word) for word in kept.body.split())
        assert (lineage, number) == (kept.lineage, kept.number)
        if not self.seen:
            assert kept.key_frame
            self.is_anew = False
            return
        if self.is_anew:  # it cannot know what the client has, and says so
            self.is_anew = False
            assert gap
            return
        before_seq, before, _ = self.seen[-1]
        assert seq > before_seq
        assert seq == before_seq + 1 or gap
        assert (lineage, number) > (before.lineage, before.number)
        assert ownership >= int(before.body.split()[2])
        if lineage == before.lineage:
            assert not kept.discontinuity
            assert number == before.number + 1 or gap
        else:
            assert kept.discontinuity or gap

    @invariant()
    def memory_is_bounded(self) -> None:
        if not hasattr(self, "desk"):
            return
        assert self.desk.ring_bytes == sum(each.stream.ring_bytes for each in self.desk.sessions.values())
        for session in self.desk.sessions.values():
            assert session.stream.next_seq - session.stream.first_seq <= LIMITS.ring_chunks_max + 2 * LIMITS.ahead
            assert session.changes.waiting <= LIMITS.changes_max + 1

    def teardown(self) -> None:
        """The faults are over: chunks come, and what is asked for takes effect."""
        if not hasattr(self, "desk"):
            return
        self.fleet.abort()
        for _ in range(20):
            self._round()
        session = self.session
        assert session is not None, "an acknowledged create is present until it ends"
        self.client_comes(resumes=True)
        self._until(self._has_what_was_asked, f"what was asked takes effect: {self.asked}")
        self._until(lambda: session.update("last", "w", self.now_s), "the changes before have gone through")
        self._until(lambda: self._held() == ("last", "w"), "what was asked last takes effect")
        self._until(lambda: session.changes.prompt == "last", "the gateway knows it")
        number = session.stream.next_seq
        self._until(lambda: session.stream.next_seq >= number + 8, "chunks come")
        assert self.fleet.prompt == "last"

    def _has_what_was_asked(self) -> bool:
        held = self.fleet.workers[self.fleet.owner].held
        return held is not None and all(getattr(held, name) == value for name, value in self.asked.items())

    def _held(self) -> tuple[str, str] | None:
        held = self.fleet.workers[self.fleet.owner].held
        return None if held is None else (held.prompt, held.control)

    def _until(self, there: object, claim: str) -> None:
        for _ in range(SETTLE_ROUNDS):
            if there():  # type: ignore[operator]
                return
            self.workers_compute(1, 1)
            self._round()
            self.client_takes(5)
        raise AssertionError(f"not after {SETTLE_ROUNDS} rounds: {claim}")


TestStreams = Streams.TestCase
TestStreams.settings = settings(stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
