"""What viewers feel while ten times as many clients as fit ask for sessions as fast as they can.

Decides the fleet, who floods and how, and the gate: goodput stays at 90 % of what it is without a flood. Everything is
real but the chunks: `epochal serve` with emulated workers, viewers of the client library, and a process that floods.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import yaml

from bench.result import BenchResult, Gate, Size
from bench.workloads import FLEETS
from runtime.client import Client, ClientError
from runtime.provider.command import EPOCHAL

VIEWERS, TIMES = 8, 10
SECONDS: dict[Size, float] = {"small": 6.0, "standard": 30.0}
GOODPUT_MIN: dict[Size, float] = {"small": 0.7, "standard": 0.9}  # few seconds say little
READY_S = 300.0  # kernels are compiled the first time
_CREATE = json.dumps({"profile": "wan-1.3b-480p", "prompt": "a flood"}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooded:
    """What came of it for those who flood."""

    seconds: float
    answers: Counter[int]  # by status; 0: the connection was cut
    without_retry_after: int  # refusals that do not say when to try again


def run(size: Size) -> BenchResult:
    seconds = SECONDS[size]
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as (port, log):
        quiet, flooded, felt = asyncio.run(_measured(port, seconds, log))
    share = flooded / quiet
    refused = felt.answers[429] + felt.answers[503]
    return BenchResult(
        name="flood",
        settings={"viewers": VIEWERS, "clients that flood": TIMES * VIEWERS, "seconds of each": seconds},
        rows=(
            {
                "chunks/s quiet": round(quiet, 1),
                "chunks/s flooded": round(flooded, 1),
                "goodput %": round(100 * share, 1),
                "creates/s": round(sum(felt.answers.values()) / felt.seconds),
                "taken": felt.answers[201] + felt.answers[202],
                "refused": refused,
                "cut": felt.answers[0],
                "other": sum(felt.answers.values()) - refused - felt.answers[201] - felt.answers[202] - felt.answers[0],
            },
        ),
        gates=(
            Gate(
                claim=f"goodput under {TIMES} times the load is at least {GOODPUT_MIN[size]:.0%} of its peak",
                ok=share >= GOODPUT_MIN[size],
                measured=f"{share:.1%}",
            ),
            Gate(
                claim="whoever is refused is told when to try again",
                ok=refused > 0 and felt.without_retry_after == 0,
                measured=f"{felt.without_retry_after} of {refused} were not",
            ),
        ),
    )


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[int, Path]]:
    """`epochal serve` on a free port, and where it writes what it says; ready. Two workers hold the viewers."""
    fleet = yaml.safe_load((FLEETS / "one-type.yaml").read_text())
    fleet["pools"] = [{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 1, "gpus_min": 2, "host_memory_gib": 1}]
    fleet["gpu_types"]["h100"] |= {"memory_gib": 0.5, "weights_gib": 0.25, "startup_s": 8}
    fleet["profiles"]["wan-1.3b-480p"] |= {"state_gib": 0.001, "latency_ms": {"h100": [70, 80, 90, 100]}}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    told = folder / "serve.log"
    options = (f"--fleet={folder / 'fleet.yaml'}", f"--state={folder / 'state'}", f"--http=127.0.0.1:{port}")
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    with told.open("wb") as written:
        process = subprocess.Popen([*EPOCHAL, "serve", "--model=emulated", *options], stderr=written, env=environment)
    try:
        yield port, told
    finally:
        process.terminate()
        process.wait(120.0)


async def _measured(port: int, seconds: float, log: Path) -> tuple[float, float, Flooded]:
    """Chunks a second of all viewers together, without a flood and with one."""
    client = Client(f"http://127.0.0.1:{port}")
    counts = [0] * VIEWERS
    stop = asyncio.Event()
    viewers = [asyncio.create_task(_watch(client, counts, number, stop)) for number in range(VIEWERS)]
    try:
        await _until_all_have(counts, viewers, log)
        quiet = await _rate(counts, seconds)
        ours, theirs = get_context("spawn").Pipe()
        flood = get_context("spawn").Process(target=_flood, args=(theirs, port, TIMES * VIEWERS), daemon=True)
        flood.start()
        while not ours.poll():  # it has begun
            await asyncio.sleep(0.05)
        ours.recv()
        flooded = await _rate(counts, seconds)
        ours.send("stop")
        felt = await asyncio.to_thread(ours.recv)
        flood.join()
        assert isinstance(felt, Flooded)
        return quiet, flooded, felt
    finally:
        stop.set()
        await asyncio.gather(*viewers, return_exceptions=True)


async def _until_all_have(counts: list[int], viewers: list[asyncio.Task[None]], log: Path) -> None:
    end_s = time.monotonic() + READY_S
    while min(counts) < 4:
        failed = [viewer for viewer in viewers if viewer.done()]
        if failed or time.monotonic() > end_s:
            raise RuntimeError(f"{counts} chunks came; {failed}; serve says:\n{log.read_text()}")
        await asyncio.sleep(0.1)


async def _watch(client: Client, counts: list[int], number: int, stop: asyncio.Event) -> None:
    """As fast as chunks come."""
    end_s = time.monotonic() + READY_S
    while True:
        try:
            session = await client.create(profile="wan-1.3b-480p", prompt=f"viewer {number}", patience_s=READY_S)
            break
        except ClientError:  # the gateway does not listen yet
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(0.5)
    async with client.watch(session) as video:
        async for _ in video:
            counts[number] += 1
            if stop.is_set():
                break


async def _rate(counts: list[int], seconds: float) -> float:
    before, begun_s = sum(counts), time.monotonic()
    await asyncio.sleep(seconds)
    return (sum(counts) - before) / (time.monotonic() - begun_s)


def _flood(pipe: Connection, port: int, clients: int) -> None:
    """The main function of the process that floods, until it is told to stop."""
    pipe.send("begun")
    pipe.send(asyncio.run(_creates(pipe, port, clients)))


async def _creates(pipe: Connection, port: int, clients: int) -> Flooded:
    answers, silent, begun_s = Counter[int](), 0, time.monotonic()

    async def one() -> None:
        nonlocal silent
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(_CREATE)}\r\n\r\n".encode() + _CREATE
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while True:
                    writer.write(request)
                    said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    length = said.split("content-length:")[1].split("\r\n")[0]
                    await reader.readexactly(int(length))
                    status = int(said.split()[1])
                    answers[status] += 1
                    silent += status in (429, 503) and "retry-after:" not in said
            except (OSError, asyncio.IncompleteReadError):
                answers[0] += 1
                await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(one()) for _ in range(clients)]
    while not pipe.poll():
        await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    return Flooded(seconds=time.monotonic() - begun_s, answers=answers, without_retry_after=silent)
