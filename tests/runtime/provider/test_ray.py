"""What only a cluster does: actors that die or find no room, nodes that are lost, and commands that need one."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from runtime.provider.command import WorkerCommand
from runtime.provider.provider import Exited, NotStarted, Started
from runtime.worker.process.messages import Goodbye, Hello
from scheduler.cluster import GpuId
from tests.e2e.command import environment, epochal
from tests.e2e.test_serve import processes, served
from tests.e2e.test_serve import until as until_true
from tests.runtime.gateway.live import chunks
from tests.runtime.provider.conftest import GPUS, STORE_BYTES, WITH_RAY
from tests.runtime.provider.places import Place, gone, lives
from tests.runtime.provider.small_workers import GPU, PATIENCE_S, POLITE, WAITS, Ears, until
from tests.runtime.provider.test_real_worker import EMULATED, SMALL, said, two_ends
from traces.errors import BadInputError

pytestmark = WITH_RAY
FLEET = Path("examples/fleets/laptop.yaml").resolve()


@pytest.fixture
def place(cluster: Any, tmp_path: Path) -> Place:
    return Place(folder=tmp_path / "state", address=cluster.address)


def actor_of(pid: int) -> int:
    """The process that has begun it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def free_gpus() -> float:
    import ray

    return float((await asyncio.to_thread(ray.available_resources)).get("GPU", 0.0))


def test_a_worker_does_not_outlive_its_actor(place: Place) -> None:
    """Nobody but the system is left to end it: its actor is killed as by the system's memory killer."""

    async def case() -> None:
        async with place.opened(place.program(WAITS)) as (provider, ears):
            pid = await place.started(provider, ears)
            provider.note_incarnation(GPU, 5)
            os.kill(actor_of(pid), signal.SIGKILL)
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.running.incarnation, exited.asked) == (pid, 5, False)
            assert not lives(pid)

    asyncio.run(case())


def test_an_end_is_told_once_the_process_is_gone_not_when_ray_says_so(place: Place) -> None:
    async def case() -> None:
        import ray

        async with place.opened(place.program(WAITS)) as (provider, ears):
            pid = await place.started(provider, ears)
            provider.note_incarnation(GPU, 5)
            await asyncio.to_thread(ray.kill, ray.get_actor(str(GPU)))
            assert "killed by `ray.kill`" in (await ears.hear(Exited)).reason
            assert not lives(pid)

    asyncio.run(case())


def test_an_actor_does_not_outlive_its_worker(place: Place) -> None:
    """Also where no controller is there to see it: the next one finds nobody, or hears of its end; the GPU is free."""

    async def case() -> None:
        ears = Ears()
        first = await place.open(place.program(WAITS), ears)
        pid = await place.started(first, ears)
        actor = actor_of(pid)
        await first.close()
        os.kill(pid, signal.SIGKILL)
        await gone(actor)
        async with place.opened(place.program(WAITS)) as (provider, ears):
            await until_free(GPUS)
            await until(lambda: not provider.running, "an end that Ray has not noted yet")
            assert all(isinstance(event, Exited) for event in ears.heard)

    async def until_free(count: float) -> None:
        while await free_gpus() != count:
            await asyncio.sleep(0.05)

    asyncio.run(case())


def test_whoever_finds_no_room_is_told_waits_and_can_be_given_up(place: Place) -> None:
    gpus = [GpuId(f"h100-0-{number}-0") for number in range(GPUS + 2)]

    async def case() -> None:
        async with place.opened(place.program(POLITE), start_s=2.0) as (provider, ears):
            for gpu_id in gpus[:GPUS]:
                await place.started(provider, ears, gpu_id)
            for gpu_id in gpus[GPUS:]:
                provider.start(gpu_id)
                told = await ears.hear(NotStarted, lambda one: one.gpu_id == gpu_id)  # noqa: B023
                assert told.gave_up
                assert told.reason == "it is not there after 2 s, and still waited for"
                assert gpu_id not in provider.running
            provider.stop(gpus[-1])
            provider.stop(gpus[0])
            assert (await ears.hear(Exited)).running.gpu_id == gpus[0]
            assert (await ears.hear(Started)).running.gpu_id == gpus[GPUS]  # and not the one that was given up
            assert set(provider.running) == set(gpus[1 : GPUS + 1])

    asyncio.run(case())


