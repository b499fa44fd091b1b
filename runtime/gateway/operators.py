"""What an operator asks of the gateway, and has done: plans, GPUs, the list of sessions.

Decides paths and answers; must never know how a plan is carried out or a GPU emptied.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query
from fastapi.responses import Response

from runtime.gateway.bodies import ErrorBody, ErrorFact, GpuBody, ListedBody, RulingBody, SessionsBody
from runtime.gateway.desk import Turned
from runtime.gateway.doorway import CREATE_PATH, answer_of
from runtime.gateway.gateway import Gateway
from runtime.gateway.messages import Answer
from runtime.gateway.refusal import PLAIN, Refusal, Token
from runtime.gateway.session import Session

PAGE_MAX = 1000
_Version = Annotated[int, Path(ge=0, le=2**63 - 1)]
_GpuId = Annotated[str, Path(min_length=1, max_length=256)]
_Page = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Sessions at most.")]
_PAGES = {"plan": "plans/current", "gpu": "gpus"}
_MISSING = {
    "plan": "there is no such plan, or that session was not there when it was made",
    "gpu": "the fleet has no such GPU",
}


def add_operators(app: FastAPI, gateway: Gateway) -> None:
    """Whoever has no operator's token is told that there is nothing."""

    def admin(token: Token) -> None:
        if not gateway.is_admin(None if token is None else token.credentials):
            fix = "send the operator's token as a bearer, and start the gateway with --admin-token-file"
            raise Refusal(404, ErrorFact(code="not_found", message="there is nothing for you here", fix=fix))

    def answers(model: Any = None, *errors: int) -> dict[str, Any]:
        said: dict[int, Any] = {status: {"model": ErrorBody} for status in (*errors, 503)}
        responses = said if model is None else {200: {"model": model}, **said}
        return {"dependencies": [Depends(admin)], "response_class": Response, "responses": responses}

    @app.get("/v1/plans/current", **answers())
    async def current() -> Response:
        """The newest plan that asks for anything, with what has become of it and which plan waits for approval."""
        return _answered(await gateway.ask("plan"))

    @app.get("/v1/plans/{version}", **answers())
    async def of_version(version: _Version) -> Response:
        """One of the last plans."""
        return _answered(await gateway.ask("plan", version))

    @app.get("/v1/plans/{version}/explain", **answers())
    async def explain(version: _Version, session: Annotated[str, Query(min_length=1, max_length=256)]) -> Response:
        """Why a session moves or stays in a plan."""
        return _answered(await gateway.ask("explain", version, session_id=session))

    @app.post("/v1/plans/{version}/approve", **answers(RulingBody, 409))
    async def approve(version: _Version) -> Response:
        """Carry out the plan that waits for approval. 409: another one waits, or none; said again, nothing follows."""
        return _answered(await gateway.ask("approve", version), refused=409)

    @app.post("/v1/plans/{version}/reject", **answers(RulingBody, 409))
    async def reject(version: _Version) -> Response:
        """Do not carry out the plan that waits for approval; one that asks for the same is not proposed again."""
        return _answered(await gateway.ask("reject", version), refused=409)

    @app.get("/v1/gpus", **answers(list[GpuBody]))
    async def gpus() -> Response:
        """The GPUs of the fleet, how they are, and how many sessions' states each holds."""
        return _answered(await gateway.ask("gpus"))

    @app.post("/v1/gpus/{gpu_id}/drain", **answers(GpuBody, 404, 409))
    async def drain(gpu_id: _GpuId) -> Response:
        """Empty a GPU and switch it off; no plan uses it until it is given back. Said again, nothing follows."""
        return _answered(await gateway.ask("drain", gpu_id=gpu_id), refused=409, what="gpu")

    @app.post("/v1/gpus/{gpu_id}/give-back", **answers(GpuBody, 404, 409))
    async def give_back(gpu_id: _GpuId) -> Response:
        """Plans may use the GPU again. Said again, nothing follows."""
        return _answered(await gateway.ask("give back", gpu_id=gpu_id), refused=409, what="gpu")

    @app.get(CREATE_PATH, dependencies=[Depends(admin)])
    async def listed(
        response: Response, after: Annotated[str, Query(max_length=256)] = "", limit: _Page = 100
    ) -> SessionsBody:
        """Sessions, where they are and how they are, page by page."""
        response.headers.update(PLAIN)
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


def _answered(answer: Answer | Turned, *, refused: int = 503, what: str = "plan") -> Response:
    fix = f"read /v1/{_PAGES[what]}"
    if isinstance(answer, Turned):
        raise Refusal(*answer_of(answer))
    if answer.refused:
        code = "conflict" if refused == 409 else "unavailable"
        raise Refusal(refused, ErrorFact(code=code, message=answer.refused, fix=fix))
    if answer.body is None:
        raise Refusal(404, ErrorFact(code="not_found", message=_MISSING[what], fix=fix))
    return Response(answer.body, media_type="application/json", headers=PLAIN)
