"""A pass that fails costs whoever is to blame, and nobody else a byte or the hope of ever being done."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from runtime.chunk_models.chunk_model import Chunk
from runtime.worker.process.passes import APART_CHUNKS, PassEnded, Passes
from tests.runtime.chunk_models.hosts import Host, a_transformer
from tests.runtime.worker.live_models import Poisonous
from tests.runtime.worker.live_sessions import Script, reference


class Running:
    """Sessions in passes, each chunk compared with that of a session alone."""

    def __init__(self, **prompts: str) -> None:
        self.host = Host(Poisonous(a_transformer()))
        self.passes = Passes(self.host.model)
        self.made = dict.fromkeys(prompts, 0)
        self.lost: dict[str, str] = {}
        self.scripts = {name: Script(model="tiny", prompt=prompt) for name, prompt in prompts.items()}
        for name, prompt in prompts.items():
            self.host.open(self.host.head(name, prompt=prompt))

    def run_pass(self) -> PassEnded:
        ended = self.passes.run([self.host.seats[name] for name in self.made if name not in self.lost])
        for chunk in ended.chunks:
            self._take(chunk)
        for blamed in ended.blamed:
            self.lost[blamed.session] = blamed.reason
            self.passes.forget(blamed.session)
        return ended

    def _take(self, chunk: Chunk) -> None:
        wanted = reference(self.scripts[chunk.session]).digest(chunk.number)
        assert hashlib.sha256(chunk.frames.tobytes()).digest() == wanted
        self.made[chunk.session] += 1
        self.host.advance(chunk.session)


def test_one_poisonous_session_is_blamed_and_the_others_do_not_stay_apart() -> None:
    running = Running(one="red circle", bad="poison", two="blue square", three="")
    running.run_pass()
    assert running.lost == {"bad": "RuntimeError: the device has stumbled"}
    assert running.run_pass().parts == (("one", "two", "three"),)
    for _ in range(5):
        running.run_pass()
    assert running.made == {"one": 2, "bad": 0, "two": 2, "three": 2}


def test_who_can_only_be_computed_alone_stays_apart_and_everybody_gets_on() -> None:
    running = Running(one="red circle", large="memory", two="blue square")
    for _ in range(running.host.model.passes_per_chunk * APART_CHUNKS):
        running.run_pass()
    assert running.lost == {}
    assert min(running.made.values()) >= APART_CHUNKS - 1


def test_after_a_while_they_are_tried_together_again() -> None:
    running = Running(one="red circle", large="memory")
    running.run_pass()
    running.host.ask("large", prompt="green triangle")  # which needs no more memory than others
    running.scripts["large"] = replace(running.scripts["large"], changes=((1, "green triangle", None),))
    parts = [running.run_pass().parts for _ in range(running.host.model.passes_per_chunk * (APART_CHUNKS + 1))]
    assert parts[0] == (("one",), ("large",))
    assert parts[-1] == (("one", "large"),)


def test_a_refusal_is_told_in_the_words_of_the_model() -> None:
    running = Running(one="red circle", two="blue square")
    running.host.ask("two", control="jump")
    ended = running.run_pass()
    assert [(blamed.session, blamed.refused) for blamed in ended.blamed] == [("two", True)]
    assert "control='jump' must be one of" in ended.blamed[0].reason
    assert running.run_pass().parts == (("one",),)


def test_when_nobody_can_be_computed_everybody_is_blamed() -> None:
    running = Running(one="poison", two="poison also")
    assert {blamed.session for blamed in running.run_pass().blamed} == {"one", "two"}
