"""A real gateway and real workers: the client gets, byte for byte, what the ChunkModel alone would have made."""

from __future__ import annotations

import hashlib

from tests.runtime.gateway.live import a_gateway, chunks, hear
from tests.runtime.gateway.real_workers import MODEL, a_real_stage
from tests.runtime.worker.live_sessions import Script, reference

PROMPT = "red circle"


def test_a_session_is_watched_over_moves_and_a_loss() -> None:
    script = Script(model=MODEL, seed=5, prompt=PROMPT)
    with a_real_stage("a", "b") as stage, a_gateway(stage, workers=stage.gateway_workers) as place:  # type: ignore[arg-type]
        place.until(lambda: stage.up == {"a", "b"}, "both workers are up")
        session = place.create(profile="a", seed=5, prompt=PROMPT)
        name = session["session_id"]
        opened = place.start(session)
        found = chunks(opened, 6)
        for target in ("b", "a", "b"):
            stage.tell(lambda target=target: stage.move(name, target))  # type: ignore[misc]
            while stage.handover is not None:
                found += chunks(opened, 1)
            assert stage.sessions[name].owner == target
            found += chunks(opened, 4)
        assert [chunk.seq for chunk in found] == list(range(len(found)))
        for number, chunk in enumerate(found):
            assert hashlib.sha256(chunk.body).digest() == reference(script).digest(number), f"chunk {number}"
        stage.processes["b"].end()
        stage.tell(lambda: stage.lose(name, "a"))
        after = chunks(opened, 1)
        while after[-1].lineage == 0:
            after += chunks(opened, 1)
        assert after[-1].discontinuity
        after = [after[-1], *chunks(opened, 5)]
        for number, chunk in enumerate(after):
            assert (chunk.lineage, chunk.gap) == (1, False)
            assert hashlib.sha256(chunk.body).digest() == reference(script).digest(number)


def test_changes_reach_the_worker_and_refused_ones_the_client() -> None:
    with a_real_stage("a", "b") as stage, a_gateway(stage, workers=stage.gateway_workers) as place:  # type: ignore[arg-type]
        place.until(lambda: stage.up == {"a", "b"}, "both workers are up")
        session = place.create(profile="a", prompt=PROMPT, encoding="mjpeg")
        opened = place.start(session)
        shown = hear(opened, "video.start")
        assert (shown["codec"], shown["frames"] > 0, shown["fps"] > 0) == ("mjpeg", True, True)
        opened.send('{"type": "session.update", "prompt": "blue square", "control": "up"}')
        assert hear(opened, "session.updated")["prompt"] == "blue square"
        stage.tell(lambda: stage.move(session["session_id"], "b"))
        place.until(lambda: bool(chunks(opened, 1)) and stage.handover is None, "it has moved")
        opened.send('{"type": "session.update", "control": "down"}')
        assert hear(opened, "session.updated")["control"] == "down"
        assert stage.sessions[session["session_id"]].prompt == "blue square"


def test_a_gateway_that_begins_anew_goes_on_with_what_workers_hold() -> None:
    with a_real_stage("a") as stage:
        with a_gateway(stage, workers=stage.gateway_workers) as place:  # type: ignore[arg-type]
            place.until(lambda: stage.up == {"a"}, "the worker is up")
            session = place.create(profile="a", prompt=PROMPT)
            opened = place.start(session)
            last = chunks(opened, 8)[-1].seq
        with a_gateway(stage, workers=stage.gateway_workers) as place:  # type: ignore[arg-type]
            opened = place.start(session, from_seq=last + 1)
            found = chunks(opened, 6)
            assert [chunk.seq for chunk in found] == list(range(last + 1, last + 7))
