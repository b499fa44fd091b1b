"""The gateway's own pages: each one text, with its style and script inside, that fetches nothing from elsewhere.

Decides how a page is put together and what a browser lets it do; must never know what is on it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Literal

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`policy`: what its own style and script may do, which are known by their digests; all else may nothing."""

    text: str
    policy: str

    def headers(self, host: str | None) -> dict[str, str]:
        """For a page that was asked for under that name: its WebSocket leads there, and nowhere else."""
        sockets = f" ws://{host} wss://{host}" if host is not None and _HOST.fullmatch(host) else ""
        return {
            "Content-Security-Policy": f"{self.policy}; connect-src 'self'{sockets}",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
        }


def page(name: Literal["watch", "docs"], title: str) -> Page:
    """From its files beside this module."""
    here = files("runtime.gateway").joinpath("web")
    style, body, script = (
        here.joinpath(file).read_text("utf-8") for file in ("style.css", f"{name}.html", f"{name}.js")
    )
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<link rel=icon href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E\">"
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{body}<script>{script}</script></body></html>"
    )
    allowed = f"style-src {_digest(style)}; script-src {_digest(script)}; img-src data:"
    nobody = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return Page(text=text, policy=f"{nobody}; {allowed}")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
