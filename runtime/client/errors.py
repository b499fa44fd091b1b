"""What goes wrong between a client and its gateway, by what helps.

Decides which errors there are; must never know how one was noticed.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Fault(Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """What is wrong, where, and what helps; None: the gateway did not say."""

    code: Annotated[str, Meta(max_length=256)]
    message: Annotated[str, Meta(max_length=8192)]
    field: Annotated[str, Meta(max_length=256)] | None = None
    fix: Annotated[str, Meta(max_length=8192)] | None = None
    retry_after_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None

    def __str__(self) -> str:
        place = f"{self.field}: " if self.field else ""
        return f"{place}{self.message}" + (f"; {self.fix}" if self.fix else "")


class ClientError(Exception):
    """Any of the errors of this library."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class RefusedError(ClientError):
    """The gateway does not take what was asked for; trying again does not help."""


class BusyError(ClientError):
    """The gateway takes no more now; `fault.retry_after_s` says when to try again."""


class NoSessionError(ClientError):
    """There is no such session (any more), or the token does not open it."""


class ReplacedError(ClientError):
    """Another client has started the session; the latest has it."""


class UnreachableError(ClientError):
    """The gateway could not be reached, or the connection was lost too often."""


class BrokenStreamError(ClientError):
    """The gateway has said what it must not say: chunks out of order, or bytes that are no message."""
