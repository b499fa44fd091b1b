"""The clients of a trace in the gateway's place: what they want is said to a controller until it is answered.

Decides when something is said again; must never know a worker. It shares the thread and the timers of the swarm.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import zmq

from bench.live_swarm import Swarm
from bench.live_users import Users
from runtime.gateway import messages as gate
from runtime.worker.messages import Text

HERE_S, AGAIN_S = 0.5, 1.0
_TOKEN = bytes(32)


class Clients:
    """`begin` starts the trace's clock."""

    def __init__(self, swarm: Swarm, users: Users, controller: str) -> None:
        self._swarm, self._users = swarm, users
        self.answers: Counter[str] = Counter()
        self.is_ready = False  # as the controller says
        self.created_s: list[float] = []  # from a create to its answer
        self._asked_s: dict[str, float] = {}  # creates without an answer: since when
        self._wanted: dict[str, bool] = {}  # without an answer
        self._ending: set[str] = set()
        self._socket: zmq.Socket[bytes] = swarm.context.socket(zmq.DEALER)
        self._socket.set(zmq.IDENTITY, b"clients")
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, 1 << 16)
        self._socket.connect(controller)
        swarm.listen(self._socket, self.hear)
        self._here(swarm.clock())

    def begin(self, zero_s: float) -> None:
        """Everybody comes, rests, returns and leaves as in the trace, which begins then."""
        for at_s, what, session_id in self._users.changes():
            self._swarm.timers.at(zero_s + at_s, partial(self._change, what, session_id))

    def _here(self, now_s: float) -> None:
        self._say(gate.Here(gateway="clients", since=1, protocol=gate.PROTOCOL, sent_s=now_s))
        self._swarm.timers.at(now_s + HERE_S, self._here)

    def _change(self, what: str, session_id: str, now_s: float) -> None:
        if what == "active":
            first = self._users.by_id[session_id].period < 0
            self._users.begins(session_id, now_s)
            if first:
                self._asked_s[session_id] = now_s
            else:
                self._wanted[session_id] = True
        else:
            self._users.rests(session_id)
            self._wanted[session_id] = False
            if what == "end":
                self._wanted.pop(session_id)
                self._ending.add(session_id)
        self._tell(session_id, now_s)

    def _tell(self, session_id: str, now_s: float) -> None:
        """All that has no answer yet; once more after a while."""
        if session_id in self._asked_s:
            text = Text(profile=self._users.by_id[session_id].profile, seed=1, prompt="")
            self._say(gate.Create(session_id=session_id, tenant="", text=text, token_sha256=_TOKEN))
        elif session_id in self._ending:
            self._say(gate.End(session_id=session_id))
        elif session_id in self._wanted:
            self._say(gate.Want(session_id=session_id, active=self._wanted[session_id]))
        else:
            return
        self._swarm.timers.at(now_s + AGAIN_S, partial(self._tell, session_id))

    def hear(self, now_s: float) -> None:
        """All that has come."""
        while True:
            try:
                message = gate.to_gateway(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            self.answers[type(message).__name__] += 1
            match message:
                case gate.Status():
                    self.is_ready = message.ready
                case gate.Created() if message.session_id in self._asked_s:
                    self.created_s.append(now_s - self._asked_s.pop(message.session_id))
                    self._tell(message.session_id, now_s)
                case gate.Serving():
                    wants = message.where in ("active", "waiting")
                    if self._wanted.get(message.session_id) == wants:
                        del self._wanted[message.session_id]
                case gate.Ended():
                    self._ending.discard(message.session_id)
                case gate.AwaitTaken():
                    self._say(gate.Taken(session_id=message.session_id, lineage=message.lineage, up_to=message.up_to))
                case _:
                    pass

    def _say(self, message: gate.FromGateway) -> None:
        self._socket.send(gate.encoded(message))
