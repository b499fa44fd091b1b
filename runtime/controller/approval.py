"""Which plans are carried out: all of them, what an operator has approved, or none.

Decides what becomes of each plan; must never know how one is carried out, nor whether it succeeds.

With `approve`, two things go without asking, because users wait for the first and the second has been approved
already: a session that waits enters a GPU that the plan asks nobody to leave, and a GPU that drains is switched off
when it is empty. The rest of a plan of an epoch is proposed. Of plans between epochs the rest is left out: the next
epoch's plan says it again if it is still wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from runtime.gateway.messages import Mode
from scheduler.cluster import Gpu, GpuId
from scheduler.gpu_decision import STEADY
from scheduler.plan import GpuAim, Move, Plan

State = Literal["proposed", "executing", "superseded", "rejected"]
Extent = Literal["all", "entries", "nothing"]
Verb = Literal["approve", "reject"]
PLANS_KEPT = 64
_ENTERS = ("place", "resume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Of a plan: moves, and the GPUs that are to become something else than they are."""

    moves: tuple[Move, ...] = ()
    aims: Mapping[GpuId, GpuAim] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.moves and not self.aims


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What has become of a plan, and how much of it was carried out."""

    version: int
    state: State
    carried_out: Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The answer to an operator. `refused`: why nothing follows. `plan`: to be carried out now."""

    refused: str = ""
    plan: Plan | None = None


class Approval:
    """Versions grow from plan to plan."""

    def __init__(self, mode: Mode) -> None:
        self.mode: Mode = mode
        self._standings: dict[int, Standing] = {}  # the newest last
        self._pending: Plan | None = None
        self._rest = Part()  # what the last proposal asks for; empty once it was approved

    def copy(self) -> Approval:
        """What is decided on it is forgotten with it."""
        copied = Approval(self.mode)
        copied._standings, copied._pending, copied._rest = dict(self._standings), self._pending, self._rest
        return copied

    @property
    def standings(self) -> Mapping[int, Standing]:
        """By version; those of the last plans that asked for anything."""
        return self._standings

    @property
    def proposal(self) -> int | None:
        """The version that waits for an operator."""
        return None if self.mode != "approve" or self._pending is None else self._pending.version

    def at_once(self, plan: Plan, gpus: Mapping[GpuId, Gpu]) -> Part:
        """What of a plan nobody is asked about."""
        match self.mode:
            case "execute":
                return Part(moves=plan.moves, aims=plan.gpus)
            case "approve":
                left = {move.source for move in plan.moves}
                enters = tuple(move for move in plan.moves if move.kind in _ENTERS and move.target not in left)
                empty: dict[GpuId, GpuAim] = {
                    name: "stop" for name, aim in plan.gpus.items() if aim == "stop" and gpus[name].status == "draining"
                }
                return Part(moves=enters, aims=empty)
            case "advise":
                return Part()

    def planned(self, plan: Plan, gpus: Mapping[GpuId, Gpu], *, early: bool, busy: bool) -> bool:
        """A new plan; whether it counts, so that its version was used.

        `busy`: an approved plan has moves that are still to begin, so that no other is proposed.
        """
        goes = self.at_once(plan, gpus)
        changes = {name: aim for name, aim in plan.gpus.items() if aim != STEADY[gpus[name].status]}
        if self.mode == "execute":
            if plan.moves or changes:
                self._note(plan.version, "executing", "all")
            return True
        going = {move.session_id for move in goes.moves}
        rest = Part(
            moves=tuple(move for move in plan.moves if move.session_id not in going),
            aims={name: aim for name, aim in changes.items() if name not in goes.aims},
        )
        extent: Extent = "nothing" if goes.is_empty else "entries"
        if not early and not busy and rest != self._rest:  # one that asks for the same leaves the proposal as it is
            self._supersede()
            self._rest = rest
            if not rest.is_empty:
                self._pending = plan
                self._note(plan.version, "proposed", extent)
                return True
        if goes.is_empty:
            return False
        self._note(plan.version, "executing", extent)
        return True

    def rule(self, version: int, verb: Verb) -> Ruling:
        """What an operator says of a plan; said again, it is answered again."""
        if self.mode != "approve":
            return Ruling(refused=f"plans are not approved: the controller's mode is {self.mode}")
        standing = self._standings.get(version)
        if standing is not None and _is_so(standing, verb):
            return Ruling()
        if self._pending is None or version != self._pending.version:
            state = "not among the last plans" if standing is None else standing.state
            now = "none waits for approval" if self._pending is None else f"{self._pending.version} waits for approval"
            return Ruling(refused=f"plan {version} is {state}; {now}")
        plan, self._pending = self._pending, None
        if verb == "reject":
            self._standings[version] = replace(self._standings[version], state="rejected")
            return Ruling()
        self._rest = Part()
        self._note(version, "executing", "all")
        return Ruling(plan=plan)

    def _note(self, version: int, state: State, extent: Extent) -> None:
        """What is carried out takes the place of what was; entries only that of entries."""
        for other in self._standings.values():
            if state == other.state == "executing" and (extent == "all" or other.carried_out == extent):
                self._standings[other.version] = replace(other, state="superseded")
        self._standings[version] = Standing(version=version, state=state, carried_out=extent)
        over = [old for old, of in self._standings.items() if of.state in ("superseded", "rejected")]
        for old in over[: max(0, len(self._standings) - PLANS_KEPT)]:
            del self._standings[old]

    def _supersede(self) -> None:
        if self._pending is not None:
            version = self._pending.version
            self._standings[version] = replace(self._standings[version], state="superseded")
        self._pending = None


def _is_so(standing: Standing, verb: Verb) -> bool:
    return standing.carried_out == "all" if verb == "approve" else standing.state == "rejected"
