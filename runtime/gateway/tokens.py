"""Capability tokens: whoever holds one may do what its scopes say, whoever they are.

Decides what a token is and what it may do; must never keep one: only its digest is known here.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Literal

Scope = Literal["attach", "control", "admin"]

SESSION_SCOPES: frozenset[Scope] = frozenset(("attach", "control"))
ADMIN_SCOPES: frozenset[Scope] = frozenset(("control", "admin"))
TOKEN_BYTES = 32
TOKEN_MAX = 256  # characters that are looked at
_NOBODYS = secrets.token_bytes(32)  # compared with where there is nothing, so that it takes as long


def new_token() -> str:
    """256 bits that nobody can guess, as text that fits a header."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def scopes_of(token: str | None, session: bytes | None, admin: bytes | None) -> frozenset[Scope]:
    """What the token may do to the session with that digest (None: there is none), and beside it."""
    given = digest_of((token or "")[:TOKEN_MAX])
    is_sessions = hmac.compare_digest(given, session or _NOBODYS) and session is not None
    is_admins = hmac.compare_digest(given, admin or _NOBODYS) and admin is not None
    if session is None:
        is_sessions = False
    return (SESSION_SCOPES if is_sessions else frozenset()) | (ADMIN_SCOPES if is_admins else frozenset())
