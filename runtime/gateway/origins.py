"""Whose pages may speak with the gateway from a browser.

Decides that from the headers `Origin` and `Host`; must never know what is asked. A program that is no browser sends no
origin, and needs none: what it may do, its token says.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from runtime.worker.process.addresses import is_loopback


def may_speak(origin: str | None, host: str | None, allowed: frozenset[str], *, bound_to: str) -> bool:
    """The gateway's own pages and those that were named; `bound_to` is the address where it listens.

    Where that is a loopback address, so must be the name that the browser uses: any name can be made to lead here.
    """
    if origin is None:
        return True
    origin = origin.lower()
    if origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        name, where = parts.hostname, parts.netloc
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or name is None or host is None or where != host.lower():
        return False
    return is_loopback(name) or not is_loopback(bound_to)
