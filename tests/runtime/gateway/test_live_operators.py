"""The real process: what operators and whoever watches it are told."""

from __future__ import annotations

import json
from typing import Any

from tests.runtime.gateway.live import ADMIN_TOKEN, Place, chunks, hear


def test_only_the_operator_reads_plans(place: Place) -> None:
    place.stage.answers = {"plan None None": b'{"epoch": 7}', "plan 7 None": b'{"epoch": 7}', "explain 7 s": b"[1]"}
    for path in ("/v1/plans/current", "/v1/plans/7"):
        assert place.call("GET", path).status == 404
        assert place.call("GET", path, token=place.create()["token"]).status == 404
        assert place.call("GET", path, token=ADMIN_TOKEN).body == {"epoch": 7}
    assert place.call("GET", "/v1/plans/7/explain?session=s", token=ADMIN_TOKEN).body == [1]
    assert place.call("GET", "/v1/plans/8", token=ADMIN_TOKEN).status == 404
    assert place.call("GET", "/v1/plans/x", token=ADMIN_TOKEN).error["field"] == "version"


def test_only_the_operator_approves_and_rejects_plans(place: Place) -> None:
    ruled = {"version": 7, "state": "executing", "carried_out": "all"}
    place.stage.answers = {"approve 7 None": json.dumps(ruled).encode(), "reject 7 None": b"{}"}
    place.stage.refusals = {f"{verb} 6 None": "plan 6 is superseded" for verb in ("approve", "reject")}
    for verb in ("approve", "reject"):
        assert place.call("POST", f"/v1/plans/7/{verb}").status == 404
        assert place.call("POST", f"/v1/plans/7/{verb}", token=place.create()["token"]).status == 404
        answer = place.call("POST", f"/v1/plans/6/{verb}", token=ADMIN_TOKEN)
        assert (answer.status, answer.error["code"], answer.error["message"]) == (
            409,
            "conflict",
            "plan 6 is superseded",
        )
        assert place.call("GET", f"/v1/plans/7/{verb}", token=ADMIN_TOKEN).status == 405
    assert place.call("POST", "/v1/plans/7/approve", token=ADMIN_TOKEN).body == ruled
    assert place.call("POST", "/v1/plans/7/reject", token=ADMIN_TOKEN).status == 200
    place.stage.mode, place.stage.proposal = "approve", 7
    place.until(lambda: place.call("GET", "/health").body["proposal"] == 7, "the proposal is shown")
    health = place.call("GET", "/health").body
    assert (health["mode"], health["controller_epoch"]) == ("approve", 1)


def test_only_the_operator_drains_gpus_and_gives_them_back(place: Place) -> None:
    told = {"gpu_id": "g", "gpu_type": "cpu", "status": "draining", "withheld": True, "sessions": 2}
    body = json.dumps(told).encode()
    place.stage.answers = {"gpus None None": b"[" + body + b"]", "drain None g": body, "give back None g": body}
    place.stage.refusals = {"drain None h": "nothing is carried out"}
    for method, path in (("GET", "/v1/gpus"), ("POST", "/v1/gpus/g/drain"), ("POST", "/v1/gpus/g/give-back")):
        assert place.call(method, path).status == 404
        assert place.call(method, path, token=place.create()["token"]).status == 404
        assert place.call(method, path, token=ADMIN_TOKEN).body == ([told] if method == "GET" else told)
    answer = place.call("POST", "/v1/gpus/h/drain", token=ADMIN_TOKEN)
    assert (answer.status, answer.error["message"]) == (409, "nothing is carried out")
    answer = place.call("POST", "/v1/gpus/x/drain", token=ADMIN_TOKEN)
    assert (answer.status, answer.error["message"]) == (404, "the fleet has no such GPU")


def test_an_explanation_that_was_given_up_is_told_as_such(place: Place) -> None:
    place.stage.refusals = {"explain 7 s": "no explanation could be found in time"}
    answer = place.call("GET", "/v1/plans/7/explain?session=s", token=ADMIN_TOKEN)
    assert (answer.status, answer.error["code"]) == (503, "unavailable")


