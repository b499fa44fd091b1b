"""A worker in a process of its own, and what it has answered.

Decides how it is started, asked and waited for; must never know what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any, TypeVar

from runtime.measure.peer_messages import (
    ANSWERED,
    Answered,
    Flat,
    Made,
    Mark,
    Order,
    Said,
    Setup,
    Watch,
    Watched,
    read,
    write,
)
from runtime.transfer.messages import Migrating
from runtime.transfer.quiet import quiet_environment
from runtime.worker.messages import Command, Desired

ANSWER_S = 180.0  # for the slowest answer

HeardKind = TypeVar("HeardKind", Made, Watched)


class PeerProcess:
    """A worker process, and what it has answered."""

    def __init__(self, setup: Setup) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "TORCH_CPP_LOG_LEVEL": "ERROR", "NCCL_HOSTID": setup.name}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runtime.measure.peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | dict(quiet_environment()),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self._answers = self._process.stdin, self._process.stdout
        self._heard: list[Answered] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        write(self._asks, setup)

    def ask(self, asked: Flat | Watch) -> None:
        write(self._asks, asked)

    def command(self, body: Desired | Migrating) -> None:
        command = Command(controller_epoch=1, incarnation=1, version=1, body=body)
        write(self._asks, Order(command=command))

    def mark(self, what: str) -> float:
        """When it happened; the answer is used up."""
        return self._wait(lambda answer: isinstance(answer, Mark) and answer.what == what).at_s

    def said(self, *kinds: type[Any]) -> tuple[float, Any]:
        """When one of these was said, and what."""
        said = self._wait(lambda answer: isinstance(answer, Said) and isinstance(answer.report, kinds))
        assert isinstance(said, Said)
        return said.at_s, said.report

    def heard(self, kind: type[HeardKind]) -> HeardKind:
        """The first answer of that kind which has not been used up."""
        found = self._wait(lambda answer: isinstance(answer, kind))
        assert isinstance(found, kind)
        return found

    def drop(self, kind: type[Made]) -> None:
        """Answers of that kind that nobody has used up."""
        with self._news:
            self._heard = [answer for answer in self._heard if not isinstance(answer, kind)]

    def close(self) -> None:
        self._asks.close()
        self._process.wait(ANSWER_S)
        self._thread.join(ANSWER_S)
        self._answers.close()

    def _listen(self) -> None:
        while (body := read(self._answers)) is not None:
            with self._news:
                self._heard.append(ANSWERED.decode(body))
                self._news.notify()

    def _wait(self, wanted: Any) -> Answered:
        end_s = time.monotonic() + ANSWER_S
        with self._news:
            while True:
                for at, answer in enumerate(self._heard):
                    if wanted(answer):
                        del self._heard[at]
                        return answer
                left_s = end_s - time.monotonic()
                assert left_s > 0, f"no answer in {ANSWER_S:g} s; heard: {self._heard}"
                assert self._process.poll() is None, f"the worker has ended with {self._process.returncode}"
                self._news.wait(min(1.0, left_s))
