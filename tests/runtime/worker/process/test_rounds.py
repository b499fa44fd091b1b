"""A worker knows how long its rounds and chunks took, whoever shared a pass with whom."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.chunk_models.chunk_model import Chunk, Seat
from runtime.worker.process.messages import CHUNKS_TOLD_MAX, CONTENTS_TOLD_MAX, Computed
from runtime.worker.process.passes import Blamed, PassEnded, Passes
from runtime.worker.process.rounds import RoundMeter
from tests.runtime.chunk_models.hosts import Host, an_emulation


class Clocked:
    """An emulation of three passes a chunk, whose passes move a clock: rounds of one to four of a take 4 to 16 ms."""

    def __init__(self, *names: str) -> None:
        self.now_s = 10.0
        self.host = Host(an_emulation(self._sleep))
        self.passes = Passes(self.host.model)
        self.meter = RoundMeter(self.host.model.passes_per_chunk)
        for name in names:
            self.host.open(self.host.head(name, profile=name[0]))

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, *names: str, times: int = 1) -> None:
        for _ in range(times):
            seats, begun_s = [self.host.seats[name] for name in names], self.now_s
            ended = self.passes.run(seats)
            self.meter.passed(seats, ended, begun_s, self.now_s)
            for chunk in ended.chunks:
                self.host.advance(chunk.session)


def rounds(computed: Computed) -> dict[tuple[tuple[str, int], ...], tuple[float, float]]:
    return {each.content: (each.rounds, round(each.seconds, 9)) for each in computed.rounds}


def test_passes_are_added_up_by_who_was_computed_together() -> None:
    clocked = Clocked("a1", "a2", "b1")
    clocked.run("a1", times=3)
    clocked.run("a1", "a2", times=6)
    clocked.run("a1", "a2", "b1", times=3)
    computed = clocked.meter.take()
    assert rounds(computed) == {
        (("a", 1),): (1.0, 0.004),
        (("a", 2),): (2.0, 0.016),
        (("a", 2), ("b", 1)): (1.0, 0.016),
    }
    assert {(each.profile, each.batch): len(each.seconds) for each in computed.chunks} == {
        ("a", 1): 1,
        ("a", 2): 4,
        ("a", 3): 2,
        ("b", 3): 1,
    }
    assert clocked.meter.take() == Computed()


def test_a_chunk_lasts_from_its_first_pass_on_and_across_what_is_told() -> None:
    clocked = Clocked("a1", "a2")
    clocked.run("a1")
    clocked.meter.take()
    clocked.now_s += 1.0  # the worker had no lease
    clocked.run("a1", "a2", times=2)  # and a1's chunk is there
    (chunks,) = clocked.meter.take().chunks
    assert (chunks.profile, chunks.batch) == ("a", 2)
    assert chunks.seconds == pytest.approx([1.0 + (4 + 8 + 8) / 3000])
    clocked.run("a2")
    (chunks,) = clocked.meter.take().chunks
    assert chunks.seconds == pytest.approx([(8 + 8 + 4) / 3000])


def test_a_pass_that_was_done_in_parts_tells_of_no_round_and_what_is_kept_is_bounded() -> None:
    host = Host(an_emulation())
    host.open(host.head("s"))
    meter = RoundMeter(1)
    chunk = Chunk(session="s", lineage=0, number=0, frames=np.zeros(0, np.uint8))
    in_parts = PassEnded(chunks=(chunk,), parts=(("s",), ("other",)))
    meter.passed([host.seats["s"]], in_parts, 0.0, 1.0)
    meter.passed([host.seats["s"]], PassEnded(blamed=(Blamed(session="s", reason="", refused=True),)), 1.0, 2.0)
    computed = meter.take()
    assert computed.rounds == ()
    assert [each.seconds for each in computed.chunks] == [(1.0,)]
    for number in range(CHUNKS_TOLD_MAX + 1):
        seats = [Seat(head=host.head("s"), offset=0)]
        seats += [Seat(head=host.head(f"o{index}"), offset=0) for index in range(number % (CONTENTS_TOLD_MAX + 1))]
        meter.passed(seats, PassEnded(chunks=(chunk,), parts=(("s",),)), 0.0, 1.0)
    computed = meter.take()
    assert len(computed.rounds) == CONTENTS_TOLD_MAX
    assert sum(len(each.seconds) for each in computed.chunks) == CHUNKS_TOLD_MAX
