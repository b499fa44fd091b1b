"""A browser plays what a session's encoders make, chunk by chunk as it comes, across a move and a new lineage."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from runtime.encode.boxes import codec_string, fragment_times
from runtime.encode.chunk import EncodedChunk
from runtime.encode.mp4_file import Mp4File
from tests.runtime.encode.builders import FRAMES, a_chunk, encoded, index_in
from tests.scheduler.browser import needs_chromium, running_browser

pytestmark = needs_chromium

SIDE = 64
WAIT_MS = 60_000
PAGE = f"<!doctype html><video muted width={SIDE} height={SIDE}></video>"

# Appends segments, each a base64 text and the seconds that its times are shifted by; answers with what is buffered.
APPEND = """async ([type, segments]) => {
    if (!MediaSource.isTypeSupported(type)) return 'not supported: ' + type;
    const video = document.querySelector('video'), source = new MediaSource();
    video.src = URL.createObjectURL(source);
    await new Promise((open) => source.addEventListener('sourceopen', open, {once: true}));
    const buffer = source.addSourceBuffer(type);
    for (const [text, shift] of segments) {
        buffer.timestampOffset = shift;
        buffer.appendBuffer(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
        await new Promise((done, failed) => {
            buffer.onupdateend = done;
            buffer.onerror = () => failed(new Error('a segment was not accepted'));
        });
    }
    return [...Array(buffer.buffered.length).keys()].map((at) => [buffer.buffered.start(at), buffer.buffered.end(at)]);
}"""
PLAY_FILE = """async (address) => {
    const video = document.querySelector('video');
    video.src = address;
    await new Promise((done, failed) => { video.onloadeddata = done; video.onerror = () => failed(video.error); });
}"""
PICTURES = """async (times) => {
    const video = document.querySelector('video'), canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const pen = canvas.getContext('2d'), found = [];
    for (const time of times) {
        const there = new Promise((done) => video.addEventListener('seeked', done, {once: true}));
        video.currentTime = time;
        await there;
        await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
        pen.drawImage(video, 0, 0);
        found.push([...pen.getImageData(0, 0, canvas.width, canvas.height).data]);
    }
    return found;
}"""


def a_stream() -> list[EncodedChunk]:
    """Three chunks, a move, two more; then a new lineage whose numbers begin anew."""
    made: list[EncodedChunk] = []
    for lineage, numbers in ((0, range(3)), (0, range(3, 5)), (1, range(2))):
        made += encoded([a_chunk(number, lineage=lineage, width=SIDE, height=SIDE) for number in numbers])
    return made


def indexes(pictures: list[list[int]]) -> list[int]:
    return [index_in(np.array(picture, dtype=np.uint8).reshape(SIDE, SIDE, 4)[..., :3]) for picture in pictures]


MIDDLES = [(index + 0.5) / 16 for index in range(0, 7 * FRAMES, 5)]
EXPECTED = [index if index < 5 * FRAMES else index - 5 * FRAMES for index in range(0, 7 * FRAMES, 5)]


def test_segments_are_appended_as_they_come() -> None:
    made = a_stream()
    segments = []
    for chunk in made:
        shift = 5 * FRAMES / 16 if chunk.lineage == 1 else 0
        segments += [[base64.b64encode(part).decode(), shift] for part in (chunk.init, chunk.body) if part]
    assert fragment_times(made[5].body).start == 0
    assert made[0].init is not None
    with running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.set_content(PAGE)
        buffered = page.evaluate(APPEND, [f'video/mp4; codecs="{codec_string(made[0].init)}"', segments])
        assert buffered == [[0, 7 * FRAMES / 16]]
        assert indexes(page.evaluate(PICTURES, MIDDLES)) == EXPECTED


def test_the_file_is_played(tmp_path: Path) -> None:
    path = tmp_path / "session.mp4"
    with Mp4File(path) as file:
        assert all(file.append(chunk) for chunk in a_stream())
    address = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    with running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.set_content(PAGE)
        page.evaluate(PLAY_FILE, address)
        assert indexes(page.evaluate(PICTURES, MIDDLES)) == EXPECTED
