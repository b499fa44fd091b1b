"""Certificates of controllers, gateways and workers, in a folder: a subfolder for each role.

Decides how they are made, named, kept from others and told apart; must never open a connection.

    keys/controllers/controller.key         may be known to everybody
    keys/controllers/controller.key_secret  is for the controller alone
    keys/gateways/gateway.key, ...
    keys/workers/worker-0.key, ...
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.utils import z85

from runtime.worker.process.addresses import CurveKeys, read_keys
from traces.errors import BadInputError

Role = Literal["controller", "gateway", "worker"]
SUBFOLDERS: dict[Role, str] = {"controller": "controllers", "gateway": "gateways", "worker": "workers"}
WORKERS_MAX = 4096
FILE_BYTES_MAX = 1 << 14
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # that of a worker, and of a file
_KEY_CHARACTERS = 40  # of Z85


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Z85 text, as ZeroMQ has it."""

    public: bytes
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One of a folder."""

    role: Role
    name: str
    public: bytes
    public_file: Path
    secret_file: Path | None  # None: it is elsewhere, as it should be

    @property
    def fingerprint(self) -> str:
        """To compare over the telephone, as that of SSH keys."""
        digest = hashlib.sha256(z85.decode(self.public)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def make(folder: Path, workers: int | Iterable[str]) -> None:
    """A new folder for a controller, a gateway and so many workers, or those of these names: all of it or nothing.

    Raises `BadInputError`.
    """
    if os.path.lexists(folder):
        raise _there_already(folder)
    names: list[tuple[Role, str]] = [("controller", "controller"), ("gateway", "gateway")]
    called = (f"worker-{index}" for index in range(workers)) if isinstance(workers, int) else workers
    names += [("worker", name) for name in called]
    for _, name in names:
        _check_name("--fleet", name)
    if len(names) > WORKERS_MAX:
        raise BadInputError.of("--fleet", f"has {len(names) - 2} GPUs; at most {WORKERS_MAX - 2} workers are let in")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _private_folder(folder.parent, f".{folder.name}.") as made:
        for subfolder in SUBFOLDERS.values():
            (made / subfolder).mkdir(mode=0o700)
        for role, name in names:
            _create(made / SUBFOLDERS[role], name)
        try:
            made.rename(folder)
        except OSError:
            if folder.exists():
                raise _there_already(folder) from None
            raise


def add(folder: Path, role: Role, name: str) -> Certificate:
    """One more. Raises `BadInputError`: nothing is overwritten."""
    _check_name("--add", name)
    there = certificates(folder)
    if any(one.name == name for one in there):
        raise BadInputError.of("--add", f"{name!r} is there already: --remove it first, and its old key is void")
    if len(there) >= WORKERS_MAX:
        raise BadInputError.of("--add", f"there are {len(there)} certificates, at most {WORKERS_MAX} are let in")
    with _private_folder(folder, ".new.") as made:
        _create(made, name)
        for suffix in (".key_secret", ".key"):  # it is let in by the second
            try:
                os.link(made / f"{name}{suffix}", folder / SUBFOLDERS[role] / f"{name}{suffix}")
            except FileExistsError as error:
                raise BadInputError.of(str(error.filename2), "is there already") from None
    return next(one for one in certificates(folder) if one.name == name)


def remove(folder: Path, name: str) -> Certificate:
    """What was its. Raises `BadInputError`."""
    found = next((one for one in certificates(folder) if one.name == name), None)
    if found is None:
        raise BadInputError.of("--remove", f"{name!r} is not there: epochal keys {folder} --list")
    found.public_file.unlink()
    if found.secret_file is not None:
        found.secret_file.unlink()
    return found


def certificates(folder: Path) -> tuple[Certificate, ...]:
    """All of a folder. Raises `BadInputError`."""
    if not folder.is_dir() or not any((folder / subfolder).is_dir() for subfolder in SUBFOLDERS.values()):
        raise BadInputError.of(str(folder), "must be a folder of certificates: epochal keys FOLDER makes one")
    found = []
    for role, subfolder in SUBFOLDERS.items():
        for path in sorted((folder / subfolder).glob("*.key")):
            secret = path.with_name(f"{path.stem}.key_secret")
            found.append(
                Certificate(
                    role=role,
                    name=path.stem,
                    public=public_key(path),
                    public_file=path,
                    secret_file=secret if secret.exists() else None,
                )
            )
    return tuple(found)


def public_key(path: Path) -> bytes:
    """That of a certificate's file. Raises `BadInputError`."""
    return _loaded(path)[0]


def key_pair(path: Path) -> KeyPair:
    """Of whoever listens, from its `.key_secret`, which nobody else may read. Raises `BadInputError`."""
    demand_private(path)
    public, secret = _loaded(path)
    if secret is None:
        raise BadInputError.of(str(path), "has no secret key: give the file that ends in .key_secret")
    if zmq.curve_public(secret) != public:
        raise BadInputError.of(str(path), "has keys that do not belong together: make it anew with epochal keys")
    return KeyPair(public=public, secret=secret)


def client_keys(own: Path, server: Path) -> CurveKeys:
    """Of whoever connects: its own `.key_secret`, and the `.key` of whom it trusts. Raises `BadInputError`."""
    key_pair(own)
    public_key(server)
    return read_keys(own, server)


def demand_private(path: Path) -> None:
    """Raises `BadInputError` where others could read it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise BadInputError.of(str(path), f"must be a readable CURVE certificate: {error.strerror}") from None
    if mode & 0o077:
        raise BadInputError.of(
            str(path), f"is a secret that others may read (mode {mode:04o}): chmod 600 {path}; replace it if they have"
        )


def demand_unwritable(folder: Path) -> None:
    """Raises `BadInputError` where others could add a key of their own."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        raise BadInputError.of(str(folder), f"must be a readable folder of certificates: {error.strerror}") from None
    if mode & 0o022:
        raise BadInputError.of(
            str(folder), f"decides who is let in, and others may write to it (mode {mode:04o}): chmod go-w {folder}"
        )


def _check_name(option: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInputError.of(
            option, f"{name!r} must be 1 to 64 letters, digits, - _ and ., and not begin with a sign"
        )


def _loaded(path: Path) -> tuple[bytes, bytes | None]:
    try:
        if not path.is_file() or path.stat().st_size > FILE_BYTES_MAX:
            raise BadInputError.of(str(path), f"must be a CURVE certificate: a file of at most {FILE_BYTES_MAX} bytes")
        public, secret = load_certificate(path)
    except (OSError, ValueError) as error:
        raise BadInputError.of(str(path), f"must be a readable CURVE certificate: {error}") from None
    for key in (public, secret):
        if key is not None and not _is_key(key):
            raise BadInputError.of(str(path), f"must have keys of {_KEY_CHARACTERS} characters (Z85)")
    return public, secret


def _is_key(text: bytes) -> bool:
    if len(text) != _KEY_CHARACTERS:
        return False
    try:
        return z85.encode(z85.decode(text)) == text
    except (KeyError, ValueError, struct.error):
        return False


def _create(folder: Path, name: str) -> None:
    """In a folder that is private already."""
    for path in create_certificates(folder, name):
        os.chmod(path, 0o600)


@contextmanager
def _private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """It is gone afterwards, unless it was renamed."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mode 0700
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _there_already(folder: Path) -> BadInputError:
    return BadInputError.of(
        str(folder), "is there already, and nothing is overwritten: --list shows it, --add NAME adds to it"
    )
