"""The gateway's own pages in a real browser: they fetch nothing from elsewhere, show what comes and steer it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.runtime.client.films import CHUNK_S, SIDE, a_film
from tests.runtime.gateway.live import Place, a_place
from tests.runtime.gateway.stage import PATIENCE_S
from tests.scheduler.browser import needs_chromium, running_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 1000 * PATIENCE_S
COLOUR = """() => [...document.getElementById('picture').getContext('2d').getImageData(5, 5, 1, 1).data]"""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place(pace_s=0.02) as found:
        found.stage.body = a_film("mjpeg")
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


class Opened:
    """A page of the gateway, with all that it asked for and complained of."""

    def __init__(self, browser: Browser, place: Place, path: str) -> None:
        self.origin = f"http://{place.host}:{place.port}"
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page: Page = browser.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url.replace("ws:", "http:")))
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.goto(self.origin + path)

    @property
    def chunks(self) -> int:
        return int(self.page.inner_text("#chunks"))

    def until(self, there: Callable[[], bool]) -> None:
        """The page's own policy lets nobody wait within it."""
        end_s = time.monotonic() + PATIENCE_S
        while not there():
            assert time.monotonic() < end_s, self.page.inner_text("body")
            self.page.wait_for_timeout(20)

    def check(self) -> None:
        assert [text for text in self.complaints if "willReadFrequently" not in text] == []  # these are our questions
        assert [url for url in self.asked if not url.startswith((self.origin, "data:", "blob:"))] == []


def test_pages_say_what_a_browser_may_let_them_do(place: Place) -> None:
    for path in ("/", "/docs"):
        answer = place.call("GET", path)
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status == 200
        assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        assert "unsafe" not in policy
        assert f"connect-src 'self' ws://{place.host}:{place.port} wss://{place.host}:{place.port}" in policy
        assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in answer.body
    strange = place.call("GET", "/", headers={"Host": "x; script-src *"})
    assert strange.headers["Content-Security-Policy"].endswith("connect-src 'self'")
    assert {"/", "/docs"}.isdisjoint(place.call("GET", "/openapi.json").body["paths"])


@needs_chromium
def test_a_session_is_watched_steered_paused_and_ended(browser: Browser, place: Place) -> None:
    stage, opened = place.stage, Opened(browser, place, "/")
    with opened.page as page:
        page.fill("#prompt", "a red circle")
        page.click("#start")
        opened.until(lambda: opened.chunks >= 10)
        (name,) = stage.sessions
        assert stage.sessions[name].text.prompt == "a red circle"
        assert page.evaluate("[...['width', 'height']].map((side) => document.getElementById('picture')[side])") == [
            SIDE,
            SIDE,
        ]
        red, green, blue, _ = page.evaluate(COLOUR)
        assert red == green == blue
        opened.until(lambda: page.evaluate(COLOUR)[0] != red)

        page.keyboard.down("ArrowUp")
        place.until(lambda: stage.held["w"][name].control == "up", "an arrow key steers")
        page.keyboard.up("ArrowUp")
        place.until(lambda: stage.held["w"][name].control == "", "and lets go")
        page.hover("[data-control=left]")
        page.mouse.down()
        place.until(lambda: stage.held["w"][name].control == "left", "a button steers")
        page.mouse.up()
        place.until(lambda: stage.held["w"][name].control == "", "and lets go")
        page.fill("#prompt", "a blue square")
        page.click("#start")
        place.until(lambda: stage.prompts[name][1] == "a blue square", "a prompt is changed")

        page.click("#pause")
        place.until(lambda: not stage.wants[name], "it is paused")
        seen = page.evaluate(COLOUR)
        page.wait_for_timeout(5000 * CHUNK_S)
        assert page.evaluate(COLOUR) == seen
        page.click("#pause")
        count = opened.chunks
        opened.until(lambda: opened.chunks >= count + 6)
        assert " ms, " in page.inner_text("#latency")
        assert stage.held["w"][name].number <= opened.chunks + 12, "no more than is shown"
        page.click("#end")
        place.until(lambda: name in stage.ended, "it is ended")
        assert page.inner_text("#status") == "The session is over"
        assert stage.sessions == {}
        opened.check()


@needs_chromium
def test_a_page_that_is_left_ends_its_session_and_one_cut_off_comes_back(browser: Browser, place: Place) -> None:
    stage, opened = place.stage, Opened(browser, place, "/")
    with opened.page as page:
        page.click("#start")
        opened.until(lambda: opened.chunks >= 4)
        page.evaluate("session.socket.close()")
        opened.until(lambda: page.inner_text("#lost") == "1")
        count = opened.chunks
        opened.until(lambda: opened.chunks >= count + 4)
        (name,) = stage.sessions
        page.goto(f"{opened.origin}/docs")
        place.until(lambda: name in stage.ended, "whoever leaves ends it")
        opened.check()


@needs_chromium
def test_what_is_refused_is_told(browser: Browser, place: Place) -> None:
    opened = Opened(browser, place, "/")
    with opened.page as page:
        said = page.inner_text("#status")
        page.click("summary")
        page.fill("#scale", "64")
        page.evaluate("document.getElementById('scale').max = 100")
        page.fill("#scale", "65")
        page.click("#start")
        opened.until(lambda: page.inner_text("#status") not in (said, "Starting"))
        assert page.inner_text("#status") == "scale: Input should be less than or equal to 64"


@needs_chromium
def test_the_docs_show_every_call_with_its_limits(browser: Browser, place: Place) -> None:
    opened = Opened(browser, place, "/docs")
    with opened.page as page:
        page.wait_for_selector("html[data-ready=yes]")
        text = page.inner_text("main")
        for part in ("POST", "/v1/sessions/{session_id}", "length <= 4096", "Of the fleet's ChunkModel.", "429"):
            assert part in text
        calls = place.call("GET", "/openapi.json").body["paths"]
        assert len(page.query_selector_all(".call")) == sum(len(verbs) for verbs in calls.values())
        opened.check()
