"""An operator who approves and rejects plans at random, and sees that nothing begins which nobody has approved.

Decides what is approved; must never know why something was planned.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from runtime.controller.controller import Controller, Happening, Planned
from runtime.controller.step import Step
from runtime.gateway import messages as gate
from scheduler.cluster import GpuId
from scheduler.plan import Move, Plan


class Operator:
    """Of a controller in mode approve. `always`: approves whatever is proposed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self.always = chance, False
        self._questions = 0
        self._proposed: dict[int, Plan] = {}
        self._approved = set[int]()
        self._begun = set[Move]()

    def begun(self) -> None:
        """Another controller: versions may come again, and mean other plans."""
        self._proposed.clear()
        self._approved.clear()
        self._begun.clear()

    def says(self, status: gate.Status | None) -> gate.Ask | None:
        """A word about what is proposed, or about what was proposed before."""
        proposal = None if status is None else status.proposal
        if proposal is None or self._chance.random() >= 0.2:
            return None
        version = proposal if self.always else self._chance.choice([proposal, *self._proposed])
        about: gate.About = "approve" if self.always or self._chance.random() < 0.7 else "reject"
        if about == "approve":
            self._approved.add(version)
        self._questions += 1
        return gate.Ask(question=self._questions, about=about, version=version)

    def took(self, controller: Controller, heard: Sequence[Happening], steps: Sequence[Step]) -> None:
        """Who is served moves, and GPUs are switched, only where somebody has said so."""
        plans = [self._proposed[version] for version in self._approved if version in self._proposed]
        begun = {flight.move for flight in controller._execution.flights}
        for move in begun - self._begun:
            enters, leaves_a_draining_gpu = move.kind in ("place", "resume"), move.reason == "drain"
            assert enters or leaves_a_draining_gpu or any(move in plan.moves for plan in plans), f"unasked: {move}"
        self._begun = begun
        for switch in (switch for step in steps for switch in step.switches):
            if switch.at_once:
                continue  # of a worker that was lost: nobody has to be asked
            aims = {plan.gpus[GpuId(switch.worker)] for plan in plans}
            assert aims & ({"start"} if switch.on else {"stop", "drain"}), f"unasked: {switch}"
        for happening in heard:
            if isinstance(happening, Planned) and happening.decision.plan.version == controller.approval.proposal:
                self._proposed.setdefault(happening.decision.plan.version, happening.decision.plan)
