"""What both sides of a migration say, as steps of the table.

Decides how a state machine's words become the worker's; must never know which side speaks.
"""

from __future__ import annotations

from runtime.transfer.attempt import SendRound, StopLane, Tell
from runtime.transfer.messages import Activate, AttemptFailed, MigrationReport, Reactivate, Release, Side, Start
from runtime.worker.events import Action, Say

Steps = tuple[Action, ...]


def told(steps: tuple[SendRound | StopLane | Tell, ...]) -> Steps:
    """What an attempt wants done and said."""
    return tuple(Say(report=step.report) if isinstance(step, Tell) else step for step in steps)


def say(report: MigrationReport) -> Steps:
    return (Say(report=report),)


def cannot(command: Start | Activate | Release | Reactivate, side: Side, reason: str) -> Steps:
    """The command has no effect, and why."""
    failed = AttemptFailed(
        session_id=command.session_id, attempt=command.attempt, side=side, frozen=False, reason=reason
    )
    return say(failed)
