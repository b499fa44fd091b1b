"""What one gateway process is made of.

Decides what may be bound and connected without keys: nothing beyond this machine; must never open a socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runtime.gateway.limits import Limits
from runtime.gateway.tokens import TOKEN_MAX, digest_of
from runtime.security.certificates import KeyPair
from runtime.worker.process.addresses import CurveKeys, is_loopback
from traces.errors import BadInputError

ADMIN_TOKEN_MIN = 32  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """One start of a gateway. `since` grows from start to start."""

    name: str
    since: int
    http: tuple[str, int]
    workers: str  # where workers connect to
    controller: str
    keys: CurveKeys | None = None  # to speak with the controller
    listening_keys: KeyPair | None = None  # that workers take for their server's
    worker_keys: Path | None = None  # a folder with the certificates of the workers that may connect
    admin_sha256: bytes | None = None
    origins: frozenset[str] = frozenset()  # whose pages may open a WebSocket, beside the gateway's own
    certificate: Path | None = None  # of HTTPS, with its key
    certificate_key: Path | None = None
    behind_proxy: bool = False
    limits: Limits = field(default_factory=Limits)


def http_address(option: str, text: str, *, is_safe: bool) -> tuple[str, int]:
    """Raises `BadInputError` for what is no address, and for one that others reach without TLS."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) >= 2**16:
        raise BadInputError.of(option, f"{text!r} must be HOST:PORT")
    if not is_safe and not is_loopback(host):
        raise BadInputError.of(
            option,
            f"{text} can be reached from other machines, and tokens would travel in the clear: give --certificate and "
            "--certificate-key, or --behind-proxy if a proxy in front of it speaks TLS, or use 127.0.0.1",
        )
    return host.strip("[]"), int(port)


def read_admin_token(path: Path) -> bytes:
    """The digest of the token in a file. Raises `BadInputError`."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise BadInputError.of(str(path), f"must be a readable text file: {error}") from None
    if not ADMIN_TOKEN_MIN <= len(token) <= TOKEN_MAX:
        raise BadInputError.of(
            str(path), f"holds {len(token)} characters; a token must have {ADMIN_TOKEN_MIN} to {TOKEN_MAX}"
        )
    return digest_of(token)


def check_origin(option: str, origin: str) -> str:
    """Raises `BadInputError`."""
    scheme, separator, host = origin.partition("://")
    if scheme not in ("http", "https") or not separator or not host or "/" in host:
        raise BadInputError.of(option, f"{origin!r} must be https://HOST or https://HOST:PORT, without a path")
    return origin.lower()
