"""The gateway's small parts: changes, tokens, origins, pictures, and what is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runtime.encode.chunk import FinishedChunk
from runtime.encode.kinds import open_encoder
from runtime.gateway.changes import AGAIN_S, RECHECK_S, Change, Changes, Step
from runtime.gateway.config import check_origin, http_address, read_admin_token
from runtime.gateway.desk import Desk
from runtime.gateway.limits import Limits
from runtime.gateway.messages import Created, Serving, Status, Want
from runtime.gateway.metrics import families
from runtime.gateway.origins import may_speak
from runtime.gateway.pictures import pictures_of
from runtime.gateway.playout import Playout
from runtime.gateway.session import WAITING_S, Session, owner_of
from runtime.gateway.stream import Kept, Stream
from runtime.gateway.tokens import digest_of, new_token, scopes_of
from runtime.gateway.workers import ToOwner
from runtime.worker.messages import Steered, Text
from runtime.worker.process.messages import Delivered, Steer
from scheduler.cluster import SessionId
from traces.errors import BadInputError

TEXT = Text(profile="a", seed=1, prompt="p")
SERVING = Serving(
    controller_epoch=1,
    session_id="s",
    where="active",
    ownership=1,
    lineage=0,
    worker="w",
    incarnation=1,
    token_sha256=digest_of("t"),
    text=TEXT,
)


def test_a_prompt_is_written_down_before_it_is_said() -> None:
    changes = Changes("first", 4)
    assert changes.ask("q", None, 0.0)
    assert changes.to_write(0.0) == (1, "q")
    assert changes.to_say(0.0) == Step(serial=0)
    changes.steered(0, 0.0)
    assert changes.to_say(0.1) is None
    assert changes.to_write(0.1) is None
    assert changes.to_write(AGAIN_S) == (1, "q")
    changes.prompted(1)
    said = changes.to_say(1.0)
    assert said is not None
    assert (said.serial, said.change.prompt) == (1, "q")
    assert [change.prompt for change in changes.steered(1, 1.0)] == ["q"]
    assert changes.prompt == "q"


def test_of_controls_that_were_not_said_the_last_counts() -> None:
    changes = Changes("first", 4)
    for control in "abc":
        assert changes.ask(None, control, 0.0)
    assert changes.waiting == 1
    changes.to_say(0.0)
    changes.steered(0, 0.0)
    assert changes.to_say(0.0) == Step(serial=1, change=Change(control="c"))
    for control in "def":
        assert changes.ask(None, control, 0.0)
    assert [change.control for change in changes.steered(1, 0.0)] == ["c"]
    assert changes.to_say(0.0) == Step(serial=2, change=Change(control="f"))


def test_too_many_changes_are_turned_away() -> None:
    changes = Changes("first", 2)
    assert [changes.ask(prompt, None, 0.0) for prompt in "abc"] == [True, True, False]


def test_what_was_refused_does_not_come_back_with_a_new_lineage() -> None:
    changes = Changes("first", 4)
    changes.ask("bad", None, 0.0)
    changes.to_write(0.0)
    changes.prompted(1)
    changes.to_say(0.0)
    changes.steered(0, 0.0)
    changes.to_say(0.0)
    assert changes.unsteered(1, "other", None, 0.0) is None
    refused = changes.unsteered(1, "bad", None, 0.0)
    assert refused is not None
    assert changes.unsteered(1, "bad", None, 0.0) is None
    assert changes.to_write(0.0) == (2, "first")
    assert changes.waiting == 0


def test_who_has_come_less_far_is_brought_there_with_the_sum() -> None:
    changes = Changes("first", 4)
    changes.to_say(0.0)
    for serial, control in enumerate("ab", 1):
        changes.ask(None, control, 0.0)
        changes.steered(serial - 1, 0.0)
        changes.to_say(0.0)
        changes.steered(serial, 0.0)
    changes.owner_changes(1.0)
    assert changes.to_say(1.0) == Step(serial=0)
    changes.steered(0, 1.0)
    assert changes.to_say(1.0) == Step(serial=1, change=Change(control="b"))
    changes.steered(1, 1.0)
    assert changes.to_say(1.0) == Step(serial=2, change=Change(control="b"))
    changes.steered(2, 1.0)
    assert changes.to_say(1.0 + RECHECK_S / 2) is None
    assert changes.to_say(1.0 + RECHECK_S) == Step(serial=0)


def _chunk(number: int, size_bytes: int = 1) -> Delivered:
    return Delivered(
        worker="w",
        incarnation=1,
        controller_epoch=1,
        session_id="s",
        ownership=1,
        lineage=0,
        number=number,
        encoding="none",
        body=bytes(size_bytes),
    )


def test_a_ring_that_is_full_of_bytes_gives_no_more_credit() -> None:
    stream = Stream(Limits(ahead=4, ring_bytes_max=100))
    assert stream.credit() == 4
    stream.take(_chunk(0, 100), present=True)
    assert stream.credit() == 1
    stream.took(1)
    assert stream.credit() == 5


@given(sizes=st.lists(st.integers(1, 60), max_size=40), present=st.booleans())
def test_a_ring_stays_within_its_bounds(sizes: list[int], present: bool) -> None:
    stream = Stream(Limits(ahead=2, ring_chunks_max=5, ring_bytes_max=100))
    for number, size_bytes in enumerate(sizes):
        stream.take(_chunk(number, size_bytes), present=present)
        stream.took(stream.next_seq)
        assert stream.next_seq - stream.first_seq <= 5
        assert stream.ring_bytes <= 100
        kept = [stream.chunk(seq) for seq in range(stream.first_seq, stream.next_seq)]
        assert stream.ring_bytes == sum(each.size_bytes for each in kept if each is not None)


def test_rings_that_were_not_fed_for_longest_give_way() -> None:
    names = iter("abc")
    desk = Desk("g", 1, Limits(memory_bytes_max=100), lambda: next(names))
    status = Status(controller_epoch=1, sent_s=0.0, ready=True, accepts=True, retry_after_s=0.0, counts={})
    desk.heard(status, 0.0)
    for name in "abc":
        session = desk.create("", Text(profile="p", seed=1, prompt=""), bytes(32), 0.0)
        assert desk.heard_from_worker(replace(_chunk(0, 40), session_id=name), 0.0) == "taken"
        assert session.stream.ring_bytes == 40
    assert desk.ring_bytes == 80
    assert [desk.sessions[name].stream.ring_bytes for name in "abc"] == [0, 40, 40]


def test_a_memory_that_was_full_gives_credit_again_as_soon_as_chunks_are_taken() -> None:
    names = iter("ab")
    desk = Desk("g", 1, Limits(memory_bytes_max=100, ahead=3, ring_chunks_max=3), lambda: next(names))
    desk.heard(Status(controller_epoch=1, sent_s=0.0, ready=True, accepts=True, retry_after_s=0.0, counts={}), 0.0)
    text = Text(profile="p", seed=1, prompt="")
    clients = {}
    for name in "ab":
        session = desk.create("", text, bytes(32), 0.0)
        served = Serving(
            controller_epoch=1,
            session_id=name,
            where="active",
            ownership=1,
            lineage=0,
            worker="w",
            incarnation=1,
            token_sha256=bytes(32),
            text=text,
        )
        desk.heard(served, 0.0)
        clients[name] = session.attach(None, acks=True, now_s=0.0)
    for number in range(3):
        assert desk.heard_from_worker(replace(_chunk(number, 40), session_id="a", ownership=1), 0.0) == "taken"
    assert desk.ring_bytes == 120
    assert not any(isinstance(said, ToOwner) for said in desk.due(0.1)), "there is no memory for more"
    for seq in range(3):
        clients["a"].sent(seq, 0.2)
    clients["a"].acked(3, 0.2)
    desk.changed("a", 0.2)
    said = [*desk.due(0.3), *desk.due(1.0)]
    assert {each.message.session_id for each in said if isinstance(each, ToOwner)} == {"a", "b"}
    assert desk.ring_bytes == 0


def test_a_token_opens_its_own_session_alone() -> None:
    own, other, admin = new_token(), new_token(), new_token()
    assert len({own, other, admin}) == 3
    session, operator = digest_of(own), digest_of(admin)
    assert scopes_of(own, session, operator) == {"attach", "control"}
    assert scopes_of(admin, session, operator) == {"control", "admin"}
    for token in (other, "", None, "x" * 10_000, "\ud800"):
        assert scopes_of(token, session, operator) == frozenset()
        assert scopes_of(token, None, None) == frozenset()


@pytest.mark.parametrize(
    ("origin", "host", "bound_to", "may"),
    [
        (None, "127.0.0.1:8000", "127.0.0.1", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1", True),
        ("http://localhost:8000", "localhost:8000", "127.0.0.1", True),
        ("http://[::1]:8000", "[::1]:8000", "::1", True),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", "127.0.0.1", False),
        ("http://rebound.example:8000", "rebound.example:8000", "127.0.0.1", False),
        ("https://video.example", "video.example", "0.0.0.0", True),  # noqa: S104
        ("https://evil.example", "video.example", "0.0.0.0", False),  # noqa: S104
        ("https://app.example", "video.example", "127.0.0.1", True),
        ("HTTPS://APP.example", "video.example", "127.0.0.1", True),
        ("null", "127.0.0.1:8000", "127.0.0.1", False),
        ("file://", "127.0.0.1:8000", "127.0.0.1", False),
        ("http://[", "[", "127.0.0.1", False),
        ("http://127.0.0.1:8000", None, "127.0.0.1", False),
    ],
)
def test_pages_may_speak_from_their_own_place_or_a_named_one(
    origin: str | None, host: str | None, bound_to: str, may: bool
) -> None:
    assert may_speak(origin, host, frozenset({"https://app.example"}), bound_to=bound_to) is may


@pytest.mark.parametrize("kind", ["h264", "mjpeg"])
def test_pictures_are_read_from_what_the_encoder_writes(kind: str) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (12, 32, 48, 3), dtype=np.uint8)
    finished = FinishedChunk(
        session_id=SessionId("s"),
        lineage=0,
        number=7,
        frames=frames,
        frames_per_s=16.0,
        kind=kind,  # type: ignore[arg-type]
        scale=2,
    )
    made = open_encoder(finished.form).encode(finished, key_frame=True)
    found = pictures_of(_kept(kind, made.body, made.init))
    assert (found.width, found.height, found.frames) == (96, 64, 12)
    assert found.fps == pytest.approx(16.0)
    assert found.play_s == pytest.approx(0.75)
    assert found.codec.startswith("avc1." if kind == "h264" else "mjpeg")


@given(body=st.binary(max_size=300), init=st.one_of(st.none(), st.binary(max_size=100)), at=st.integers(0, 80))
def test_pictures_of_anything_are_no_error(body: bytes, init: bytes | None, at: int) -> None:
    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\nX-Timestamp: 0.000000\r\n\r\n"
    for kind in ("h264", "mjpeg", "none"):
        assert pictures_of(_kept(kind, body, init)).codec
        assert pictures_of(_kept(kind, head[:at] + body, b"avcC" + (init or b""))).codec
        assert pictures_of(_kept(kind, head + b"\xff\xd8\xff" + body, init)).codec


def _kept(kind: str, body: bytes, init: bytes | None) -> Kept:
    return Kept(
        lineage=0,
        number=7,
        encoding=kind,  # type: ignore[arg-type]
        body=body,
        init=init,
        opens=True,
        key_frame=True,
        discontinuity=False,
        gap=False,
        shape=(),
    )


def test_a_client_stalls_when_all_that_came_has_been_shown() -> None:
    playout = Playout()
    assert [playout.came(1.0, now_s) for now_s in (0.0, 0.5, 1.9, 3.0, 4.5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    playout.stops()
    assert [playout.came(1.0, now_s) for now_s in (60.0, 61.25)] == [0.0, 0.25]


def test_counts_that_are_no_metrics_are_left_out() -> None:
    counts = {'a{x="1"}': 1.0, 'a{y="1"}': 2.0, "b_total": 3.0, "Ü": 4.0, 'c{x="1"y="2"}': 5.0, "epochal_sessions": 6.0}
    assert sorted(family.name for family in families(counts)) == ["a", "b"]


def test_a_sum_and_its_count_are_a_summary_and_nothing_else_has_its_name() -> None:
    counts = {"a_sum": 1.5, "a_count": 2.0, "a": 9.0, "b_sum": 1.0, "c_count": 3.0, "d_sum": 1.0}
    counts["d_count"] = float("inf")
    found = {family.name: (family.type, [sample.value for sample in family.samples]) for family in families(counts)}
    assert found == {
        "a": ("gauge", [9.0]),
        "b_sum": ("gauge", [1.0]),
        "c_count": ("gauge", [3.0]),
        "d_count": ("gauge", [float("inf")]),
        "d_sum": ("gauge", [1.0]),
    }
    counts.pop("a")
    assert {family.name: family.type for family in families(counts)}["a"] == "summary"


def test_addresses_that_others_reach_need_tls() -> None:
    assert http_address("--http", "127.0.0.1:0", is_safe=False) == ("127.0.0.1", 0)
    assert http_address("--http", "[::1]:80", is_safe=False) == ("::1", 80)
    assert http_address("--http", "0.0.0.0:80", is_safe=True) == ("0.0.0.0", 80)  # noqa: S104
    for text, told in (("0.0.0.0:80", "--behind-proxy"), ("80", "HOST:PORT"), ("h:99999", "HOST:PORT")):
        with pytest.raises(BadInputError, match=told):
            http_address("--http", text, is_safe=False)
    for origin in ("app.example", "https://a/b", "ftp://a", "https://"):
        with pytest.raises(BadInputError):
            check_origin("--origin", origin)


def test_an_operators_token_is_long_enough(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("x" * 32 + "\n")
    assert read_admin_token(path) == digest_of("x" * 32)
    path.write_text("short")
    with pytest.raises(BadInputError, match="5 characters"):
        read_admin_token(path)


def test_a_change_of_mind_is_said_until_the_controller_has_answered() -> None:
    """Where it said the session was before that says nothing: its answer to what came between may be lost."""
    session = Session("s", "", TEXT, digest_of("t"), Limits(), 0.0)
    session.created(Created(session_id="s", position=0))
    waiting = replace(SERVING, where="waiting", ownership=0, worker="", incarnation=0)

    def wants(now_s: float) -> list[bool]:
        return [said.active for said in session.due(now_s) if isinstance(said, Want)]

    session.served(waiting, 0.0)
    session.attach(None, acks=True, now_s=0.0)
    assert wants(0.0) == []
    session.pause(paused=True, now_s=1.0)
    assert wants(1.0) == [False]
    session.pause(paused=False, now_s=1.1)
    assert wants(1.1) == [True], "it may not wait any more"
    assert session.next_s(1.1) <= 1.1 + AGAIN_S
    assert wants(1.1 + AGAIN_S) == [True]
    session.served(waiting, 2.0)
    assert wants(1.9 + WAITING_S) == []
    assert wants(2.0 + WAITING_S) == [True], "that it is over may have been said, and not heard"


def test_what_was_confirmed_waits_once_however_many_lineages_begin() -> None:
    changes = Changes("first", 4)
    changes.lineage_begins(0.0)
    assert changes.ask("q", "up", 0.0)
    changes.prompted(1)
    changes.steered(0, 0.0)
    assert changes.to_say(0.0) == Step(serial=1, change=Change(prompt="q", control="up", prompt_serial=1))
    assert len(changes.steered(1, 0.0)) == 1
    for second in (1.0, 2.0, 3.0):
        changes.lineage_begins(second)
        assert changes.waiting == 1
    changes.steered(0, 3.0)
    said = changes.to_say(3.0)
    assert said is not None
    assert (said.serial, said.change.prompt, said.change.control) == (1, "q", "up")


def test_an_answer_to_another_gateway_is_no_answer() -> None:
    """A gateway that has ended had said a change: who takes its place has another with that serial."""
    session = Session("s", "", TEXT, digest_of("t"), Limits(), 0.0, asker=2)
    session.served(SERVING, 0.0)
    owner = owner_of(SERVING)
    assert owner is not None
    session.attach(None, acks=True, now_s=0.0)
    assert session.update(None, "up", 0.0)

    def steers(now_s: float) -> list[Steer]:
        messages = [said.message for said in session.due(now_s) if isinstance(said, ToOwner)]
        return [message for message in messages if isinstance(message, Steer)]

    assert [(steer.serial, steer.asker) for steer in steers(0.0)] == [(0, 2)]
    for serial in (0, 1):
        session.told(owner, Steered(session_id="s", lineage=0, serial=serial, asker=1), 0.1)
    assert session.changes.waiting == 1
    assert [steer.serial for steer in steers(1.0)] == [0], "it has not been answered"
    session.told(owner, Steered(session_id="s", lineage=0, serial=1, asker=2), 1.1)
    assert [(steer.serial, steer.control) for steer in steers(1.2)] == [(2, "up")]
    session.told(owner, Steered(session_id="s", lineage=0, serial=2, asker=2), 1.3)
    assert session.changes.waiting == 0
