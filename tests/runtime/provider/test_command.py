"""What a worker is started with: enough, and nothing that is nobody's business; and the provider that only says so."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from runtime.provider.command import WorkerCommand, child_environment
from runtime.provider.provider import ForOperator, Provider
from runtime.provider.static import StaticProvider
from scheduler.cluster import GpuId
from tests.runtime.provider.small_workers import GPU, Ears, a_provider, program, started
from traces.errors import BadInputError

COMMAND = WorkerCommand(
    options=("--controller", "tcp://127.0.0.1:7100", "--gateway", "tcp://127.0.0.1:7101"),
    own_options={GPU: ("--device", "cuda:1")},
    inherited={},
)


def test_each_gpu_has_its_own_device_and_name() -> None:
    launch = COMMAND(GPU)
    assert launch.worker == GPU
    assert launch.command[0] == sys.executable
    assert launch.arguments == ("worker", f"--name={GPU}", "--threads=1", *COMMAND.options, "--device", "cuda:1")
    assert COMMAND(GpuId("other")).arguments[-1] == "tcp://127.0.0.1:7101"


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_no_worker_takes_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="must have a name of 1 to 64 characters"):
        COMMAND(GpuId(name))


def test_secrets_of_whoever_starts_us_are_not_handed_on() -> None:
    ours = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "AWS_SECRET_ACCESS_KEY": "s",
        "EPOCHAL_TOKEN": "t",
        "HOME": "/h",
    }
    given = child_environment(ours, threads=2)
    assert {name: given[name] for name in given if name in ours} == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "HOME": "/h",
    }
    assert {given[name] for name in given if name.endswith("_NUM_THREADS")} == {"2"}
    assert given["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "0"


def test_a_process_has_just_that_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of ours")

    async def case() -> None:
        text = "import time; print('here', flush=True); time.sleep(600)"
        async with a_provider(tmp_path, program(text, ONE="1")) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            found = Path(f"/proc/{pid}/environ").read_bytes().decode().strip("\0").split("\0")
            assert sorted(line.partition("=")[0] for line in found) == ["EPOCHAL_WORKER_MARK", "ONE"]
        assert "A_SECRET" in os.environ

    asyncio.run(case())


def test_a_static_provider_says_what_is_to_be_done_and_says_it_once() -> None:
    async def case() -> None:
        ears = Ears()
        provider: Provider = StaticProvider(COMMAND, ears)
        assert (provider.exit_is_seen, dict(provider.running)) == (False, {})
        for _ in range(3):
            provider.start(GPU)
        assert ears.heard == []  # never from within
        told = await ears.hear(ForOperator)
        assert told.text == (
            f"is to have a worker; unless it runs already: epochal worker --name={GPU} --threads=1 "
            "--controller tcp://127.0.0.1:7100 --gateway tcp://127.0.0.1:7101 --device cuda:1"
        )
        provider.stop(GPU)
        assert (await ears.hear(ForOperator)).text.startswith(
            "is not needed: its worker may be stopped (Ctrl-C or SIGTERM)"
        )
        provider.kill(GPU)
        assert "kill -9" in (await ears.hear(ForOperator)).text
        provider.note_incarnation(GPU, 5)
        provider.kill(GPU)
        await ears.hear(ForOperator)
        await provider.close()
        assert ears.heard == []

    asyncio.run(case())
