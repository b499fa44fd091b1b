"""A client of a gateway: sessions over HTTP, and their streams over WebSocket."""

from runtime.client.client import Client
from runtime.client.errors import (
    BrokenStreamError,
    BusyError,
    ClientError,
    Fault,
    NoSessionError,
    RefusedError,
    ReplacedError,
    UnreachableError,
)
from runtime.client.experience import Experience, Felt
from runtime.client.messages import Chunk, Created, Done, Lost, Picture, SessionInfo, Started, State, Ticket, Updated
from runtime.client.retries import Retries
from runtime.client.video import Video

__all__ = [
    "BrokenStreamError",
    "BusyError",
    "Chunk",
    "Client",
    "ClientError",
    "Created",
    "Done",
    "Experience",
    "Fault",
    "Felt",
    "Lost",
    "NoSessionError",
    "Picture",
    "RefusedError",
    "ReplacedError",
    "Retries",
    "SessionInfo",
    "Started",
    "State",
    "Ticket",
    "UnreachableError",
    "Updated",
    "Video",
]