def test_the_operator_lists_sessions_page_by_page(place: Place) -> None:
    made = [place.create() for _ in range(3)]
    assert place.call("GET", "/v1/sessions").status == 404
    assert place.call("GET", "/v1/sessions", token=made[0]["token"]).status == 404
    found, after = list[dict[str, Any]](), ""
    while after is not None:
        page = place.call("GET", f"/v1/sessions?limit=2&after={after}", token=ADMIN_TOKEN).body
        assert len(page["sessions"]) <= 2
        found, after = found + page["sessions"], page["after"]
    names = [each["session_id"] for each in found]
    assert names == sorted(set(names))
    assert {each["session_id"] for each in made} <= set(names)
    for each in found:
        if each["session_id"] == made[0]["session_id"]:
            assert (each["state"], each["worker"], each["profile"], each["attached"]) == ("active", "w", "a", False)
        assert not {"token", "prompt"} & each.keys()
    assert place.call("GET", "/v1/sessions?limit=1001", token=ADMIN_TOKEN).error["field"] == "limit"


def test_metrics_say_what_came_and_name_no_session(place: Place) -> None:
    place.stage.counts = {
        'epochal_gpus{state="on",type="h100"}': 2.0,
        "epochal_plan_age_seconds": 1.5,
        'epochal_migrations_total{result="ok",reason="balance"}': 4.0,
        'epochal_sessions{state="active"}': 99.0,
        'epochal_offload_seconds_sum{direction="to_host"}': 2.5,
        'epochal_offload_seconds_count{direction="to_host"}': 5.0,
        "no metric": 1.0,
        'epochal_gpus{state="on"}': 3.0,
    }
    session = place.create()
    chunks(place.start(session), 5)
    place.until(lambda: b"epochal_gpus{" in place.call("GET", "/metrics").body, "the controller's counts are there")
    text = place.call("GET", "/metrics").body.decode()
    for line in (
        'epochal_gpus{state="on",type="h100"} 2.0',
        "epochal_plan_age_seconds 1.5",
        "# TYPE epochal_offload_seconds summary",
        'epochal_offload_seconds_sum{direction="to_host"} 2.5',
        'epochal_offload_seconds_count{direction="to_host"} 5.0',
        'epochal_migrations_total{reason="balance",result="ok"} 4.0',
    ):
        assert line in text or line.replace('reason="balance",result="ok"', 'result="ok",reason="balance"') in text
    for name in ("epochal_chunk_latency_seconds_count", "epochal_time_to_first_chunk_seconds_count"):
        assert float(text.partition(f"\n{name} ")[2].split()[0]) >= 1
    assert 'epochal_gateway_chunks_total{result="taken"}' in text
    assert "} 99.0\n" not in text, "where sessions are is the gateway's own to say"
    assert session["session_id"] not in text


def test_chunks_that_say_how_long_they_play_are_held_against_it(place: Place) -> None:
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 11\r\nX-Timestamp: %d.000000\r\n\r\n%b\r\n"
    jpeg = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x20"  # 32 x 16
    place.stage.body = lambda _number, _begins: (part % (0, jpeg) + part % (50, jpeg), None)
    opened = place.start(place.create(encoding="mjpeg"))
    shown = hear(opened, "video.start")
    assert (shown["width"], shown["height"], shown["frames"], shown["fps"]) == (32, 16, 2, 0.02)
    chunks(opened, 5)
    opened.close()
    place.stage.body = None
    text = place.call("GET", "/metrics").body.decode()
    assert float(text.partition('epochal_chunk_deadline_total{result="met"} ')[2].split()[0]) >= 5
    assert "epochal_continuous_play_ratio 1.0" in text
    assert "epochal_stall_seconds_total 0.0" in text


def test_health_and_documents(place: Place) -> None:
    assert place.call("GET", "/live").body == {"status": "live"}
    assert place.call("GET", "/health").body["controller"] == "here"
    assert place.call("GET", "/version").status == 200
    assert place.call("GET", "/docs").status == 200
    paths = place.call("GET", "/openapi.json").body["paths"]
    assert {"/v1/sessions", "/v1/sessions/{session_id}", "/v1/plans/{version}/explain", "/metrics"} <= set(paths)
    assert {"200", "404", "409", "503"} <= set(paths["/v1/plans/{version}/approve"]["post"]["responses"])
