"""`epochal client` against a real gateway: files that play, lines that steer, how it ends, and what it refuses."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from runtime.encode.chunk import Kind
from runtime.gateway import messages as m
from tests.e2e.command import EPOCHAL, environment, epochal
from tests.runtime.client.films import CHUNK_S, FRAMES, SIDE, a_film
from tests.runtime.gateway.live import Place, a_place
from tests.runtime.gateway.stage import PATIENCE_S


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place(pace_s=0.02) as found:
        found.stage.body = a_film("h264")
        yield found


def url_of(place: Place) -> str:
    return f"http://{place.host}:{place.port}"


def started(place: Place, *options: str | Path, cwd: Path, **streams: Any) -> subprocess.Popen[str]:
    command = [*EPOCHAL, "client", url_of(place), "--profile", "a", *map(str, options)]
    given: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen(command, cwd=cwd, env=environment(), text=True, **given)


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and what was told."""
    out, told = process.communicate(timeout=PATIENCE_S)
    return process.returncode, json.loads(out) if out else {}, told


def frames_of(path: Path) -> int:
    with av.open(path, "r") as film:
        frames = list(film.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {(SIDE, SIDE)}
    return len(frames)


@pytest.mark.parametrize("kind", ["h264", "mjpeg"])
def test_a_stream_becomes_a_file_that_plays(place: Place, tmp_path: Path, kind: Kind) -> None:
    began_s = time.monotonic()
    place.stage.body = a_film(kind)
    options = ("--encoding", kind, "--chunks=12", "-o", "film.mp4", "--format=json")
    code, result, _ = ended(started(place, *options, cwd=tmp_path))
    place.stage.body = a_film("h264")
    assert time.monotonic() - began_s >= (12 - 5) * CHUNK_S, "as it plays"
    assert (result["chunks"], result["written"], result["ending"]) == (12, 12, "enough")
    assert code == (3 if result["stalls"] else 0)
    assert frames_of(tmp_path / "film.mp4") == 12 * FRAMES
    assert result["session_id"] in place.stage.ended
    assert result["latency_p50_ms"] <= result["latency_p99_ms"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4"]


def test_lines_of_a_pipe_steer_the_session(place: Place, tmp_path: Path) -> None:
    process = started(place, "--fast", "--format=json", cwd=tmp_path)
    assert process.stdin is not None
    process.stdin.write("prompt: a blue: square\ncontrol: up\nfly\n")
    process.stdin.flush()
    stage = place.stage
    place.until(lambda: (1, "a blue: square") in stage.prompts.values(), "the prompt is written down")
    (name,) = stage.sessions
    place.until(lambda: stage.held["w"][name].control == "up", "the control is heard")
    process.stdin.write("pause\n")
    process.stdin.flush()
    place.until(lambda: not stage.wants[name], "it is paused")
    process.stdin.write("resume\nend\n")
    code, result, told = ended(process)
    assert (code, result["ending"]) == (3 if result["stalls"] else 0, "done")
    assert "chunks show it from now on" in told
    assert "prompt: TEXT | control:" in told
    assert "blue" not in told
    assert name in stage.ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_session_and_leaves_a_file_that_plays(
    place: Place, tmp_path: Path, number: signal.Signals
) -> None:
    process = started(place, "-o", "film.mp4", "--format=json", cwd=tmp_path)
    place.until(lambda: any(held.number > 6 for held in place.stage.held["w"].values()), "chunks have come")
    process.send_signal(number)
    code, result, _ = ended(process)
    assert (code, result["ending"]) == (130, "interrupted")
    assert frames_of(tmp_path / "film.mp4") == result["chunks"] * FRAMES > 0
    assert result["session_id"] in place.stage.ended


def test_a_session_that_is_kept_is_come_back_to(place: Place, tmp_path: Path) -> None:
    token = tmp_path / "token"
    options = ("--chunks=5", "--format=json", "--fast", "-o")
    kept = started(place, "--keep", "--token-file", token, *options, "a.mp4", cwd=tmp_path)
    _, result, _ = ended(kept)
    name = result["session_id"]
    assert name in place.stage.sessions
    assert token.stat().st_mode & 0o777 == 0o600
    back = started(place, "--session", name, "--token-file", token, *options, "b.mp4", cwd=tmp_path)
    _, result, _ = ended(back)
    assert (result["session_id"], result["written"]) == (name, 5)
    assert frames_of(tmp_path / "b.mp4") == 5 * FRAMES
    assert name in place.stage.ended
    code, _, told = ended(started(place, "--session", name, "--token-file", token, cwd=tmp_path))
    assert (code, told.splitlines()[-1]) == (
        2,
        "there is no such session, or the token does not open it; "
        "use session_id and token as POST /v1/sessions has answered them",
    )


def test_a_session_that_another_client_has_taken_is_left_to_it(place: Place, tmp_path: Path) -> None:
    token = tmp_path / "token"
    first = started(place, "--token-file", token, cwd=tmp_path)
    place.until(token.exists, "it is created")
    (name,) = place.stage.sessions
    place.until(lambda: place.stage.held["w"][name].number > 2, "chunks come")
    second = started(place, "--session", name, "--token-file", token, "--chunks=6", "--format=json", cwd=tmp_path)
    code, _, told = ended(first)
    assert (code, told.splitlines()[-1]) == (1, "another client has started this session")
    _, result, _ = ended(second)
    assert (result["chunks"], result["ending"]) == (6, "enough")


@pytest.mark.parametrize("kind", ["h264", "mjpeg"])
def test_a_terminal_shows_pictures_and_how_things_are(place: Place, tmp_path: Path, kind: Kind) -> None:
    ours, theirs = pty.openpty()
    place.stage.body = a_film(kind)
    options = ("--show=terminal", "--encoding", kind, "--chunks=8", "--format=json")
    process = started(place, *options, cwd=tmp_path, stderr=theirs)
    os.close(theirs)
    told = b""
    try:
        while data := os.read(ours, 1 << 16):
            told += data
    except OSError:  # the other end is closed
        pass
    code, result, _ = ended(process)
    place.stage.body = a_film("h264")
    assert code == (3 if result["stalls"] else 0)
    pictures = told.decode().count("\x1b[1;1H\x1b[38;2;")
    assert 1 <= pictures <= 8 * FRAMES
    assert "▀▀▀" in told.decode()
    assert "8 chunks" in told.decode() or "chunks, 0." in told.decode()
    assert told.decode().endswith("\x1b[?1049l")


def test_chunks_that_are_none_are_told(place: Place, tmp_path: Path) -> None:
    """What came before them is kept, and the session ends."""
    film, part = a_film("mjpeg"), b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 99\r\n"
    place.stage.body = lambda number, begins: film(number, begins) if number < 3 else (part, None)
    code, _, told = ended(started(place, "--encoding=mjpeg", "-o", "film.mp4", cwd=tmp_path))
    place.stage.body = a_film("h264")
    assert code == 1
    assert "a chunk cannot be kept: chunk 3 is no motion JPEG" in told
    assert frames_of(tmp_path / "film.mp4") == 3 * FRAMES
    assert place.stage.sessions == {}


def test_a_gateway_that_takes_no_more_is_waited_for_and_given_up(place: Place, tmp_path: Path) -> None:
    place.stage.refusal = m.Refused(session_id="", refusal="full", reason="no room", retry_after_s=1.0)
    code, _, told = ended(started(place, "--wait-s=0", cwd=tmp_path))
    place.stage.refusal = None
    assert (code, told) == (1, "no room; try again after retry_after_s\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("http://example.com",), "URL: http://example.com leaves this machine"),
        (("--session", "s"), "--session: needs --token-file"),
        (("--keep",), "--keep: needs --token-file"),
        (("-o", "film.avi"), "-o: film.avi must end in .mp4"),
        (("-o", "absent/film.mp4"), "-o: the folder of absent/film.mp4 must be there"),
        (("-o", "film.mp4", "--encoding=none"), "-o: raw chunks cannot be kept"),
        (("--seconds=1", "--encoding=none"), "--seconds: raw chunks do not say how long they play"),
        (("--show=terminal",), "--show terminal: needs a terminal"),
        (("--session", "s", "--token-file", "absent"), "absent: must be a readable text file"),
        (("--ca-file", "absent", "https://127.0.0.1:1"), "absent: must be a readable PEM file"),
    ],
)
def test_wrong_options_are_told(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = epochal("client", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)
    assert list(tmp_path.iterdir()) == []
