"""The library against a real gateway: what programs get, whatever becomes of connections."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.client import (
    BusyError,
    Chunk,
    Client,
    Created,
    Lost,
    NoSessionError,
    RefusedError,
    ReplacedError,
    Retries,
    State,
    Ticket,
    UnreachableError,
    Updated,
    Video,
)
from runtime.client.messages import Event
from runtime.gateway import messages as m
from tests.ports import free_port
from tests.runtime.client.relay import a_relay
from tests.runtime.gateway.live import Place, a_gateway, a_place
from tests.runtime.gateway.stage import PATIENCE_S, a_stage

QUICK = Retries(attempts_max=4, pause_s=0.05, pause_s_max=0.2)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place() as found:
        yield found


def client_of(port: int) -> Client:
    return Client(f"http://127.0.0.1:{port}", retries=QUICK)


async def created(client: Client, patience_s: float = 0.0) -> Created:
    return await client.create(profile="a", prompt="p", encoding="none", patience_s=patience_s)


async def some(video: Video, count: int) -> list[Chunk]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(video) for _ in range(count)]


async def losses(video: Video) -> None:
    """Until the connection is lost once more."""
    async with asyncio.timeout(PATIENCE_S):
        while not isinstance(await video.next_event(), Lost):
            pass


def words_of(chunk: Chunk) -> list[str]:
    return chunk.body.decode().split()


def test_a_session_is_created_watched_steered_and_ended(place: Place) -> None:
    async def use() -> None:
        client = client_of(place.port)
        session = await created(client)
        async with client.watch(session) as video:
            found = await some(video, 10)
            assert [chunk.seq for chunk in found] == list(range(10))
            assert (found[0].picture.codec, found[0].picture.frames, found[0].play_s) == ("raw", 12, None)
            await video.update(prompt="q", control="up")
            async with asyncio.timeout(PATIENCE_S):
                async for chunk in video:
                    if words_of(chunk)[2:4] == ["q", "up"]:
                        break
                assert (await client.show(session)).prompt == "q"
                await video.end()
                rest = [chunk.seq async for chunk in video]
            assert rest == list(range(chunk.seq + 1, chunk.seq + 1 + len(rest)))
            assert video.done is not None
            assert video.done.reason == "ended"
        with pytest.raises(NoSessionError):
            await client.show(session)
        await client.end(session)
        assert session.token not in repr(session)

    asyncio.run(use())


def test_no_more_is_computed_than_is_taken_and_pauses_hold(place: Place) -> None:
    async def use() -> None:
        client = client_of(place.port)
        session = await created(client)
        held = place.stage.held["w"][session.session_id]
        async with client.watch(session) as video:
            await some(video, 1)
            await asyncio.sleep(0.3)
            assert held.number == 4
            await some(video, 8)
            await video.pause()
            place.until(lambda: not place.stage.wants[session.session_id], "the session is paused")
            await video.resume()
            await some(video, 8)

    asyncio.run(use())


def test_a_lost_connection_is_opened_again_without_a_gap(place: Place) -> None:
    """And what was asked for while it was away is done."""

    async def use() -> None:
        async with a_relay(place.port) as relay:
            client = client_of(relay.port)
            session = await created(client)
            async with client.watch(session) as video:
                found = await some(video, 6)
                for _ in range(3):
                    relay.cut()
                    await video.update(control="up")
                    found += await some(video, 6)
                async with asyncio.timeout(PATIENCE_S):
                    while words_of(found[-1])[3:] == [] or words_of(found[-1])[3] != "up":
                        found += await some(video, 1)
            assert [chunk.seq for chunk in found] == list(range(len(found)))
            assert [words_of(chunk)[1] for chunk in found] == [str(number) for number in range(len(found))]
            assert not any(chunk.gap for chunk in found)
            assert relay.opened >= 5

    asyncio.run(use())


def test_a_gateway_that_is_gone_is_given_up(place: Place) -> None:
    async def use() -> None:
        async with a_relay(place.port) as relay:
            client = client_of(relay.port)
            session = await created(client)
            async with client.watch(session) as video:
                await some(video, 2)
                relay.target = 0
                relay.cut()
                for _ in range(QUICK.attempts_max):
                    await losses(video)
                with pytest.raises(UnreachableError, match="look whether a gateway runs there"):
                    await losses(video)
            with pytest.raises(UnreachableError):
                await created(client)

    asyncio.run(use())


def test_a_gateway_that_falls_silent_is_left_and_found_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.client.video.PING_S", 0.3)
    monkeypatch.setattr("runtime.client.video.OPEN_S", 0.3)

    async def use() -> None:
        async with a_relay(place.port) as relay:
            client = client_of(relay.port)
            session = await created(client)
            async with client.watch(session) as video:
                found = await some(video, 3)
                relay.flowing.clear()
                for _ in range(2):  # the connection that was there, and the next
                    async with asyncio.timeout(PATIENCE_S):
                        while not isinstance(event := await video.next_event(), Lost):
                            assert isinstance(event, Chunk)
                            found.append(event)
                relay.flowing.set()
                found += await some(video, 3)
            assert [chunk.seq for chunk in found] == list(range(len(found)))
            assert not any(chunk.gap for chunk in found)

    asyncio.run(use())


def test_whoever_was_too_slow_goes_on_where_it_was() -> None:
    async def use(port: int) -> None:
        client = client_of(port)
        async with client.watch(await created(client)) as video:
            found = await some(video, 3)
            await asyncio.sleep(1.0)
            found += await some(video, 9)
        assert [chunk.seq for chunk in found] == list(range(12))
        assert not any(chunk.gap for chunk in found)

    with a_place("--slow-s", "0.3") as place:
        asyncio.run(use(place.port))
        assert "epochal_gateway_clients_cut_total 1.0" in place.call("GET", "/metrics").body.decode()


def test_a_paused_session_is_paused_again_on_a_new_connection(place: Place) -> None:
    async def use() -> None:
        async with a_relay(place.port) as relay:
            client = client_of(relay.port)
            session = await created(client)
            async with client.watch(session) as video:
                await some(video, 2)
                await video.pause()
                relay.cut()
                events: list[Event | None] = []
                async with asyncio.timeout(PATIENCE_S):
                    while not any(isinstance(event, Lost) for event in events) or events[-1] != State(
                        state="idle", position=0
                    ):
                        events.append(await video.next_event())
                await video.resume()
                await some(video, 2)

    asyncio.run(use())


def test_a_gateway_that_begins_anew_is_found_again_with_the_gap_told() -> None:
    workers = f"tcp://127.0.0.1:{free_port()}"

    async def use() -> None:
        with a_stage() as stage:
            stage.gateway_workers = workers
            stage.tell(lambda: stage.add_worker("v"))
            with a_gateway(stage, workers=workers) as first:
                client, relaying = None, a_relay(first.port)
                relay = await relaying.__aenter__()
                client = client_of(relay.port)
                session = await created(client)
                stage.tell(lambda: stage.move(session.session_id, "v"))
                video = client.watch(session)
                found = await some(video, 6)
            relay.target = 0
            relay.cut()
            with a_gateway(stage, workers=workers) as second:
                relay.target = second.port
                found += await some(video, 6)
                assert [chunk.seq for chunk in found] == list(range(12))
                assert [chunk.seq for chunk in found if chunk.gap] == [6]
                await video.close()
                await relaying.__aexit__(None, None, None)

    asyncio.run(use())


def test_who_is_turned_away_learns_when_to_come_again(place: Place) -> None:
    async def use() -> None:
        client, stage = client_of(place.port), place.stage
        stage.refusal = m.Refused(session_id="", refusal="full", reason="no room", retry_after_s=1.0)
        with pytest.raises(BusyError, match="no room") as busy:
            await created(client)
        assert busy.value.fault.retry_after_s == 1.0
        asyncio.get_running_loop().call_later(0.5, setattr, stage, "refusal", None)
        began_s = time.monotonic()
        await client.create(profile="a", prompt="p", encoding="none", patience_s=PATIENCE_S)
        assert time.monotonic() - began_s >= 1.0
        with pytest.raises(RefusedError, match="prompt: String should have at most 4096 characters"):
            await client.create(profile="a", prompt="x" * 4097, patience_s=PATIENCE_S)

    asyncio.run(use())


def test_a_wrong_token_opens_nothing_and_the_latest_client_has_the_session(place: Place) -> None:
    async def use() -> None:
        client = client_of(place.port)
        session = await created(client)
        wrong = Ticket(session_id=session.session_id, token="wrong")  # noqa: S106
        with pytest.raises(NoSessionError):
            await client.show(wrong)
        with pytest.raises(NoSessionError):
            await some(client.watch(wrong), 1)
        async with client.watch(session) as first, client.watch(session) as second:
            await some(first, 2)
            seen = await some(second, 2)
            with pytest.raises(ReplacedError):
                await some(first, 50)
            again = client.watch(session, from_seq=seen[-1].seq + 1)
            assert (await some(again, 1))[0].seq == seen[-1].seq + 1
            await again.close()

    asyncio.run(use())


def test_what_is_refused_is_told_and_the_stream_goes_on(place: Place) -> None:
    async def use() -> None:
        client = client_of(place.port)
        async with client.watch(await created(client)) as video:
            await some(video, 2)
            await video.update(control="x" * 65)
            with pytest.raises(RefusedError, match="control: String should have at most 64 characters"):
                await some(video, 50)
            await video.update(control="up")
            async with asyncio.timeout(PATIENCE_S):
                while not isinstance(event := await video.next_event(), Updated):
                    if isinstance(event, Chunk):
                        await video.ack(event.seq)
            with pytest.raises(ValueError, match="give prompt, control or both"):
                await video.update()

    asyncio.run(use())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine: apt-get install openssl")
def test_over_tls_only_a_certificate_that_is_believed_opens(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    done = subprocess.run([*make.split(), "-keyout", key, "-out", certificate], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr

    async def use(port: int) -> None:
        with pytest.raises(RefusedError, match="ca_file"):
            await created(Client(f"https://127.0.0.1:{port}"))
        client = Client(f"https://127.0.0.1:{port}", ca_file=certificate)
        async with client.watch(await created(client, PATIENCE_S)) as video:
            await some(video, 3)
        with pytest.raises(RefusedError, match="ca_file"):
            await some(Client(f"https://127.0.0.1:{port}").watch(await created(client)), 1)

    with a_stage() as stage:
        tls = ("--certificate", str(certificate), "--certificate-key", str(key))
        with a_gateway(stage, *tls, workers=stage.gateway_workers) as place:
            asyncio.run(use(place.port))
