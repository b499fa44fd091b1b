"""What the gateway answers over HTTP, and where its WebSocket is.

Decides paths, statuses and who may read what; must never know ZeroMQ, a worker or a plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from runtime.gateway import realtime
from runtime.gateway.bodies import (
    SEED_MAX,
    CreateBody,
    CreatedBody,
    ErrorBody,
    ErrorFact,
    SessionBody,
    fact_of,
)
from runtime.gateway.desk import Turned
from runtime.gateway.doorway import CREATE_PATH, Doorway, answer_of, headers_of
from runtime.gateway.gateway import Gateway
from runtime.gateway.operators import add_operators
from runtime.gateway.page import Page, page
from runtime.gateway.refusal import PLAIN, Refusal, Token
from runtime.gateway.session import Session
from runtime.gateway.tokens import Scope
from runtime.worker.messages import Text

_SessionId = Annotated[str, Path(min_length=1, max_length=256)]


def make_app(gateway: Gateway) -> FastAPI:
    """Used in the loop where the gateway runs."""
    app = FastAPI(
        title="Epochal",
        summary="Sessions of streaming video that are generated while they are watched.",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        responses={status: {"model": ErrorBody} for status in (400, 404, "4XX")},
    )
    app.add_middleware(Doorway, gateway=gateway)
    _tell_errors(app)
    _add_sessions(app, gateway)
    add_operators(app, gateway)
    _add_health(app, gateway)
    _add_page(app, "/", page("watch", "Epochal"))
    _add_page(app, "/docs", page("docs", "What can be asked of this gateway"))
    return app


def _tell_errors(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(_request: Request, refusal: Refusal) -> Response:
        return _error(refusal.status, refusal.fact)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        return _error(400, fact_of(error.errors()))

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: HTTPException) -> Response:
        codes = {404: "not_found", 405: "not_allowed", 400: "invalid"}
        fact = ErrorFact(code=codes.get(error.status_code, "failed"), message=str(error.detail), fix="see /docs")
        return _error(error.status_code, fact, error.headers)


def _error(status: int, fact: ErrorFact, headers: Mapping[str, str] | None = None) -> Response:
    body = {"error": fact.model_dump(exclude_none=True)}
    return JSONResponse(body, status, {**PLAIN, **headers_of(fact), **(headers or {})})


def _add_sessions(app: FastAPI, gateway: Gateway) -> None:
    busy: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in (413, 429, 503)}

    @app.post(CREATE_PATH, status_code=201, responses={202: {"model": CreatedBody}, **busy})
    async def create(body: CreateBody, response: Response) -> CreatedBody:
        """A new session. 202: it is promised, and waits for its place."""
        seed = secrets.randbelow(SEED_MAX) if body.seed is None else body.seed
        text = Text(
            profile=body.profile,
            seed=seed,
            prompt=body.prompt,
            control=body.control,
            encoding=body.encoding,
            scale=body.scale,
        )
        made = await gateway.create(body.tenant, text)
        if isinstance(made, Turned):
            raise Refusal(*answer_of(made))
        session, token = made
        response.status_code = 202 if session.position else 201
        response.headers.update(PLAIN)
        return CreatedBody(
            session_id=session.session_id,
            token=token,
            state=session.where,
            position=session.position,
            seed=seed,
        )

    @app.get(CREATE_PATH + "/{session_id}", responses={503: {"model": ErrorBody}})
    async def show(session_id: _SessionId, token: Token, response: Response) -> SessionBody:
        """Where the session is."""
        session = _found(gateway, session_id, token, "control")
        response.headers.update(PLAIN)
        return SessionBody(
            session_id=session_id,
            state=session.where,
            position=session.position,
            profile=session.text.profile,
            prompt=session.changes.prompt,
            encoding=session.text.encoding,
            attached=session.client is not None,
            first_seq=session.stream.first_seq,
            next_seq=session.stream.next_seq,
        )

    @app.delete(CREATE_PATH + "/{session_id}", status_code=204, responses={202: {}, 503: {"model": ErrorBody}})
    async def end(session_id: _SessionId, token: Token) -> Response:
        """End the session. 202: that will be done as soon as the controller answers."""
        session = _found(gateway, session_id, token, "control")
        with gateway.waiting(session_id) as touched, contextlib.suppress(TimeoutError):
            session.end()
            gateway.changed(session)
            async with asyncio.timeout(gateway.config.limits.create_wait_s):
                while session.ended is None:
                    await touched.wait()
                    touched.clear()
        return Response(status_code=202 if session.ended is None else 204)

    @app.websocket("/v1/realtime/video")
    async def video(websocket: WebSocket) -> None:
        await realtime.serve(websocket, gateway)


def _found(gateway: Gateway, session_id: str, token: Token, scope: Scope) -> Session:
    session = gateway.found(session_id, None if token is None else token.credentials, scope)
    if session is not None:
        return session
    if not gateway.desk.is_complete:
        turned = Turned(refusal="not now", reason="the gateway has just begun", retry_after_s=1.0)
        raise Refusal(*answer_of(turned))
    raise Refusal(404, realtime.NO_SESSION)


def _add_health(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/ready", responses={503: {"model": ErrorBody}})
    async def ready() -> dict[str, str]:
        """The controller is here and ready, and every session is known."""
        if not gateway.desk.is_ready(gateway.now_s()):
            here = gateway.desk.controller_is_here(gateway.now_s())
            reason = "the controller is not ready" if here else "the controller is away"
            raise Refusal(*answer_of(Turned(refusal="not now", reason=reason, retry_after_s=1.0)))
        return {"status": "ready"}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """How things are; never an error while the process lives."""
        now_s, told = gateway.now_s(), gateway.desk.status
        return {
            "status": "ok" if gateway.desk.is_ready(now_s) else "degraded",
            "controller": "here" if gateway.desk.controller_is_here(now_s) else "away",
            "sessions": len(gateway.desk.sessions),
            "clients": gateway.desk.clients,
            "controller_epoch": None if told is None else told.controller_epoch,
            "mode": None if told is None else told.mode,
            "proposal": None if told is None else told.proposal,
        }

    @app.get("/version")
    async def number() -> dict[str, str]:
        return {"version": _version()}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """As Prometheus reads them."""
        return Response(gateway.scrape(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI, path: str, shown: Page) -> None:
    @app.get(path, include_in_schema=False)
    async def show(request: Request) -> Response:
        return HTMLResponse(shown.text, headers=shown.headers(request.headers.get("host")))


def _version() -> str:
    try:
        return version("epochal")
    except PackageNotFoundError:
        return "unknown"
