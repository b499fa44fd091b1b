"""What a lane needs of a transport before there is one.

Decides the two verbs of a way: to wait as the target, to connect as the source; must never know how it is done.
"""

from __future__ import annotations

from typing import Protocol

from runtime.transfer.messages import Route
from runtime.transfer.transport import Transport
from runtime.transfer.wire import Patience


class Posted(Protocol):
    """A target that waits for one source."""

    @property
    def route(self) -> Route:
        """Where the source finds it."""
        ...

    def accept(self, end_s: float) -> Transport: ...

    def close(self) -> None:
        """Wait no more; what has been accepted is not touched."""
        ...


class Approach(Protocol):
    """One way to reach other workers."""

    def post(self, route: Route, patience: Patience) -> Posted: ...

    def connect(self, route: Route, patience: Patience, end_s: float) -> Transport: ...
