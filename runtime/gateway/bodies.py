"""What clients send and get as JSON: bodies of HTTP and messages of a WebSocket, with limits on every field.

Decides names, limits and how an error looks; must never know what follows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runtime.gateway.limits import SEQ_MAX
from runtime.gateway.messages import Where
from runtime.gateway.tokens import TOKEN_MAX
from runtime.worker.messages import Encoding

_Prompt = Annotated[str, Field(max_length=4096)]
_Control = Annotated[str, Field(max_length=64)]
_Seq = Annotated[int, Field(ge=0, le=SEQ_MAX)]
SEED_MAX = 2**53 - 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CreateBody(_Strict):
    """A session to be created."""

    profile: Annotated[str, Field(min_length=1, max_length=256, description="Of the fleet's ChunkModel.")]
    prompt: Annotated[_Prompt, Field(description="What it is to show.")]
    seed: Annotated[int | None, Field(ge=0, le=SEED_MAX, description="By default, one is drawn.")] = None
    control: Annotated[_Control, Field(description="The live control that it begins with.")] = ""
    encoding: Annotated[Encoding, Field(description="none: frames as they are, RGB with 8 bits.")] = "h264"
    scale: Annotated[int, Field(ge=1, le=64, description="Each pixel becomes a square of so many.")] = 1
    tenant: Annotated[str, Field(max_length=256, description="On whose behalf; for reports.")] = ""


class CreatedBody(BaseModel):
    """The session is promised: it is there until it ends. Its token is told once, and kept by nobody else."""

    session_id: str
    token: str
    state: Where
    position: Annotated[int, Field(description="How many wait before it.")]
    seed: int


class SessionBody(BaseModel):
    """Where a session is."""

    session_id: str
    state: Where
    position: int
    profile: str
    prompt: Annotated[str, Field(description="That of the newest change which took effect.")]
    encoding: Encoding
    attached: Annotated[bool, Field(description="Whether a client is there.")]
    first_seq: Annotated[int, Field(description="Of the oldest chunk that a client can resume from.")]
    next_seq: Annotated[int, Field(description="Of the next chunk that comes.")]


class ListedBody(BaseModel):
    """One session, for the operator: what it is about stays with its client."""

    session_id: str
    profile: str
    state: Where
    worker: Annotated[str | None, Field(description="Who has its state.")]
    position: Annotated[int, Field(description="How many wait before it.")]
    attached: Annotated[bool, Field(description="Whether a client is there.")]
    lineage: Annotated[int, Field(description="How often it has begun anew.")]
    next_seq: Annotated[int, Field(description="Of the next chunk that comes.")]


class SessionsBody(BaseModel):
    """A page of sessions, in the order of their names."""

    sessions: list[ListedBody]
    after: Annotated[str | None, Field(description="Where the next page begins; null: this was the last.")]


class RulingBody(BaseModel):
    """What has become of a plan."""

    version: int
    state: Literal["proposed", "executing", "superseded", "rejected"]
    carried_out: Annotated[
        Literal["all", "entries", "nothing"],
        Field(description="entries: sessions that waited were let in; the rest of the plan was not carried out."),
    ]


class GpuBody(BaseModel):
    """One GPU of the fleet."""

    gpu_id: str
    gpu_type: str
    status: Literal["off", "starting", "ready", "draining", "lost"]
    withheld: Annotated[bool, Field(description="An operator drains it, or has: no plan uses it.")]
    sessions: Annotated[int, Field(description="Whose states are on it or in its worker's host memory.")]


class ErrorFact(BaseModel):
    """What is wrong, where, and what helps."""

    code: str
    message: str
    field: str | None = None
    fix: str | None = None
    retry_after_s: float | None = None


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorFact


class SessionStart(_Strict):
    """The first message: which session, and from where on."""

    type: Literal["session.start"]
    session_id: Annotated[str, Field(min_length=1, max_length=256)]
    token: Annotated[str, Field(min_length=1, max_length=TOKEN_MAX)]
    from_seq: _Seq | None = None
    acks: bool = False  # the client will say with `session.ack` what it has taken


class SessionUpdate(_Strict):
    """A prompt, a live control, or both."""

    type: Literal["session.update"]
    prompt: _Prompt | None = None
    control: _Control | None = None


class SessionPause(_Strict):
    """No more chunks for now."""

    type: Literal["session.pause"]


class SessionResume(_Strict):
    """Chunks again."""

    type: Literal["session.resume"]


class SessionStop(_Strict):
    """The session is to end."""

    type: Literal["session.stop"]


class SessionAck(_Strict):
    """All chunks below `seq` have been taken."""

    type: Literal["session.ack"]
    seq: _Seq


ClientMessage = Annotated[
    SessionStart | SessionUpdate | SessionPause | SessionResume | SessionStop | SessionAck, Field(discriminator="type")
]
_CLIENT_MESSAGE: TypeAdapter[Any] = TypeAdapter(ClientMessage)


def client_message(
    text: str,
) -> SessionStart | SessionUpdate | SessionPause | SessionResume | SessionStop | SessionAck | ErrorFact:
    """What a client has said; or what is wrong with it."""
    try:
        message = _CLIENT_MESSAGE.validate_json(text)
    except ValidationError as error:
        return fact_of(error.errors(include_url=False, include_input=False, include_context=False))
    assert isinstance(message, SessionStart | SessionUpdate | SessionPause | SessionResume | SessionStop | SessionAck)
    return message


def fact_of(errors: Any) -> ErrorFact:
    """The first finding of pydantic; what was sent is not repeated, since it may be a secret."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if path and path[0].startswith("session."):
        path = path[1:]  # the kind of a message is no field
    field = ".".join(path) or None
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return ErrorFact(
        code="invalid",
        message=f"{first['msg']}{more}",
        field=field,
        fix=_FIXES.get(first["type"], "send what /docs describes"),
    )


_FIXES = {
    "extra_forbidden": "leave this field out",
    "missing": "give this field",
    "json_invalid": "send one JSON object, in UTF-8",
    "string_too_long": "send a shorter text",
    "union_tag_invalid": "use one of the message types that docs/gateway.md names",
    "union_tag_not_found": 'give "type"',
}
