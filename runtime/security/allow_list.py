"""Whose public keys are let in, by name; and the answer to one question of libzmq about it (ZAP 1.0).

Decides who is let in; must never open a socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zmq.utils import z85

from runtime.security.certificates import WORKERS_MAX, demand_unwritable, public_key
from traces.errors import BadInputError, Finding

_VERSION = b"1.0"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """Public keys in Z85, and whose they are. What could not be read is not in it, and told."""

    names: Mapping[bytes, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def read_allow_list(folder: Path) -> AllowList:
    """The `.key` files of a folder. Whatever is wrong lets nobody in: a bad file its owner, a bad folder everybody."""
    try:
        demand_unwritable(folder)
        paths = sorted(folder.glob("*.key"))
        if len(paths) > WORKERS_MAX:
            raise BadInputError.of(str(folder), f"has {len(paths)} certificates, at most {WORKERS_MAX} are let in")
    except BadInputError as error:
        return AllowList(findings=error.findings)
    names: dict[bytes, str] = {}
    findings: list[Finding] = []
    for path in paths:
        try:
            key = public_key(path)
            if key in names:
                raise BadInputError.of(str(path), f"has the key of {names[key]}: each needs one of its own")
            names[key] = path.stem
        except BadInputError as error:
            findings += error.findings
    return AllowList(names=names, findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reply` is for libzmq. The user id, which every message of that connection then has, is the public key."""

    reply: tuple[bytes, ...]
    let_in: bool


def judge(request: Sequence[bytes], lists: Mapping[str, AllowList]) -> Verdict:
    """Only CURVE, only a key on the list of that domain; everything else is refused, whatever it is."""
    if len(request) < 2:
        return _refused(b"", b"500", b"malformed")
    number = request[1]
    if len(request) != 7 or request[0] != _VERSION:
        return _refused(number, b"500", b"malformed")
    domain, mechanism, key = request[2], request[5], request[6]
    found = lists.get(domain.decode(errors="replace"))
    if found is None:
        return _refused(number, b"400", b"unknown domain")
    if mechanism != b"CURVE" or len(key) != _KEY_BYTES:
        return _refused(number, b"400", b"not CURVE")
    text = z85.encode(key)
    if text not in found.names:
        return _refused(number, b"400", b"unknown key")
    return Verdict(reply=(_VERSION, number, b"200", b"OK", text, b""), let_in=True)


def _refused(number: bytes, status: bytes, reason: bytes) -> Verdict:
    return Verdict(reply=(_VERSION, number, status, reason, b"", b""), let_in=False)
