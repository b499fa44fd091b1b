"""A gateway process from its options to its exit code.

Decides what is bound, and what a signal means; must never know what a client asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Literal

import uvicorn

from runtime.gateway.app import make_app
from runtime.gateway.config import GatewayConfig
from runtime.gateway.gateway import Gateway
from traces.errors import BadInputError

ExitCode = Literal[0, 1]

HEAD_BYTES_MAX = 16 << 10  # of an HTTP request
CONNECTIONS_BESIDE = 512  # that are no client of a stream
BACKLOG = 1024
KEEP_ALIVE_S = 15
GONE_MS = 30_000  # a connection whose other end takes nothing for so long is given up by the kernel
DRAIN_S = 5  # for answers in progress, when the gateway is stopped
PING_S = 10.0


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: the process ends with its own exit code."""
        yield


def run_gateway(config: GatewayConfig, told: Callable[[str], None]) -> ExitCode:
    """Until it is stopped; SIGTERM and Ctrl-C end it as they should. Raises `BadInputError`."""
    return asyncio.run(_run(config, told))


async def _run(config: GatewayConfig, told: Callable[[str], None]) -> ExitCode:
    listening = _listen(config)
    gateway = Gateway(config)
    server = _Server(_settings(config, gateway))
    _stop_on_signals(gateway, server, told)
    scheme = "http" if config.certificate is None else "https"
    host, port = listening.getsockname()[:2]
    async with gateway.running():
        shown = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{shown}:{port}"
        told(f"gateway {config.name}: {url}, workers at {gateway.workers_address}")
        told(f"to watch a session, open {url} in a browser or run epochal client {url}")
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        failing = asyncio.create_task(gateway.failed.wait())
        await asyncio.wait((serving, failing), return_when=asyncio.FIRST_COMPLETED)
        failing.cancel()
        server.should_exit = True
        await serving
    if gateway.failure is not None:
        told("".join(traceback.format_exception(gateway.failure)))
        return 1
    return 0


def _settings(config: GatewayConfig, gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(gateway),
        http="h11",
        ws="websockets-sansio",
        ws_max_size=config.limits.message_bytes_max,
        ws_per_message_deflate=False,  # video is compressed, and a small message could become a large one
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        limit_concurrency=config.limits.clients_max + CONNECTIONS_BESIDE,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=config.certificate,
        ssl_keyfile=config.certificate_key,
    )


def _listen(config: GatewayConfig) -> socket.socket:
    host, port = config.http
    listening = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from here
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_MS)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise BadInputError.of("--http", f"{host}:{port} cannot be listened at: {error}") from None
    return listening


def _stop_on_signals(gateway: Gateway, server: uvicorn.Server, told: Callable[[str], None]) -> None:
    def stop(number: signal.Signals) -> None:
        if server.should_exit:  # the second one does not wait
            server.force_exit = True
            return
        told(f"{number.name}: clients are told, and then it ends")
        gateway.close_clients()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
