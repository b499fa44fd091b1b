"""What becomes of a provider's words: strangers and GPUs that cannot be used are told, and what follows for plans."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from runtime.controller.controller import Unavailable
from runtime.controller.process.providing import STRANGERS_MAX, Gone, Provided
from runtime.controller.step import Switch
from runtime.provider.command import WorkerCommand
from runtime.provider.provider import Provider, Tell
from runtime.provider.provider_thread import ProviderThread
from runtime.provider.static import StaticProvider

PATIENCE_S = 60.0
UNUSABLE = "x" * 65  # no worker takes such a name


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def provided(woken: threading.Event) -> Iterator[Provided]:
    async def make(tell: Tell) -> Provider:
        return StaticProvider(WorkerCommand(options=("--controller=c",), inherited={}), tell)

    made = Provided(ProviderThread(make, woken.set), ("gpu-1", "gpu-0", UNUSABLE))
    yield made
    made.close()


def heard(provided: Provided, woken: threading.Event) -> list[Gone]:
    assert woken.wait(PATIENCE_S)
    return provided.happened({})


def test_a_worker_that_is_no_gpu_of_the_fleet_is_told_once(provided: Provided) -> None:
    for incarnation in (1, 2):
        provided.said_hello("host-cpu-7", incarnation)
        provided.said_hello("gpu-0", incarnation)
    (told,) = provided.news()
    assert told == (
        f"'host-cpu-7' has joined and gets no sessions: no GPU of the fleet has its name (gpu-0, gpu-1, {UNUSABLE})"
    )
    for number in range(2 * STRANGERS_MAX):
        provided.said_hello(f"stranger-{number}", 1)
    assert len(provided.news()) == STRANGERS_MAX - 1


def test_what_is_wanted_by_hand_is_told_and_again_once_it_has_been_there(
    provided: Provided, woken: threading.Event
) -> None:
    for _ in range(2):
        provided.switch(Switch(worker="gpu-0", on=True))
    assert heard(provided, woken) == []
    asked = [
        "gpu-0: is to have a worker; unless it runs already: epochal worker --name=gpu-0 --threads=1 --controller=c"
    ]
    assert provided.news() == asked
    woken.clear()
    provided.said_hello("gpu-0", 1)
    provided.switch(Switch(worker="gpu-0", on=True))
    heard(provided, woken)
    assert provided.news() == asked


def test_one_that_cannot_be_started_is_not_counted_on(provided: Provided, woken: threading.Event) -> None:
    provided.switch(Switch(worker=UNUSABLE, on=True))
    assert heard(provided, woken) == [Unavailable(worker=UNUSABLE)]
    assert "must have a name of 1 to 64 characters" in provided.news()[0]


def test_who_was_silent_for_too_long_is_to_go_at_once_and_people_are_told(
    provided: Provided, woken: threading.Event
) -> None:
    provided.switch(Switch(worker="gpu-0", on=False, at_once=True))
    heard(provided, woken)
    told = provided.news()
    assert told[0] == "gpu-0: was silent for too long and is killed; its sessions begin anew"
    assert "kill -9" in told[1]  # whoever cannot kill says so
