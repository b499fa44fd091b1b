"""States between two workers of one node with CUDA: the target maps the source's memory and copies from it.

Decides how memory is named across processes and when the source may write to it again; must never know a controller.
Written after torch's own sharing of tensors; not run and not measured yet.

Notes and turns travel over TCP. For each list of ranges the source says that they may be read, the target copies device
to device on a stream of its own, and answers when the copies have ended.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor

from runtime.state.arena import part
from runtime.state.copying import wait_event
from runtime.state.ranges import Ranges, cut
from runtime.transfer.greeting import Listener, connect
from runtime.transfer.messages import Route
from runtime.transfer.tcp import TcpTransport
from runtime.transfer.transport import PART_BYTES, PartDone, TransferError, Transport
from runtime.transfer.wire import DONE, NOTE, Patience, Wire

_HANDLE = Annotated[bytes, msgspec.Meta(max_length=1024)]


class DeviceMemory(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One allocation of another process, as torch's storages name it, and where the block begins in it."""

    device_uuid: Annotated[str, msgspec.Meta(max_length=64)]
    handle: _HANDLE
    size_bytes: int
    offset_bytes: int
    ref_counter_handle: _HANDLE
    ref_counter_offset: int
    event_handle: _HANDLE
    event_sync_required: bool
    block_start: int


_DECODER = msgspec.msgpack.Decoder(DeviceMemory)


class CudaIpcTransport(TcpTransport):
    """Notes as over TCP; ranges are not sent but read by the target."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._named = False
        self._theirs: Tensor | None = None
        self._stream: torch.cuda.Stream | None = None

    def send(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None:
        if not self._named:
            self._wire.send_frame(NOTE, msgspec.msgpack.encode(_name(memory)), end_s)
            self._named = True
        _finish(torch.cuda.current_stream(memory.device), self._wire.patience, end_s)
        self._wire.send_frame(DONE, b"", end_s)
        for span in cut(ranges, PART_BYTES):
            part_done(span)
        self._wire.receive_frame(DONE, end_s)

    def receive(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None:
        if self._theirs is None:
            self._theirs = _open(self._wire.receive_frame(NOTE, end_s), memory)
            self._stream = torch.cuda.Stream(memory.device)
        stream = self._stream
        assert stream is not None
        self._wire.receive_frame(DONE, end_s)
        stream.wait_stream(torch.cuda.current_stream(memory.device))
        with torch.cuda.stream(stream):
            for span in cut(ranges, PART_BYTES):
                part(memory, span).copy_(part(self._theirs, span), non_blocking=True)
                part_done(span)
        _finish(stream, self._wire.patience, end_s)
        self._wire.send_frame(DONE, b"", end_s)

    def close(self, *, finished: bool) -> None:
        if self._stream is not None:
            self._stream.synchronize()  # copies that a failure has left behind
        self._theirs = None
        super().close(finished=finished)


class CudaIpcPosted:
    """A target that waits."""

    def __init__(self, route: Route, patience: Patience) -> None:
        self._listener = Listener("127.0.0.1", patience)  # handles mean nothing beyond the node
        self.route = msgspec.structs.replace(route, address=self._listener.address, token=self._listener.token)

    def accept(self, end_s: float) -> Transport:
        return CudaIpcTransport(self._listener.accept(end_s))

    def close(self) -> None:
        self._listener.close()


class CudaIpcWay:
    """How a worker reaches others on its node."""

    def post(self, route: Route, patience: Patience) -> CudaIpcPosted:
        return CudaIpcPosted(route, patience)

    def connect(self, route: Route, patience: Patience, end_s: float) -> Transport:
        return CudaIpcTransport(connect(route.address, route.token, patience, end_s))


def _name(memory: Tensor) -> DeviceMemory:
    """The allocation that a block lies in; it must live as long as anybody has it mapped, as an arena does."""
    storage: Any = memory.untyped_storage()
    device, handle, size, offset, counter, counter_offset, event, event_sync = storage._share_cuda_()
    return DeviceMemory(
        device_uuid=str(torch.cuda.get_device_properties(device).uuid),
        handle=handle,
        size_bytes=size,
        offset_bytes=offset,
        ref_counter_handle=counter,
        ref_counter_offset=counter_offset,
        event_handle=event,
        event_sync_required=event_sync,
        block_start=int(memory.storage_offset()),
    )


def _open(named: bytes, like: Tensor) -> Tensor:
    try:
        theirs = _DECODER.decode(named)
    except msgspec.MsgspecError as error:
        raise TransferError("malformed", f"no device memory: {error}") from error
    devices = {str(torch.cuda.get_device_properties(at).uuid): at for at in range(torch.cuda.device_count())}
    if theirs.device_uuid not in devices:
        raise TransferError("refused", f"this process does not see the device {theirs.device_uuid}")
    storage = torch.UntypedStorage._new_shared_cuda(
        devices[theirs.device_uuid],
        theirs.handle,
        theirs.size_bytes,
        theirs.offset_bytes,
        theirs.ref_counter_handle,
        theirs.ref_counter_offset,
        theirs.event_handle,
        theirs.event_sync_required,
    )
    whole = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    end = theirs.block_start + like.numel()
    if not 0 <= theirs.block_start <= end <= whole.numel():
        raise TransferError("malformed", f"a block that ends at {end} of {whole.numel()} bytes")
    return whole[theirs.block_start : end]


def _finish(stream: torch.cuda.Stream, patience: Patience, end_s: float) -> None:
    event = torch.cuda.Event()
    event.record(stream)
    if not wait_event(event, max(0.0, patience.until(end_s) - patience.clock())):
        raise TransferError("lost", "the device does not finish its work")
