"""`epochal client`: open a session at a gateway, or come back to one, and watch it.

Decides what the command takes, what is printed in the end, and the exit code; must never know how a stream is read.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import webbrowser
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from runtime.cli.devices import parts_are_there
from runtime.cli.errors import BAD_INPUT, FAILED, INTERRUPTED, UNSERVED_OR_LATE, told
from runtime.cli.output import FormatOption, figure, print_json, print_rows
from traces.errors import BadInputError

if TYPE_CHECKING:
    from runtime.cli.client_watch import Ending, Watching, Wish
    from runtime.client import Client, Felt, Ticket

_EPILOG = (
    "Example: epochal client --prompt 'red circle' --seconds 10 -o video.mp4. While it runs, lines on stdin steer it: "
    "`prompt: blue square`, `control: up`, `pause`, `resume`, `end`. Ctrl-C ends the session (with --keep it leaves "
    "it), and the file is playable. Exit codes: 0 done, 1 failed, 2 bad input or no such session, 3 done but it "
    "stalled or ended too early, 130 interrupted."
)

CLIENT_COMMAND: dict[str, Any] = {"epilog": _EPILOG}

END_S = 5.0  # for a session to be ended, when somebody leaves


def client_command(
    url: Annotated[str, typer.Argument(help="Of the gateway.")] = "http://127.0.0.1:8000",
    prompt: Annotated[str, typer.Option(help="What the video is to show.")] = "red circle",
    profile: Annotated[str, typer.Option(help="Of the fleet's ChunkModel.")] = "shapes-32",
    seed: Annotated[int | None, typer.Option(min=0, help="Default: the gateway draws one.")] = None,
    encoding: Annotated[Literal["h264", "mjpeg", "none"], typer.Option(help="How chunks come.")] = "h264",
    scale: Annotated[int, typer.Option(min=1, max=64, help="Each pixel becomes a square of so many.")] = 1,
    tenant: Annotated[str, typer.Option(help="On whose behalf; for reports.")] = "",
    session: Annotated[str, typer.Option(help="Come back to this one; needs --token-file.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="Holds the session's token; a new session's is written there.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the session in the end, do not end it.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the video there (.mp4).")] = None,
    chunks: Annotated[int | None, typer.Option(min=1, help="As many, and no more.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Of video, and no more.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Take chunks as they come, not as they play.")] = False,
    show: Annotated[
        Literal["nothing", "terminal", "browser"], typer.Option(help="Where pictures are seen.")
    ] = "nothing",
    wait_s: Annotated[float, typer.Option(min=0.0, help="For a gateway that is away or full.")] = 30.0,
    ca_file: Annotated[Path | None, typer.Option(help="Certificates to believe (PEM); default: the system's.")] = None,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but the result.")] = False,
) -> None:
    """Open a session and watch it: to a file, in the terminal or in a browser; steer it meanwhile."""
    with told(), parts_are_there():
        from runtime.cli.client_screen import printable
        from runtime.cli.client_watch import Wish
        from runtime.client import Client, ClientError, NoSessionError, RefusedError
        from runtime.encode.boxes import BadBoxesError

        if bool(session) and token_file is None:
            raise BadInputError.of("--session", "needs --token-file, with the session's token")
        if keep and token_file is None:
            raise BadInputError.of("--keep", "needs --token-file, or else nobody could come back")
        client = Client(url, ca_file=ca_file)
        if output is not None and encoding == "none":
            raise BadInputError.of("-o", "raw chunks cannot be kept: leave -o or --encoding out")
        if seconds is not None and encoding == "none":
            raise BadInputError.of("--seconds", "raw chunks do not say how long they play: use --chunks")
        if show == "browser":
            if output is not None or session:
                raise BadInputError.of("--show browser", "opens a session of its own: leave -o and --session out")
            print(f"{client.url}/")
            webbrowser.open(f"{client.url}/")
            return
        if show == "terminal" and not sys.stderr.isatty():
            raise BadInputError.of("--show terminal", "needs a terminal; here, use -o or --show browser")
        wish = Wish(chunks=chunks, seconds=seconds, paced=not fast, pictures=show == "terminal")
        asked: dict[str, Any] = {
            "prompt": prompt,
            "profile": profile,
            "seed": seed,
            "encoding": encoding,
            "scale": scale,
            "tenant": tenant,
            "patience_s": wait_s,
        }
        visit = _Visit(client, wish, output, token_file, keep=keep, quiet=quiet)
        try:
            code = asyncio.run(visit.run(session, asked, output_format))
        except asyncio.CancelledError:
            raise SystemExit(INTERRUPTED) from None
        except ClientError as error:
            print(printable(str(error)), file=sys.stderr)
            raise SystemExit(BAD_INPUT if isinstance(error, RefusedError | NoSessionError) else FAILED) from None
        except BadBoxesError as error:
            print(f"a chunk cannot be kept: {printable(str(error))}; watch it without -o", file=sys.stderr)
            raise SystemExit(FAILED) from None
    raise SystemExit(code)


class _Visit:
    """From the first question to the last word."""

    def __init__(
        self, client: Client, wish: Wish, output: Path | None, token_file: Path | None, *, keep: bool, quiet: bool
    ) -> None:
        self._client, self._wish, self._output, self._token_file = client, wish, output, token_file
        self._keep, self._quiet = keep, quiet

    async def run(self, session_id: str, asked: dict[str, Any], output_format: str) -> int:
        from runtime.cli.client_file import StreamFile
        from runtime.cli.client_lines import HELP, Lines
        from runtime.cli.client_screen import Screen
        from runtime.cli.client_watch import Watching
        from runtime.client import ReplacedError

        stopping = _stopping()
        with (
            StreamFile(self._output) if self._output is not None else nullcontext() as file,
            Screen(quiet=self._quiet, pictures=self._wish.pictures) as screen,
        ):
            ticket = await self._ticket(session_id, asked, stopping)
            if ticket is None:
                return INTERRUPTED
            screen.say(f"session {ticket.session_id} at {self._client.url}")
            if sys.stdin is not None and sys.stdin.isatty():
                screen.say(HELP)
            try:
                async with self._client.watch(ticket) as video:
                    lines = Lines(sys.stdin.fileno() if sys.stdin is not None else None)
                    watching = Watching(video, self._wish, file, screen, lines)
                    ending = await watching.run(stopping)
            except ReplacedError:
                self._keep = True  # it is another client's now
                raise
            finally:
                if not self._keep and not await self._end(ticket):
                    screen.say("the session could not be ended; it ends when nobody comes back to it")
        felt, paths = watching.felt(), [] if file is None else file.paths
        written = {"files": [str(path) for path in paths], "written": 0 if file is None else file.chunks}
        _print(output_format, {"session_id": ticket.session_id, "ending": ending, **written, **asdict(felt)})
        return self._code(ending, watching, felt)

    async def _ticket(self, session_id: str, asked: dict[str, Any], stopping: asyncio.Event) -> Ticket | None:
        """Of the session to watch; None if somebody stops it before there is one."""
        from runtime.client import Ticket

        if session_id:
            assert self._token_file is not None, "the command has seen to that"
            return Ticket(session_id=session_id, token=_read_token(self._token_file))
        creating = asyncio.create_task(self._client.create(**asked))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({creating, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not creating.done():
            creating.cancel()
            return None
        created = creating.result()
        try:
            if self._token_file is not None:
                _write_token(self._token_file, created.token)
        except OSError:
            await self._end(created)
            raise
        return created

    async def _end(self, ticket: Ticket) -> bool:
        from runtime.client import ClientError

        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(END_S):
                await self._client.end(ticket)
                return True
        return False

    def _code(self, ending: Ending, watching: Watching, felt: Felt) -> int:
        if ending == "interrupted":
            return INTERRUPTED
        wanted = self._wish.chunks is not None or self._wish.seconds is not None
        too_early = ending == "done" and wanted and not watching.ended_by_hand
        return UNSERVED_OR_LATE if too_early or felt.stalls else 0


def _stopping() -> asyncio.Event:
    """Set by the first SIGINT or SIGTERM; the second one leaves everything at once."""
    loop, stopping, whole = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
    assert whole is not None

    def stop() -> None:
        if stopping.is_set():
            whole.cancel()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # in the background there are no lines, and it goes on
    return stopping


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise BadInputError.of(str(path), f"must be a readable text file: {error}") from None
    if not 0 < len(token) <= 256:
        raise BadInputError.of(str(path), f"holds {len(token)} characters; a token has 1 to 256")
    return token


def _write_token(path: Path, token: str) -> None:
    """For its owner's eyes, under a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(token + "\n")
    os.replace(temporary, path)


def _print(output_format: str, summary: dict[str, Any]) -> None:
    if output_format == "json":
        print_json(summary)
        return
    shown = {name: value for name, value in summary.items() if value not in (None, [])}
    print_rows({name: _text(value) for name, value in shown.items()})


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return figure(value) if isinstance(value, int | float) else str(value)
