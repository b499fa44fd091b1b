"""Certificates in a folder: made once, kept from others, and refused where others could have read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from zmq.auth import load_certificate

from runtime.security.certificates import add, certificates, client_keys, demand_private, key_pair, make, remove
from traces.errors import BadInputError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_they_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make(tmp_path / "keys", 2)
        add(tmp_path / "keys", "worker", "late")
    finally:
        os.umask(before)
    there = list((tmp_path / "keys").rglob("*"))
    assert {mode(path) for path in there if path.is_file()} == {0o600}
    assert {mode(path) for path in [tmp_path / "keys", *there] if path.is_dir()} == {0o700}
    assert sum(path.is_file() for path in there) == 2 * 5
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]
    assert len(list((tmp_path / "keys").iterdir())) == 3  # nothing unfinished


def test_keys_are_as_the_library_reads_them_and_all_different(tmp_path: Path) -> None:
    make(tmp_path / "keys", 3)
    there = certificates(tmp_path / "keys")
    assert [(one.role, one.name) for one in there] == [
        ("controller", "controller"),
        ("gateway", "gateway"),
        ("worker", "worker-0"),
        ("worker", "worker-1"),
        ("worker", "worker-2"),
    ]
    assert len({one.public for one in there}) == len({one.fingerprint for one in there}) == 5
    for one in there:
        assert one.secret_file is not None
        public, secret = load_certificate(one.secret_file)
        assert (public, load_certificate(one.public_file)) == (one.public, (one.public, None))
        assert key_pair(one.secret_file).secret == secret
        assert one.fingerprint.startswith("SHA256:")
        assert len(one.fingerprint) == len("SHA256:") + 43


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make(tmp_path / "keys", 1)
    before = {path: path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()}
    for folder in (tmp_path / "keys", tmp_path / "file"):
        with pytest.raises(BadInputError, match="is there already, and nothing is overwritten"):
            make(folder, 1)
    for name in ("worker-0", "gateway"):
        with pytest.raises(BadInputError, match=f"--add: '{name}' is there already"):
            add(tmp_path / "keys", "worker", name)
    (tmp_path / "keys/workers/half.key_secret").write_text("somebody's")
    with pytest.raises(BadInputError, match=r"half\.key_secret: is there already"):
        add(tmp_path / "keys", "worker", "half")
    (tmp_path / "keys/workers/half.key_secret").unlink()
    assert {path: path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden", "-option", "x" * 65, "a b", "a\nb", "é"])
def test_a_name_is_a_file_name_and_no_more(tmp_path: Path, name: str) -> None:
    make(tmp_path / "keys", 0)
    with pytest.raises(BadInputError, match="must be 1 to 64 letters, digits"):
        add(tmp_path / "keys", "worker", name)


def test_what_is_removed_is_gone_and_may_come_again_with_another_key(tmp_path: Path) -> None:
    make(tmp_path / "keys", 1)
    gone = remove(tmp_path / "keys", "worker-0")
    assert list((tmp_path / "keys/workers").iterdir()) == []
    assert add(tmp_path / "keys", "worker", "worker-0").public != gone.public
    assert add(tmp_path / "keys", "worker", "l40s.2-0-0-1").secret_file is not None  # as GPUs are called
    with pytest.raises(BadInputError, match="--remove: 'nobody' is not there"):
        remove(tmp_path / "keys", "nobody")


def test_one_whose_secret_is_elsewhere_is_listed_and_removed(tmp_path: Path) -> None:
    make(tmp_path / "keys", 1)
    (tmp_path / "keys/workers/worker-0.key_secret").unlink()
    assert certificates(tmp_path / "keys")[-1].secret_file is None
    remove(tmp_path / "keys", "worker-0")
    assert [one.name for one in certificates(tmp_path / "keys")] == ["controller", "gateway"]


@pytest.mark.parametrize("others", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_may_read_is_refused_with_the_fix(tmp_path: Path, others: int) -> None:
    make(tmp_path / "keys", 1)
    own = tmp_path / "keys/workers/worker-0.key_secret"
    server = tmp_path / "keys/controllers/controller.key"
    own.chmod(others)
    for reads in (lambda: demand_private(own), lambda: key_pair(own), lambda: client_keys(own, server)):
        with pytest.raises(BadInputError, match=rf"others may read \(mode {others:04o}\): chmod 600 {own}"):
            reads()
    own.chmod(0o600)
    assert client_keys(own, server).server == load_certificate(server)[0]
    own.chmod(0o400)
    demand_private(own)


def test_a_public_file_is_no_secret_and_a_mixed_up_one_neither(tmp_path: Path) -> None:
    make(tmp_path / "keys", 2)
    workers = tmp_path / "keys/workers"
    with pytest.raises(BadInputError, match="has no secret key: give the file"):
        key_pair(workers / "worker-0.key")
    other = certificates(tmp_path / "keys")[-1].public.decode()
    own = certificates(tmp_path / "keys")[-2].public.decode()
    path = workers / "worker-0.key_secret"
    path.write_text(path.read_text().replace(own, other))
    with pytest.raises(BadInputError, match="has keys that do not belong together"):
        key_pair(path)
    with pytest.raises(BadInputError, match="must be a readable CURVE certificate"):
        key_pair(workers / "absent.key_secret")


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BadInputError, match="must be a folder of certificates: epochal keys FOLDER makes one"):
            certificates(folder)


def test_what_cannot_be_finished_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.security.certificates.create_certificates", full)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "keys", 1)
    assert list(tmp_path.iterdir()) == []
