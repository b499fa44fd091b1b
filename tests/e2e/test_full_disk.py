"""A disk without room for the journal: who plays goes on, creates are refused, and it heals by itself."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.e2e.test_serve import processes, served, until
from tests.runtime.gateway.live import Clients, chunks

REQUEST = {"profile": "shapes-32", "prompt": "red circle", "encoding": "none"}


def metrics(place: Clients) -> str:
    text = place.call("GET", "/metrics").body
    assert isinstance(text, bytes)
    return text.decode()


def test_a_disk_that_is_full_refuses_creates_until_it_has_room(tmp_path: Path) -> None:
    """No file of the controller may grow for a while; nothing but creates would be written then."""
    state = tmp_path / "state"
    with served(state, "--workers=1", "--model=emulated") as (place, _):
        playing = place.start(place.create(profile="shapes-32"))
        chunks(playing, 3)
        (controller,) = processes(state, "controller")
        before = resource.prlimit(controller, resource.RLIMIT_FSIZE)
        resource.prlimit(controller, resource.RLIMIT_FSIZE, (1, before[1]))
        answer = place.call("POST", "/v1/sessions", REQUEST)
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
        until(lambda: "epochal_journal_full 1.0" in metrics(place), "it is told")
        answer = place.call("POST", "/v1/sessions", REQUEST)
        assert answer.status == 503, "from now on at once"
        chunks(playing, 8)
        resource.prlimit(controller, resource.RLIMIT_FSIZE, before)
        until(lambda: "epochal_journal_full 0.0" in metrics(place), "it has room again, though nobody wants anything")
        assert place.call("POST", "/v1/sessions", REQUEST).status in (201, 202)
        assert processes(state, "controller") == [controller]
        chunks(playing, 3)
