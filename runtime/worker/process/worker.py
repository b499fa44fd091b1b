"""One worker process: threads, sockets and memories put together, and taken apart again.

Decides in which order they begin and end; must never know what any of them decides.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import Literal

from runtime.chunk_models.chunk_model import ChunkModel
from runtime.state.arena import Arena
from runtime.state.copying import copies_for
from runtime.state.ranges import round_up
from runtime.transfer.gloo import gloo_way
from runtime.transfer.lanes import Lanes, LaneSettings
from runtime.transfer.messages import Way
from runtime.transfer.pair_transport import PairWay
from runtime.transfer.tcp import TcpWay
from runtime.transfer.ways import Approach
from runtime.worker.messages import Report, StreamReport, Undelivered
from runtime.worker.process.compute import Compute
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.delivery import Delivery
from runtime.worker.process.hands import Hands, Parts
from runtime.worker.process.hearing import Hearing
from runtime.worker.process.inbox import Inbox
from runtime.worker.process.lease import Lease
from runtime.worker.process.messages import (
    PROTOCOL,
    Delivered,
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    Memory,
    ProfileRoom,
    Said,
    Told,
)
from runtime.worker.process.outbox import ChunkKey, Outbox
from runtime.worker.process.passes import Passes
from runtime.worker.process.seats import Seats
from runtime.worker.process.sockets import SocketThread, Waker
from runtime.worker.sessions import SessionTable

ExitCode = Literal[0, 1]
FLUSH_S = 2.0  # for what is still to be sent
STUCK_S = 10.0  # for a pass, beyond the time for draining


class Worker:
    """One incarnation. `model` is loaded and warm; no arena is bound to it yet."""

    def __init__(self, config: WorkerConfig, model: ChunkModel, lane_settings: LaneSettings | None = None) -> None:
        self._config, self._model = config, model
        self._device, self._host = Arena(config.device_bytes, config.device), Arena(config.host_bytes)
        model.bind(self._device.memory)
        self._pairs: dict[Way, PairWay] = {}
        self._ways = self._make_ways()
        self._waker = Waker()
        self._inbox = Inbox(self._waker.wake)
        self._outbox = Outbox(self._waker.wake, self._inbox.wake)
        self._ended = threading.Event()  # asked to, or because something has gone wrong
        self._failures: list[BaseException] = []
        self._parts = self._make_parts(lane_settings or LaneSettings(lanes_max=config.lanes_max))
        hands = Hands(self._parts)
        self._hearing = Hearing(self._parts, hands, Lease(length_s=config.lease_s), config.sessions_max, self._tell_all)
        self._compute = Compute(self._parts, hands, self._hearing, self._inbox, self._outbox, drain_s=config.drain_s)
        self._sockets = SocketThread(config, self._inbox, self._outbox, self._waker, self._heartbeat, self._over)

    def stop(self) -> None:
        """From a signal, or any thread: finish what is in progress and end."""
        self._ended.set()

    def run(self) -> ExitCode:
        """Until it is stopped or a thread has failed; 1 if one has."""
        self._outbox.say(self._hello(time.monotonic()))
        thread = threading.Thread(target=self._run_compute, name="compute", daemon=True)
        thread.start()
        self._sockets.start()
        self._ended.wait()
        self._compute.stop()
        thread.join(self._config.drain_s + STUCK_S)
        if thread.is_alive():
            self._failures.append(TimeoutError(f"a pass does not end within {STUCK_S:g} s"))
        self._parts.delivery.close(self._config.drain_s)
        reason = "stopped" if not self._failures else f"failed: {self._failures[0]}"
        name, incarnation = self._config.name, self._config.incarnation
        failed = bool(self._failures)
        self._outbox.say(Goodbye(worker=name, incarnation=incarnation, reason=reason[:1024], failed=failed))
        self._sockets.stop(FLUSH_S)
        self._parts.lanes.close()
        self._parts.copies.close()
        for way in self._pairs.values():
            way.pairs.close()
        self._waker.close()
        for failure in self._failures:
            traceback.print_exception(failure, file=sys.stderr)
        return 1 if self._failures else 0

    def _run_compute(self) -> None:
        failure: BaseException | None = None
        try:
            self._compute.run()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost loop
            failure = error
        self._over(failure)

    def _over(self, failure: BaseException | None) -> None:
        if failure is not None:
            self._failures.append(failure)
        self._ended.set()

    def _make_ways(self) -> dict[Way, Approach]:
        config = self._config
        ways: dict[Way, Approach] = {"tcp": TcpWay(config.states_host)}
        cuda = self._device.device.type == "cuda"
        if cuda:
            from runtime.transfer.cuda_ipc import CudaIpcWay

            ways["cuda-ipc"] = CudaIpcWay()
        if config.store is not None and cuda:
            from runtime.transfer.nccl import nccl_way

            device, rendezvous_s = self._device.device, config.rendezvous_s
            self._pairs["nccl"] = nccl_way(config.name, config.store, device, rendezvous_s=rendezvous_s)
        elif config.store is not None:
            self._pairs["gloo"] = gloo_way(config.name, config.store, rendezvous_s=config.rendezvous_s)
        return ways | dict(self._pairs)

    def _make_parts(self, lane_settings: LaneSettings) -> Parts:
        config = self._config
        table = SessionTable(
            self._device.blocks,
            self._host.blocks,
            incarnation=config.incarnation,
            rule=config.rule,
            lanes_max=config.lanes_max,
        )
        seats = Seats(config.coalesce_max)
        return Parts(
            table=table,
            seats=seats,
            model=self._model,
            passes=Passes(self._model),
            device=self._device,
            host=self._host,
            lanes=Lanes(self._device, self._ways, self._inbox.tell, seats.head_of, lane_settings),
            copies=copies_for(self._device.device, config.copies_max),
            delivery=Delivery(self._outbox, self._undelivered, self._named, config.encode),
            say=self._say,
            tell=self._tell,
        )

    def _say(self, report: Report) -> None:
        """Any thread."""
        said = Said(
            worker=self._config.name,
            incarnation=self._config.incarnation,
            controller_epoch=self._parts.table.controller_epoch,
            report=report,
        )
        self._outbox.say(said)

    def _tell(self, report: StreamReport) -> None:
        """Any thread."""
        told = Told(
            worker=self._config.name,
            incarnation=self._config.incarnation,
            controller_epoch=self._parts.table.controller_epoch,
            report=report,
        )
        self._outbox.tell(told)

    def _undelivered(self, report: Undelivered) -> None:
        """Any thread. One has to open the session anew, the other has waited for these chunks."""
        self._say(report)
        self._tell(report)

    def _named(self, key: ChunkKey, ownership: int) -> Delivered:
        session_id, lineage, number = key
        return Delivered(
            worker=self._config.name,
            incarnation=self._config.incarnation,
            controller_epoch=self._parts.table.controller_epoch,
            session_id=session_id,
            ownership=ownership,
            lineage=lineage,
            number=number,
            encoding="none",
            body=b"",
        )

    def _hello(self, now_s: float) -> Hello:
        config, model = self._config, self._model
        return Hello(
            protocol=PROTOCOL,
            worker=config.name,
            incarnation=config.incarnation,
            revision=model.revision,
            profiles=tuple(
                ProfileRoom(
                    name=one.name,
                    state_bytes=one.state_bytes,
                    chunk_s=one.chunk_s,
                    sessions_max=self._device.blocks.total_bytes // round_up(one.state_bytes),
                )
                for one in model.profiles.values()
            ),
            device_bytes=self._device.blocks.total_bytes,
            host_bytes=self._host.blocks.total_bytes,
            coalesce_max=config.coalesce_max,
            ways=tuple(self._ways),
            sent_s=now_s,
        )

    def _heartbeat(self, now_s: float, dropped: int) -> Heartbeat:
        """In the thread of the sockets."""
        pulse = self._compute.pulse
        return Heartbeat(
            worker=self._config.name,
            incarnation=self._config.incarnation,
            controller_epoch=pulse.controller_epoch,
            sent_s=now_s,
            turn=pulse.turn,
            turn_age_s=max(0.0, now_s - pulse.begun_s),
            leased=pulse.leased,
            dropped=dropped,
            chunks=pulse.chunks,
            computed=self._compute.meter.take(),
        )

    def _tell_all(self, question: int) -> None:
        now_s = time.monotonic()
        inventory = Inventory(
            question=question,
            controller_epoch=self._parts.table.controller_epoch,
            hello=self._hello(now_s),
            leased=self._hearing.lease.holds(now_s),
            lanes=self._parts.table.lanes,
            device=Memory.of(self._device.blocks.room),
            host=Memory.of(self._host.blocks.room),
            sessions=self._hearing.held(),
        )
        self._outbox.say(inventory)
