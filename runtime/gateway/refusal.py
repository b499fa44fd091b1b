"""What all answers of the HTTP interface have in common.

Decides how a token comes and what an answer that is no success carries; must never know what was asked for.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from runtime.gateway.bodies import ErrorFact

_BEARER = HTTPBearer(auto_error=False, description="The token of the session, or the operator's.")
Token = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
PLAIN = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Refusal(Exception):  # noqa: N818 - an answer as good as any other
    """An answer that is no success."""

    def __init__(self, status: int, fact: ErrorFact) -> None:
        super().__init__(fact.message)
        self.status, self.fact = status, fact
