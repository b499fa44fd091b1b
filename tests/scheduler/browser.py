"""Reports in a real browser.

Decides how one is started and what a page is asked; must never know what is on a page.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
SWITCHES = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
ARGUMENTS = ["--headless", "--disable-sync", *(f"--{switch}" for switch in SWITCHES.split())]
FITS = """() => [...document.querySelectorAll('.js-plotly-plot')].every((plot) =>
    plot.querySelector('.main-svg').getBoundingClientRect().right <= plot.getBoundingClientRect().right + 1)"""


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


class Opened:
    """A page with the report in it, and everything that it complained of or asked for."""

    def __init__(self, browser: Browser, text: str, folder: Path, width: int = 1440) -> None:
        file = folder / "report.html"
        file.write_text(text, encoding="utf-8")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", timeout=30_000)

    def overflow_px(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def drawn(self) -> int:
        """Plots that have their drawing, and curves or bars in it."""
        return int(
            self.page.evaluate(
                """[...document.querySelectorAll('.js-plotly-plot')].filter((plot) => plot.querySelector('.main-svg') &&
                plot.querySelector('.scatterlayer path, .barlayer path, .heatmaplayer image')).length"""
            )
        )
