"""What a program does with a gateway: create sessions, look at them, watch them and end them.

Decides what is asked over HTTP, and how long a create waits for its turn; must never know how a stream goes on.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from runtime.client.calls import Place, answer_as, call, place_of
from runtime.client.errors import BusyError, NoSessionError, UnreachableError
from runtime.client.messages import Created, SessionInfo, Ticket
from runtime.client.retries import Retries, draw
from runtime.client.video import Video

_SESSIONS = "/v1/sessions"
DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """Of the gateway at `url`; `ca_file` holds the certificates (PEM) to believe, where the system's are not enough.

    Used in one event loop. Raises `BadInputError` for what is no address, and for http beyond this machine.
    """

    def __init__(self, url: str = DEFAULT_URL, *, ca_file: Path | None = None, retries: Retries | None = None) -> None:
        self._place: Place = place_of(url, ca_file)
        self._retries = retries or Retries()

    @property
    def url(self) -> str:
        return self._place.url

    async def create(
        self,
        *,
        profile: str,
        prompt: str,
        seed: int | None = None,
        control: str = "",
        encoding: Literal["h264", "mjpeg", "none"] = "h264",
        scale: int = 1,
        tenant: str = "",
        patience_s: float = 0.0,
    ) -> Created:
        """A new session. A gateway that is away or takes no more is asked again for `patience_s`, when it says so.

        Raises `RefusedError`, `BusyError` and `UnreachableError`.
        """
        body: dict[str, Any] = {
            "profile": profile,
            "prompt": prompt,
            "seed": seed,
            "control": control,
            "encoding": encoding,
            "scale": scale,
            "tenant": tenant,
        }
        loop = asyncio.get_running_loop()
        until_s, failures = loop.time() + patience_s, 0
        while True:
            try:
                return answer_as(Created, await call(self._place, "POST", _SESSIONS, body=body))
            except (BusyError, UnreachableError) as error:
                failures += 1
                pause_s = self._retries.pause_s_of(failures, error.fault.retry_after_s, draw())
                if loop.time() + pause_s > until_s:
                    raise
                await asyncio.sleep(pause_s)

    async def show(self, ticket: Ticket) -> SessionInfo:
        """Where the session is. Raises `NoSessionError`, `BusyError` and `UnreachableError`."""
        return answer_as(SessionInfo, await call(self._place, "GET", _path(ticket), token=ticket.token))

    async def end(self, ticket: Ticket) -> None:
        """The session is to be no more; fine if it is no more already. Raises `BusyError` and `UnreachableError`."""
        try:
            await call(self._place, "DELETE", _path(ticket), token=ticket.token)
        except NoSessionError:
            return

    def watch(self, ticket: Ticket, *, from_seq: int | None = None) -> Video:
        """The session's stream, from that chunk on; by default, with what nobody has taken yet."""
        return Video(self._place, ticket, from_seq, self._retries)


def _path(ticket: Ticket) -> str:
    return f"{_SESSIONS}/{quote(ticket.session_id, safe='')}"
