"""The real process: what clients get over HTTP and WebSocket, whatever they, the controller and workers do."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from runtime.gateway import messages as m
from runtime.gateway.framing import unframed
from tests.ports import free_port
from tests.runtime.gateway.live import Place, a_gateway, a_place, chunks, hear, words_of
from tests.runtime.gateway.stage import PATIENCE_S, a_stage


def _closed_with(opened: ClientConnection) -> tuple[int, dict[str, Any]]:
    """The code, and the last message before it."""
    last: dict[str, Any] = {}
    with contextlib.suppress(ConnectionClosed):
        while True:
            data = opened.recv(timeout=PATIENCE_S)
            last = json.loads(data) if isinstance(data, str) else last
    assert opened.close_code is not None
    return opened.close_code, last


def test_a_session_is_created_watched_changed_and_ended(place: Place) -> None:
    session = place.create()
    opened = place.start(session)
    assert hear(opened, "session.started")["from_seq"] == 0
    shown = hear(opened, "video.start")
    assert (shown["codec"], shown["width"], shown["height"], shown["frames"]) == ("raw", 8, 8, 12)
    found = chunks(opened, 20)
    assert [chunk.seq for chunk in found] == list(range(20))
    assert [words_of(chunk)[:2] for chunk in found] == [["0", str(number)] for number in range(20)]
    assert all(chunk.key_frame and not chunk.discontinuity and not chunk.gap for chunk in found)
    opened.send('{"type": "session.update", "prompt": "q", "control": "up"}')
    updated = hear(opened, "session.updated")
    assert (updated["prompt"], updated["control"]) == ("q", "up")
    place.until(lambda: words_of(chunks(opened, 1)[0])[2:4] == ["q", "up"], "chunks show what was asked for")
    opened.send('{"type": "session.update", "control": "left"}')
    place.until(
        lambda: place.stage.controls == {session["session_id"]: 2}, "the controller hears how many controls came"
    )
    path = f"/v1/sessions/{session['session_id']}"
    assert place.call("GET", path, token=session["token"]).body["prompt"] == "q"
    assert place.stage.prompts[session["session_id"]] == (1, "q")
    opened.send('{"type": "session.stop"}')
    assert _closed_with(opened) == (1000, {"type": "session.done", "reason": "ended"})
    assert place.call("GET", path, token=session["token"]).status == 404


def test_a_session_begins_with_the_control_of_its_create(place: Place) -> None:
    opened = place.start(place.create(control="down"))
    place.until(lambda: words_of(chunks(opened, 1)[0])[2:4] == ["p", "down"], "chunks show it")


def test_a_moved_session_goes_on_and_a_lost_one_begins_a_lineage(place: Place) -> None:
    stage = place.stage
    stage.tell(lambda: stage.add_worker("v"))
    session = place.create()
    name = session["session_id"]
    opened = place.start(session)
    opened.send('{"type": "session.update", "control": "up"}')
    hear(opened, "session.updated")
    stage.tell(lambda: stage.move(name, "v"))
    before = chunks(opened, 12)
    stage.tell(lambda: stage.move(name, "w", lost=True))
    found = [*before, *chunks(opened, 20)]
    numbers = [(chunk.lineage, int(words_of(chunk)[1])) for chunk in found]
    assert numbers == sorted(set(numbers))
    assert {lineage for lineage, _ in numbers} == {0, 1}
    assert [chunk.seq for chunk in found] == list(range(found[0].seq, found[0].seq + len(found)))
    assert [chunk.lineage for chunk in found if chunk.discontinuity] == [1]
    place.until(lambda: words_of(chunks(opened, 1)[0])[3] == "up", "the new lineage has the control, too")


def test_a_client_comes_back_where_it_was(place: Place) -> None:
    session = place.create()
    opened = place.start(session)
    last = chunks(opened, 10)[-1]
    opened.close()
    again = place.start(session, from_seq=last.seq + 1)
    assert hear(again, "session.started")["from_seq"] == last.seq + 1
    found = chunks(again, 10)
    assert [chunk.seq for chunk in found] == list(range(last.seq + 1, last.seq + 11))
    assert not any(chunk.gap for chunk in found)
    third = place.start(session)
    assert _closed_with(again)[0] == 4409
    assert not chunks(third, 1)[0].gap


def test_a_client_from_before_the_ring_is_told_of_the_gap(place: Place) -> None:
    session = place.create()
    opened = place.start(session)
    place.until(lambda: chunks(opened, 10)[-1].seq > 100, "the ring has gone on")
    opened.close()
    again = place.start(session, from_seq=2)
    first, second = chunks(again, 2)
    assert first.seq > 2
    assert first.gap
    assert second.seq == first.seq + 1
    assert not second.gap


def test_an_absent_client_pauses_its_session_and_one_that_pauses_does(place: Place) -> None:
    session = place.create()
    name = session["session_id"]
    place.until(lambda: not place.stage.wants[name], "nobody has come within the grace time")
    opened = place.start(session)
    chunks(opened, 3)
    assert place.stage.wants[name]
    opened.send('{"type": "session.pause"}')
    place.until(lambda: not place.stage.wants[name], "the client has paused it")
    opened.send('{"type": "session.resume"}')
    chunks(opened, 8)
    opened.close()
    place.until(lambda: not place.stage.wants[name], "the client is gone")


def test_with_acks_no_more_chunks_come_than_the_client_has_taken(place: Place) -> None:
    session = place.create()
    opened = place.start(session, acks=True)
    found = chunks(opened, 4)
    with contextlib.suppress(TimeoutError):
        while True:
            assert isinstance(opened.recv(timeout=0.5), str), "a fifth chunk beyond those that were taken"
    opened.send(json.dumps({"type": "session.ack", "seq": found[1].seq + 1}))
    assert [chunk.seq for chunk in chunks(opened, 2)] == [4, 5]


def test_who_has_no_token_learns_nothing(place: Place) -> None:
    session, other = place.create(), place.create()
    path = f"/v1/sessions/{session['session_id']}"
    answers = [
        place.call("GET", path),
        place.call("GET", path, token="wrong"),  # noqa: S106
        place.call("GET", path, token=other["token"]),
        place.call("GET", "/v1/sessions/nobody", token=session["token"]),
        place.call("DELETE", path, token=other["token"]),
        place.call("DELETE", "/v1/sessions/nobody"),
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({json.dumps(answer.body) for answer in answers}) == 1
    told = []
    for name, token in ((session["session_id"], other["token"]), ("nobody", session["token"])):
        told.append(_closed_with(place.start({"session_id": name, "token": token})))
    assert told[0] == told[1]
    assert told[0][0] == 4404
    assert place.call("GET", path, token=session["token"]).status == 200
    assert place.call("DELETE", path, token=session["token"]).status == 204
    assert place.call("GET", path, token=session["token"]).status == 404


def test_pages_from_elsewhere_are_turned_away(place: Place) -> None:
    for origin in ("https://evil.example", f"http://evil.example:{place.port}", "null"):
        with pytest.raises(InvalidStatus) as denied:
            place.connect(additional_headers={"Origin": origin})
        assert denied.value.response.status_code == 403
        answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"}, headers={"Origin": origin})
        assert (answer.status, answer.error["code"], answer.error["field"]) == (403, "foreign_origin", "Origin")
    for origin in ("https://app.example", f"http://127.0.0.1:{place.port}"):
        place.connect(additional_headers={"Origin": origin})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"profile": ""}, "profile"),
        ({"profile": None}, "profile"),
        ({"prompt": "x" * 4097}, "prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"encoding": "gif"}, "encoding"),
        ({"scale": 65}, "scale"),
        ({"control": "x" * 65}, "control"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_body_is_told_by_field(place: Place, changes: dict[str, Any], field: str) -> None:
    creates = place.stage.creates
    answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"} | changes)
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, "invalid", field)
    assert answer.error["fix"]
    assert place.stage.creates == creates


def test_bodies_that_are_none_or_too_long_are_refused(place: Place) -> None:
    json_type = {"Content-Type": "application/json"}
    for raw in (b"", b"{", b"[]", b"\xff\xfe", b'"\\ud800"', b"[" * 30_000):
        answer = place.call("POST", "/v1/sessions", raw=raw, headers=json_type)
        assert (answer.status, answer.error["code"]) == (400, "invalid"), raw[:9]
    answer = place.call("POST", "/v1/sessions", raw=b"x" * (65 << 10), headers=json_type)
    assert (answer.status, answer.error["code"]) == (413, "too_long")
    lines = [
        b"POST /v1/sessions HTTP/1.1",
        b"Host: x",
        b"Transfer-Encoding: chunked",
        b"Content-Type: application/json",
    ]
    with socket.create_connection((place.host, place.port), timeout=PATIENCE_S) as plain:
        plain.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        for _ in range(5):
            plain.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        assert plain.recv(4096).startswith(b"HTTP/1.1 413")
    assert place.call("GET", "/nothing").error["code"] == "not_found"
    assert place.call("PATCH", "/v1/sessions").error["code"] == "not_allowed"


def test_messages_that_are_none_are_told_and_too_many_close(place: Place) -> None:
    session = place.create()
    opened = place.start(session)
    wrong: dict[str, str | None] = {
        "{": None,
        '{"type": "session.fly"}': None,
        '{"type": "session.update", "prompt": 3}': "prompt",
        '{"type": "session.update"}': "prompt",
        '{"type": "session.ack", "seq": -1}': "seq",
        '{"type": "session.pause", "more": 1}': "more",
    }
    for text, field in wrong.items():
        opened.send(text)
        told: dict[str, Any] = {}
        while told.get("type") != "error":
            data = opened.recv(timeout=PATIENCE_S)
            told = json.loads(data) if isinstance(data, str) else {}
        assert (told["code"], told.get("field")) == ("invalid", field), text
        assert told["fix"]
    for _ in range(9):
        opened.send(b"bytes")
    assert _closed_with(opened)[0] == 4400
    for first in ("{}", '{"type": "session.pause"}', json.dumps({"type": "session.start", "session_id": "s"})):
        opened = place.connect()
        opened.send(first)
        assert _closed_with(opened)[0] == 4400
    opened = place.connect()
    opened.send("x" * (65 << 10))
    assert _closed_with(opened)[0] == 1009


def test_a_secret_that_was_sent_is_not_repeated(place: Place) -> None:
    opened = place.connect()
    opened.send(json.dumps({"type": "session.start", "session_id": 1, "token": "sesame-open"}))
    code, told = _closed_with(opened)
    assert code == 4400
    assert "sesame" not in json.dumps(told)


def test_the_controllers_refusals_become_statuses(place: Place) -> None:
    for refusal, status in (("full", 429), ("unusable", 400), ("not now", 503)):
        place.stage.refusal = m.Refused(session_id="", refusal=refusal, reason="no such profile", retry_after_s=3.0)  # type: ignore[arg-type]
        answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"})
        assert answer.status == status
        assert answer.error["message"] == "no such profile"
        assert answer.headers.get("Retry-After") == (None if status == 400 else "3")
    place.stage.refusal = None


def test_a_session_waits_for_its_place(place: Place) -> None:
    stage = place.stage
    stage.positions["*"] = 5
    answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p", "encoding": "none"})
    stage.positions["*"] = 0
    assert (answer.status, answer.body["state"], answer.body["position"]) == (202, "waiting", 5)
    opened = place.start(answer.body)
    assert hear(opened, "session.state")["position"] == 5
    stage.tell(lambda: stage.place(answer.body["session_id"]))
    assert hear(opened, "session.state")["state"] == "active"
    chunks(opened, 3)


def test_a_flood_of_creates_is_answered_with_when_to_try_again(place: Place) -> None:
    place.stage.accepts = False
    place.until(lambda: place.call("POST", "/v1/sessions", raw=b"").status == 503, "no more are taken")
    creates = place.stage.creates
    for _ in range(200):
        answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
    assert place.stage.creates == creates
    place.stage.accepts = True
    place.until(lambda: place.call("POST", "/v1/sessions", raw=b"").status == 400, "they are taken again")


def test_more_sessions_than_may_be_are_turned_away() -> None:
    with a_place("--sessions-max", "2") as place:
        sessions = [place.create() for _ in range(2)]
        answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"})
        assert (answer.status, answer.error["code"]) == (429, "full")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (
            place.call("DELETE", f"/v1/sessions/{sessions[0]['session_id']}", token=sessions[0]["token"]).status == 204
        )
        place.create()


def _memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


def test_a_slow_client_holds_up_its_own_session_and_is_cut() -> None:
    """It reads nothing: generation pauses, memory does not grow, and the others go on."""
    with a_place("--slow-s", "3", "--grace-s", "1", body_bytes=1 << 20, pace_s=0.01) as place:
        slow, quick = place.create(), place.create()
        opened = place.connect(max_queue=1)
        start = {"type": "session.start", "session_id": slow["session_id"], "token": slow["token"]}
        opened.send(json.dumps(start))
        other = place.start(quick)
        chunks(other, 30)
        held = place.stage.held["w"][slow["session_id"]]
        number, before = held.number, _memory_bytes(place.process.pid)
        chunks(other, 60)
        assert held.number <= number + 8, "the slow client's session is not computed"
        assert _memory_bytes(place.process.pid) < before + (64 << 20)
        place.until(lambda: not place.stage.wants[slow["session_id"]], "it is cut, and then absent")
        text = place.call("GET", "/metrics").body.decode()
        assert "epochal_gateway_clients_cut_total 1.0" in text
        again = place.start(slow, from_seq=1)
        assert chunks(again, 3)[-1].seq == 3
        chunks(other, 3)


def test_without_a_controller_streams_go_on_and_creates_are_turned_away() -> None:
    with a_place() as place:
        session = place.create()
        opened = place.start(session)
        chunks(opened, 3)
        place.stage.is_away = True
        place.until(lambda: place.call("GET", "/ready").status == 503, "it is noticed")
        chunks(opened, 50)
        answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"})
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert place.call("GET", "/health").body["status"] == "degraded"
        place.stage.is_away = False
        place.until(lambda: place.call("GET", "/ready").status == 200, "it is back")
        place.create()


def test_a_create_that_nobody_answers_is_given_up() -> None:
    with a_place() as place:

        def is_asked_in_vain() -> bool:
            """On a busy machine it may count as away before it is asked."""
            place.stage.is_mute = True
            answer = place.call("POST", "/v1/sessions", {"profile": "a", "prompt": "p"})
            assert answer.status == 503
            place.stage.is_mute = bool(place.stage.sessions)
            return place.stage.is_mute

        place.until(is_asked_in_vain, "the controller is asked, and does not answer")
        place.stage.is_mute = False
        place.until(lambda: not place.stage.sessions, "nobody has its token: it is ended")


def test_a_gateway_that_begins_anew_gets_its_sessions_back() -> None:
    workers = f"tcp://127.0.0.1:{free_port()}"
    with a_stage() as stage:
        stage.gateway_workers = workers
        stage.tell(lambda: stage.add_worker("v"))
        with a_gateway(stage, workers=workers) as place:
            session = place.create()
            stage.tell(lambda: stage.move(session["session_id"], "v"))
            opened = place.start(session)
            opened.send('{"type": "session.update", "prompt": "q", "control": "up"}')
            hear(opened, "session.updated")
            last = chunks(opened, 9)[-1]
        with a_gateway(stage, workers=workers) as place:
            path = f"/v1/sessions/{session['session_id']}"
            assert place.call("GET", path, token=session["token"]).body["prompt"] == "q"
            opened = place.start(session, from_seq=last.seq + 1)
            found = chunks(opened, 5)
            assert [chunk.seq for chunk in found] == list(range(last.seq + 1, last.seq + 6))
            assert int(words_of(found[0])[1]) > int(words_of(last)[1])
            opened.send('{"type": "session.update", "prompt": "r"}')
            assert hear(opened, "session.updated")["prompt"] == "r"
            place.until(lambda: words_of(chunks(opened, 1)[0])[2:4] == ["r", "up"], "it shows the new prompt")
            assert stage.prompts[session["session_id"]] == (2, "r")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_its_clients_and_ends(number: signal.Signals) -> None:
    with a_place() as place:
        opened = place.start(place.create())
        chunks(opened, 3)
        place.process.send_signal(number)
        assert _closed_with(opened)[0] == 1012
        assert place.process.wait(PATIENCE_S) == 0
        assert place.process.stderr is not None
        *_, told = place.process.stderr.read().splitlines()
        assert told == f"{number.name}: clients are told, and then it ends"


def test_strangers_at_the_workers_socket_change_nothing() -> None:
    """Bytes that are no message, another worker's name, sessions that nobody has: counted and dropped."""
    import zmq

    from runtime.worker.process.messages import Delivered, encoded

    with a_place() as place:
        session = place.create()
        opened = place.start(session)
        chunks(opened, 3)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stranger = context.socket(zmq.DEALER)
        stranger.set(zmq.ROUTING_ID, b"stranger/1")
        stranger.connect(place.stage.gateway_workers)
        chunk = Delivered(
            worker="w",
            incarnation=1,
            controller_epoch=1,
            session_id=session["session_id"],
            ownership=99,
            lineage=99,
            number=0,
            encoding="none",
            body=b"99 0 not ours",
        )
        for frame in (b"", b"\xff" * 100, b"\x91" * 5000, encoded(chunk)):
            stranger.send(frame)
        place.until(lambda: b"messages_dropped 4.0" in place.call("GET", "/metrics").body, "they are counted")
        stranger.send(b"x" * (1 << 25) + b"x")
        assert {unframed(data).lineage for data in _binaries(opened, 50)} == {0}
        context.destroy(linger=0)


def _binaries(opened: ClientConnection, count: int) -> list[bytes]:
    found: list[bytes] = []
    end_s = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < end_s
        data = opened.recv(timeout=PATIENCE_S)
        if isinstance(data, bytes):
            found.append(data)
    return found
