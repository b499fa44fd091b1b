"""`epochal worker` itself under a local provider."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
import zmq.asyncio

from runtime.provider.command import WorkerCommand
from runtime.provider.provider import Exited, NotStarted, Started
from runtime.worker.process.messages import Goodbye, Hello, from_worker
from scheduler.cluster import GpuId
from tests.e2e.command import ROOT, environment
from tests.runtime.provider.small_workers import GPU, a_provider, left_in

PATIENCE_S = 200.0
SMALL = ("--device", "cpu", "--device-memory-mib", "300", "--host-memory-mib", "64", "--sessions-max", "4")
EMULATED = ("--model", "emulated", "--fleet", str(ROOT / "examples/fleets/two-types.yaml"))


@contextmanager
def two_ends() -> Iterator[tuple[zmq.asyncio.Socket, tuple[str, ...]]]:
    """Where a worker's controller and gateway would listen."""
    context = zmq.asyncio.Context()
    controller, gateway = context.socket(zmq.ROUTER), context.socket(zmq.PULL)
    ports = [made.bind_to_random_port("tcp://127.0.0.1") for made in (controller, gateway)]
    try:
        yield (
            controller,
            ("--controller", f"tcp://127.0.0.1:{ports[0]}", "--gateway", f"tcp://127.0.0.1:{ports[1]}"),
        )
    finally:
        context.destroy(linger=0)


async def said(controller: zmq.asyncio.Socket, kind: type[Hello] | type[Goodbye]) -> Hello | Goodbye:
    while True:
        _, frame = await asyncio.wait_for(controller.recv_multipart(), PATIENCE_S)
        message = from_worker(frame)
        if isinstance(message, kind):
            return message


def test_it_says_hello_is_replaced_after_a_kill_and_stops_as_it_should(tmp_path: Path) -> None:
    async def case() -> None:
        with two_ends() as (controller, options):
            command = WorkerCommand(options=(*options, *SMALL, *EMULATED), inherited=environment())
            async with a_provider(tmp_path, command) as (provider, ears):
                provider.start(GPU)
                first = await said(controller, Hello)
                assert isinstance(first, Hello)
                assert first.worker == GPU
                provider.note_incarnation(GPU, first.incarnation)
                os.kill(provider.running[GPU].pid, signal.SIGKILL)
                exited = await ears.hear(Exited)
                assert (exited.running.incarnation, exited.signal) == (first.incarnation, signal.SIGKILL)
                assert "MiB for states on cpu" in exited.reason
                provider.start(GPU)
                second = await said(controller, Hello)
                assert isinstance(second, Hello)
                assert second.incarnation > first.incarnation
                provider.note_incarnation(GPU, second.incarnation)
                provider.stop(GPU)
                assert await said(controller, Goodbye)
                exited = await ears.hear(Exited)
                assert (exited.code, exited.asked) == (0, True)
                assert exited.lines[-1] == "SIGTERM: finishing the chunks in progress"
                assert left_in(tmp_path) == []

    asyncio.run(case())


def test_what_is_wrong_with_its_options_is_told(tmp_path: Path) -> None:
    async def case() -> None:
        options = ("--controller", "tcp://127.0.0.1:1", "--gateway", "tcp://127.0.0.1:1", "--model", "emulated")
        command = WorkerCommand(options=(*options, "--device", "cpu"), inherited=environment())
        async with a_provider(tmp_path, command) as (provider, ears):
            provider.start(GpuId("a"))
            reason = (await ears.hear(NotStarted)).reason
            assert reason.startswith("exit code 2: --fleet: must be given for --model emulated")
            assert await ears.hear(Started)

    asyncio.run(case())
