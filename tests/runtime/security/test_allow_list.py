"""The answer to libzmq's question, for any question; and what a folder lets in."""

from __future__ import annotations

from pathlib import Path

import zmq
from hypothesis import example, given
from hypothesis import strategies as st
from zmq.utils import z85

from runtime.security.allow_list import AllowList, judge, read_allow_list
from runtime.security.certificates import certificates, make

KEY = z85.encode(bytes(range(32)))
LISTS = {"workers": AllowList(names={KEY: "w"}), "gateways": AllowList()}
RIGHT = [b"1.0", b"7", b"workers", b"127.0.0.1", b"w/1", b"CURVE", z85.decode(KEY)]
_FRAMES = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(RIGHT)), max_size=9)


def test_the_right_key_in_its_domain_is_let_in_as_itself() -> None:
    verdict = judge(RIGHT, LISTS)
    assert verdict.let_in
    assert verdict.reply == (b"1.0", b"7", b"200", b"OK", KEY, b"")


@given(st.integers(0, 6), st.binary(max_size=40))
@example(2, b"gateways")
@example(5, b"NULL")
@example(5, b"PLAIN")
@example(6, z85.decode(KEY)[:31])
def test_with_any_other_domain_mechanism_or_key_nobody_is(place: int, frame: bytes) -> None:
    request = [*RIGHT[:place], frame, *RIGHT[place + 1 :]]
    decides = place in (0, 2, 5, 6) and frame != RIGHT[place]
    assert judge(request, LISTS).let_in == (not decides)


@given(_FRAMES)
def test_any_frames_are_answered_and_only_the_right_ones_let_in(frames: list[bytes]) -> None:
    verdict = judge(frames, LISTS)
    assert len(verdict.reply) == 6
    assert verdict.let_in == (verdict.reply[2] == b"200")
    is_right = len(frames) == 7 and all(frames[place] == RIGHT[place] for place in (0, 2, 5, 6))
    assert verdict.let_in == is_right
    if len(frames) > 1:
        assert verdict.reply[1] == frames[1]


def test_a_folder_lets_in_those_whose_public_file_is_there(tmp_path: Path) -> None:
    make(tmp_path / "keys", 3)
    there = {one.public: one.name for one in certificates(tmp_path / "keys") if one.role == "worker"}
    assert read_allow_list(tmp_path / "keys/workers") == AllowList(names=there)
    (tmp_path / "keys/workers/worker-1.key").unlink()
    assert sorted(read_allow_list(tmp_path / "keys/workers").names.values()) == ["worker-0", "worker-2"]


def test_what_is_no_certificate_lets_nobody_in(tmp_path: Path) -> None:
    make(tmp_path / "keys", 1)
    folder = tmp_path / "keys/workers"
    (folder / "empty.key").touch()
    (folder / "long.key").write_bytes(b"#" * 100_000)
    (folder / "folder.key").mkdir()
    (folder / "short.key").write_text('public-key = "abc"\n')
    (folder / "high.key").write_text(f'public-key = "{"#" * 40}"\n')  # not a number of 32 bytes
    found = read_allow_list(folder)
    assert list(found.names.values()) == ["worker-0"]
    told = [str(finding) for finding in found.findings]
    assert [line.partition(": ")[0].rpartition("/")[2] for line in told] == [
        "empty.key",
        "folder.key",
        "high.key",
        "long.key",
        "short.key",
    ]
    assert all("must" in line for line in told)


def test_a_made_key_is_what_libzmq_makes() -> None:
    public, _ = zmq.curve_keypair()
    assert judge([*RIGHT[:6], z85.decode(public)], {"workers": AllowList(names={public: "x"})}).let_in
