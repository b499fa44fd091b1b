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

from fastapi import Depends, FastAPI, Path, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from runtime.gateway import realtime
from runtime.gateway.bodies import (
    SEED_MAX,
    CreateBody,
    CreatedBody,
    ErrorBody,
    ErrorFact,
    ListedBody,
    RulingBody,
    SessionBody,
    SessionsBody,
    fact_of,
)
from runtime.gateway.desk import Turned
from runtime.gateway.doorway import CREATE_PATH, Doorway, answer_of, headers_of
from runtime.gateway.gateway import Gateway
from runtime.gateway.messages import Answer
from runtime.gateway.page import Page, page
from runtime.gateway.session import Session
from runtime.gateway.tokens import Scope
from runtime.worker.messages import Text

PAGE_MAX = 1000
_BEARER = HTTPBearer(auto_error=False, description="The token of the session, or the operator's.")
_Token = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
_SessionId = Annotated[str, Path(min_length=1, max_length=256)]
_Version = Annotated[int, Path(ge=0, le=2**63 - 1)]
_Page = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Sessions at most.")]
_PLAIN = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class _Refusal(Exception):  # noqa: N818 - an answer as good as any other
    """An answer that is no success."""

    def __init__(self, status: int, fact: ErrorFact) -> None:
        super().__init__(fact.message)
        self.status, self.fact = status, fact


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
    _add_operator(app, gateway)
    _add_health(app, gateway)
    _add_page(app, "/", page("watch", "Epochal"))
    _add_page(app, "/docs", page("docs", "What can be asked of this gateway"))
    return app


def _tell_errors(app: FastAPI) -> None:
    @app.exception_handler(_Refusal)
    async def refused(_request: Request, refusal: _Refusal) -> Response:
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
    return JSONResponse(body, status, {**_PLAIN, **headers_of(fact), **(headers or {})})


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
            raise _Refusal(*answer_of(made))
        session, token = made
        response.status_code = 202 if session.position else 201
        response.headers.update(_PLAIN)
        return CreatedBody(
            session_id=session.session_id,
            token=token,
            state=session.where,
            position=session.position,
            seed=seed,
        )

    @app.get(CREATE_PATH + "/{session_id}", responses={503: {"model": ErrorBody}})
    async def show(session_id: _SessionId, token: _Token, response: Response) -> SessionBody:
        """Where the session is."""
        session = _found(gateway, session_id, token, "control")
        response.headers.update(_PLAIN)
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
    async def end(session_id: _SessionId, token: _Token) -> Response:
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


def _found(gateway: Gateway, session_id: str, token: _Token, scope: Scope) -> Session:
    session = gateway.found(session_id, None if token is None else token.credentials, scope)
    if session is not None:
        return session
    if not gateway.desk.is_complete:
        turned = Turned(refusal="not now", reason="the gateway has just begun", retry_after_s=1.0)
        raise _Refusal(*answer_of(turned))
    raise _Refusal(404, realtime.NO_SESSION)


def _add_operator(app: FastAPI, gateway: Gateway) -> None:
    def admin(token: _Token) -> None:
        if not gateway.is_admin(None if token is None else token.credentials):
            fix = "send the operator's token as a bearer, and start the gateway with --admin-token-file"
            raise _Refusal(404, ErrorFact(code="not_found", message="there is nothing for you here", fix=fix))

    answers: dict[str, Any] = {
        "dependencies": [Depends(admin)],
        "response_class": Response,
        "responses": {503: {"model": ErrorBody}},
    }
    rules = answers | {"responses": {200: {"model": RulingBody}, 409: {"model": ErrorBody}, 503: {"model": ErrorBody}}}

    @app.get("/v1/plans/current", **answers)
    async def current() -> Response:
        """The newest plan that asks for anything, with what has become of it and which plan waits for approval."""
        return _answered(await gateway.ask("plan"))

    @app.get("/v1/plans/{version}", **answers)
    async def of_version(version: _Version) -> Response:
        """One of the last plans."""
        return _answered(await gateway.ask("plan", version))

    @app.get("/v1/plans/{version}/explain", **answers)
    async def explain(version: _Version, session: Annotated[str, Query(min_length=1, max_length=256)]) -> Response:
        """Why a session moves or stays in a plan."""
        return _answered(await gateway.ask("explain", version, session))

    @app.post("/v1/plans/{version}/approve", **rules)
    async def approve(version: _Version) -> Response:
        """Carry out the plan that waits for approval. 409: another one waits, or none; said again, nothing follows."""
        return _answered(await gateway.ask("approve", version), refused=409)

    @app.post("/v1/plans/{version}/reject", **rules)
    async def reject(version: _Version) -> Response:
        """Do not carry out the plan that waits for approval; one that asks for the same is not proposed again."""
        return _answered(await gateway.ask("reject", version), refused=409)

    @app.get(CREATE_PATH, dependencies=[Depends(admin)])
    async def listed(
        response: Response, after: Annotated[str, Query(max_length=256)] = "", limit: _Page = 100
    ) -> SessionsBody:
        """Sessions, where they are and how they are, page by page."""
        response.headers.update(_PLAIN)
        page = gateway.desk.page(after, limit)
        return SessionsBody(
            sessions=[_listed(session) for session in page],
            after=page[-1].session_id if len(page) == limit else None,
        )


def _listed(session: Session) -> ListedBody:
    serving = session.serving
    return ListedBody(
        session_id=session.session_id,
        profile=session.text.profile,
        state=session.where,
        worker=None if serving is None or not serving.worker else serving.worker,
        position=session.position,
        attached=session.client is not None,
        lineage=session.stream.lineage,
        next_seq=session.stream.next_seq,
    )


def _answered(answer: Answer | Turned, refused: int = 503) -> Response:
    if isinstance(answer, Turned):
        raise _Refusal(*answer_of(answer))
    if answer.refused:
        code = "conflict" if refused == 409 else "unavailable"
        raise _Refusal(refused, ErrorFact(code=code, message=answer.refused, fix="read /v1/plans/current"))
    if answer.body is None:
        message = "there is no such plan, or that session was not there when it was made"
        raise _Refusal(404, ErrorFact(code="not_found", message=message, fix="read /v1/plans/current"))
    return Response(answer.body, media_type="application/json", headers=_PLAIN)


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
            raise _Refusal(*answer_of(Turned(refusal="not now", reason=reason, retry_after_s=1.0)))
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
