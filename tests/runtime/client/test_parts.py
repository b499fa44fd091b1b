"""What is decided without a connection: order, pauses, what was felt, addresses, lines, rows of half blocks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.client_lines import LINE_BYTES_MAX, Line, Lines, line_of
from runtime.cli.client_screen import half_blocks, printable
from runtime.client import BrokenStreamError, Chunk, Experience, Lost, Picture, Retries, Started, State
from runtime.client.calls import error_of, place_of
from runtime.client.errors import BusyError, Fault, NoSessionError, RefusedError
from runtime.client.order import Order
from runtime.gateway.framing import BadFramingError, Framed, framed, unframed
from traces.errors import BadInputError


def a_chunk(seq: int, *, lineage: int = 0, discontinuity: bool = False, gap: bool = False) -> Framed:
    return Framed(
        key_frame=True, discontinuity=discontinuity, gap=gap, lineage=lineage, seq=seq, init=b"in", body=b"body"
    )


def test_a_chunk_is_framed_as_the_page_says() -> None:
    data = bytes([1, 5, 0, 0]) + (2).to_bytes(4, "big") + (3).to_bytes(8, "big") + (9).to_bytes(8, "big") + b"inbody"
    assert framed(a_chunk(9, lineage=3, gap=True)) == data
    assert unframed(data) == a_chunk(9, lineage=3, gap=True)
    for wrong in (b"", data[:23], b"\x02" + data[1:], data[:4] + b"\xff" * 4 + data[8:], data[:16] + b"\xff" * 8):
        with pytest.raises(BadFramingError):
            unframed(wrong)


def test_chunks_in_order_are_taken_and_breaks_that_are_told() -> None:
    order = Order(None)
    order.started(4)
    assert not order.came(a_chunk(4))
    assert not order.came(a_chunk(5))
    assert order.came(a_chunk(6, lineage=1, discontinuity=True))
    assert not order.came(a_chunk(9, lineage=1, gap=True))
    order.started(10)
    assert order.came(a_chunk(10, lineage=2, gap=True))  # a gateway that has begun anew knows no more
    order.started(3)
    assert not order.came(a_chunk(3, lineage=2, gap=True))
    assert order.next_seq == 4


@pytest.mark.parametrize(
    "wrong",
    [
        a_chunk(4),
        a_chunk(6),
        a_chunk(4, gap=True),
        a_chunk(5, lineage=2),
        a_chunk(5, lineage=0, gap=True),
    ],
)
def test_what_is_out_of_order_and_does_not_say_so_is_no_stream(wrong: Framed) -> None:
    order = Order(None)
    with pytest.raises(BrokenStreamError):
        order.came(a_chunk(0))
    order.started(4)
    order.came(a_chunk(4, lineage=1))
    with pytest.raises(BrokenStreamError):
        order.came(wrong)


def test_a_stream_that_goes_on_elsewhere_has_to_say_so() -> None:
    order = Order(7)
    order.started(9)
    with pytest.raises(BrokenStreamError, match="not where this client was"):
        order.came(a_chunk(9))


@given(st.integers(1, 2000), st.floats(0, 1), st.none() | st.floats(0, 1e6))
def test_pauses_are_bounded_and_as_long_as_was_said(failures: int, chance: float, retry_after_s: float | None) -> None:
    retries = Retries()
    pause_s = retries.pause_s_of(failures, retry_after_s, chance)
    assert min(retry_after_s or 0.0, retries.retry_after_s_max) <= pause_s
    assert retries.pause_s / 2 <= pause_s <= max(retries.pause_s_max, retries.retry_after_s_max)


def test_what_was_felt_is_counted_from_when_chunks_may_come() -> None:
    picture = Picture(seq=0, codec="avc1", mime="video/mp4", width=2, height=2, frames=2, fps=2.0)

    def chunk(seq: int, *, discontinuity: bool = False) -> Chunk:
        return Chunk(
            seq=seq,
            lineage=0,
            discontinuity=discontinuity,
            gap=False,
            key_frame=True,
            init=b"",
            body=b"12",
            picture=picture,
        )

    felt = Experience(0.0)
    felt.heard(Started(from_seq=0, ahead=2), 1.0)
    felt.heard(State(state="active", position=0), 2.0)
    felt.heard(chunk(0), 3.0)  # shown until 4
    felt.heard(chunk(1), 3.5)  # until 5; the latency is 0.5; no more may come
    felt.acked(0, 3.5)
    felt.heard(chunk(2), 6.5)  # 3 s after it might; a stall of 1.5 s; shown until 7.5
    felt.acked(2, 6.5)
    felt.pauses(6.6, paused=True)
    felt.pauses(90.0, paused=False)
    felt.heard(Lost(fault=Fault(code="c", message="m"), pause_s=1.0), 90.5)
    felt.heard(Started(from_seq=3, ahead=2), 91.0)
    felt.heard(chunk(3, discontinuity=True), 91.25)
    seen = felt.felt()
    assert (seen.chunks, seen.bytes, seen.play_s, seen.discontinuities, seen.reconnects) == (4, 8, 4.0, 1, 1)
    assert (seen.first_chunk_s, seen.stalls, seen.stall_s) == (3.0, 1, 1.5)
    assert (seen.latency_p50_ms, seen.latency_p99_ms, seen.latency_max_ms) == (500.0, 3000.0, 3000.0)
    assert felt.shown_until_s == 92.25


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("127.0.0.1:8000", "must be http://HOST:PORT"),
        ("ftp://127.0.0.1", "must be http://HOST:PORT"),
        ("http://user@127.0.0.1", "must be http://HOST:PORT"),
        ("http://127.0.0.1:99999", "must be http://HOST:PORT"),
        ("http://example.com", "tokens would travel in the clear"),
    ],
)
def test_addresses_that_cannot_be_used_are_told(url: str, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        place_of(url, None)


def test_addresses_lead_to_both_protocols(tmp_path: Path) -> None:
    assert place_of("http://[::1]:8000/", None).video_url == "ws://[::1]:8000/v1/realtime/video"
    place = place_of("https://example.com/video", None)
    assert (place.url, place.video_url) == (
        "https://example.com:443/video",
        "wss://example.com:443/video/v1/realtime/video",
    )
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(BadInputError, match=r"no\.pem: must be a readable PEM file"):
        place_of("https://example.com", tmp_path / "no.pem")


def test_answers_of_whoever_is_in_between_are_understood() -> None:
    busy = error_of(503, b"<html>proxy</html>", "7")
    assert (type(busy), busy.fault.retry_after_s) == (BusyError, 7.0)
    own = error_of(429, b'{"error": {"code": "full", "message": "no room", "retry_after_s": 2.5}}', "3")
    assert (type(own), own.fault.retry_after_s, str(own)) == (BusyError, 3.0, "no room")
    assert isinstance(error_of(404, b"", None), NoSessionError)
    assert isinstance(error_of(302, b"", None), RefusedError)


def test_lines_are_what_people_type() -> None:
    assert line_of("prompt: a red: circle") == Line(verb="prompt", text="a red: circle")
    assert line_of(" Control : up ") == Line(verb="control", text="up")
    assert line_of("control:") == Line(verb="control")
    assert line_of("pause") == Line(verb="pause")
    assert line_of("  ") is None
    for wrong in ("prompt red", "fly", "pause: now", "a red circle"):
        with pytest.raises(ValueError, match="prompt: TEXT"):
            line_of(wrong)


def test_lines_of_a_pipe_come_whole_and_are_bounded() -> None:
    async def read(data: bytes, count: int) -> list[str]:
        ours, theirs = os.pipe()
        lines = Lines(ours)
        await asyncio.to_thread(os.write, theirs, data)
        os.close(theirs)
        async with asyncio.timeout(30):
            return [await lines.next() for _ in range(count)]

    assert asyncio.run(read(b"pause\nresume\nend", 3)) == ["pause", "resume", "end"]
    for long in asyncio.run(read(b"x" * (3 * LINE_BYTES_MAX), 2)):
        assert 0 < len(long) <= 2 * LINE_BYTES_MAX


def test_a_picture_is_two_pixels_a_letter_and_strange_letters_are_not_shown() -> None:
    picture = np.array([[[1, 2, 3], [1, 2, 3]], [[4, 5, 6], [4, 5, 6]]], np.uint8)
    assert half_blocks(picture) == ["\x1b[38;2;1;2;3;48;2;4;5;6m▀▀\x1b[0m"]
    assert printable("a\x1b[2Jb\n") == "a?[2Jb?"
