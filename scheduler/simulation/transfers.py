"""Moves under way: frozen when their round is over, travelling for the latency of the links, then byte by byte.

Decides when a move that has begun freezes, sends and arrives; must never know why it was planned.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler import events
from scheduler.cluster import GpuId, SessionId
from scheduler.fleet import Fleet
from scheduler.plan import Move
from scheduler.simulation.instants import Agenda
from scheduler.simulation.links import Link, Links, Sending, links_of
from scheduler.simulation.rounds import Rounds
from scheduler.simulation.stage import Stage
from scheduler.sizes import state_bytes


@dataclass(slots=True, kw_only=True)
class Flight:
    """One move that has begun; it changes on its way."""

    number: int  # in the order of begin
    move: Move
    wave: int  # of all waves that ever began
    links: tuple[Link, ...]
    start_us: int
    freeze_us: int | None = None  # None: it did not travel yet
    sending: Sending | None = None
    end_us: int | None = None  # None: in flight
    result: str = ""  # done, failed, cancelled


class Transfers:
    """All moves in flight, one per session, and those that are over."""

    def __init__(self, fleet: Fleet, stage: Stage, rounds: Rounds, session_index: dict[SessionId, int]) -> None:
        self._fleet, self._stage, self._rounds, self._session_index = fleet, stage, rounds, session_index
        self._latency_us = round(1000 * fleet.links.latency_ms)
        self._links = Links(fleet)
        self._flying: dict[SessionId, Flight] = {}
        self._freezes: Agenda[Flight] = Agenda()
        self._sends: Agenda[Flight] = Agenda()
        self._arrivals: Agenda[Flight] = Agenda()
        self.begun: list[Flight] = []
        self.in_wave: dict[int, int] = {}  # wave -> moves of it in flight

    @property
    def next_us(self) -> int:
        return min(self._freezes.next_us, self._sends.next_us, self._arrivals.next_us)

    def begin(self, move: Move, wave: int, now_us: int) -> None:
        """A place ends at once; whoever takes part in a round under way travels when it is over."""
        stage, session = self._stage, self._stage.sessions[move.session_id]
        links = () if move.kind == "place" else links_of(move, stage.gpus, session.node)
        flight = Flight(number=len(self.begun), move=move, wave=wave, links=links, start_us=now_us)
        self.begun.append(flight)
        self._flying[move.session_id] = flight
        self.in_wave[wave] = self.in_wave.get(wave, 0) + 1
        started = events.MoveStarted(session_id=move.session_id, kind=move.kind, source=move.source, target=move.target)
        stage.tell(started, now_us)
        if move.kind == "place":
            flight.freeze_us = now_us
            self._arrive(flight, now_us)
            return
        until_us = None
        if session.gpu is not None:
            index = self._session_index[move.session_id]
            until_us = self._rounds.in_round_until_us(index, stage.gpu_index[session.gpu], now_us)
        if until_us is None:
            self._freeze(flight, now_us)
        else:
            self._freezes.add(until_us, flight, order=flight.number)

    def freeze_due(self, now_us: int) -> None:
        """Rounds that end now let their sessions go."""
        for flight in self._freezes.due(now_us):
            if self._is_flying(flight):
                assert flight.move.source is not None, "who takes part in a round is on a GPU"
                self._rounds.follow(self._stage.gpu_index[flight.move.source], now_us)  # before it joins another's
                self._freeze(flight, now_us)

    def arrive_due(self, now_us: int) -> None:
        """Transfers that end now have arrived, in the order in which they began."""
        for flight in self._sends.due(now_us):
            if self._is_flying(flight):
                self._send(flight, now_us)
        for flight in self._arrivals.due(now_us):
            if self._is_flying(flight) and flight.sending is not None and flight.sending.end_us <= now_us:
                self._arrive(flight, now_us)

    def fail_at(self, gpu: GpuId, now_us: int) -> None:
        """The GPU was lost, and the cluster state knows it."""
        for flight in [f for f in self._flying.values() if gpu in (f.move.source, f.move.target)]:
            self._over(flight, "failed", now_us)
            self._stage.thaw(flight.move.session_id, now_us)

    def cancel(self, session: SessionId, now_us: int) -> None:
        """The session has closed, and the cluster state knows it."""
        flight = self._flying.get(session)
        if flight is not None:
            self._over(flight, "cancelled", now_us)
            self._stage.thaw(session, now_us)

    def settle(self, now_us: int) -> None:
        """After everything that happens at an instant: links are shared anew."""
        for sending in self._links.settle(now_us):
            self._arrivals.add(sending.end_us, self.begun[sending.number], order=sending.number)

    def finish(self, now_us: int) -> None:
        """The run is over."""
        for flight in list(self._flying.values()):
            self._over(flight, "cancelled", now_us)

    def _is_flying(self, flight: Flight) -> bool:
        return flight.end_us is None

    def _freeze(self, flight: Flight, now_us: int) -> None:
        flight.freeze_us = now_us
        self._stage.freeze(flight.move.session_id, now_us)
        if self._latency_us:
            self._sends.add(now_us + self._latency_us, flight, order=flight.number)
        else:
            self._send(flight, now_us)

    def _send(self, flight: Flight, now_us: int) -> None:
        profile = self._stage.sessions[flight.move.session_id].profile
        size = state_bytes(self._fleet, profile)
        if not size:
            self._arrive(flight, now_us)
            return
        flight.sending = Sending(number=flight.number, links=flight.links, bytes_left=size, since_us=now_us)
        self._links.begin(flight.sending)

    def _arrive(self, flight: Flight, now_us: int) -> None:
        self._over(flight, "done", now_us)
        self._stage.frozen.discard(flight.move.session_id)
        self._stage.tell(events.MoveEnded(session_id=flight.move.session_id), now_us)

    def _over(self, flight: Flight, result: str, now_us: int) -> None:
        flight.end_us, flight.result = now_us, result
        del self._flying[flight.move.session_id]
        self.in_wave[flight.wave] -= 1
        if not self.in_wave[flight.wave]:
            del self.in_wave[flight.wave]
        if flight.sending is not None:
            self._links.end(flight.sending)
            flight.sending = None