def test_of_a_lost_node_the_end_is_told_once_its_processes_must_be_gone(cluster: Any, place: Place) -> None:
    node = cluster.add_node(num_gpus=1, num_cpus=1, resources={"h200": 1}, object_store_memory=STORE_BYTES)
    cluster.wait_for_nodes()

    async def case() -> None:
        async with place.opened(place.program(WAITS), resources={GPU: {"h200": 1.0}}) as (provider, ears):
            pid = await place.started(provider, ears)
            provider.note_incarnation(GPU, 5)
            await asyncio.to_thread(cluster.remove_node, node)
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.running.incarnation, exited.asked) == (pid, 5, False)
            assert not lives(pid)

    asyncio.run(case())


def test_a_real_worker_says_hello_and_ends_as_it_should(place: Place) -> None:
    async def case() -> None:
        with two_ends() as (controller, options):
            command = WorkerCommand(options=(*options, *SMALL, *EMULATED), inherited=environment())
            async with place.opened(command) as (provider, ears):
                provider.start(GPU)
                hello = await said(controller, Hello)
                assert isinstance(hello, Hello)
                assert hello.worker == GPU
                provider.note_incarnation(GPU, hello.incarnation)
                provider.stop(GPU)
                assert await said(controller, Goodbye)
                exited = await ears.hear(Exited)
                assert (exited.code, exited.asked, exited.running.incarnation) == (0, True, hello.incarnation)
                assert exited.lines[-1] == "SIGTERM: finishing the chunks in progress"

    asyncio.run(case())


def test_without_a_cluster_the_command_says_so(tmp_path: Path) -> None:
    options = ("--provider=ray", "--ray-address=127.0.0.1:1", "--workers=tcp://127.0.0.1:0")
    done = epochal("controller", f"--fleet={FLEET}", f"--state={tmp_path}", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--ray-address: '127.0.0.1:1' must be a Ray cluster that runs: ")


def test_a_folder_of_local_workers_is_refused(place: Place) -> None:
    async def case() -> None:
        here = Place(folder=place.folder)
        async with here.opened(here.program(WAITS)) as (provider, ears):
            await here.started(provider, ears)
            record = next(place.folder.glob("*.worker")).read_bytes()
        (place.folder / f"{GPU}.worker").write_bytes(record)
        with pytest.raises(BadInputError, match="has workers of the provider local: stop them first"):
            await place.open(place.program(WAITS), lambda _: None)

    asyncio.run(case())


def test_the_planners_count_starts_and_stops_workers_there(cluster: Any, tmp_path: Path) -> None:
    """`epochal serve` itself: as sessions come a second worker does, which a killed controller's successor takes up."""
    state = tmp_path / "state"
    options = ("--workers=2", "--model=emulated", "--provider=ray", f"--ray-address={cluster.address}")
    with served(state, *options) as (place, process):
        opened = [place.start(place.create(profile="shapes-48", prompt="red circle")) for _ in range(6)]
        for each in opened:
            chunks(each, 2)
        workers = processes(state, "worker")
        assert len(workers) == 2
        (controller,) = processes(state, "controller")
        os.kill(controller, signal.SIGKILL)
        lock = state / "workers" / "lock"
        until_true(lambda: f"process {controller} " not in lock.read_text(), "another controller has begun")
        for each in opened:
            chunks(each, 2)
        assert processes(state, "worker") == workers
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        # An actor that was killed before its first word is dead for Ray a moment before its process is.
        until_true(lambda: processes(state) == [], "nobody is left")
