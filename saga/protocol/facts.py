"""What participants tell each other about a workflow: facts, and who must hear them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from saga.protocol.definition import Definition


class FactStatus(StrEnum):
    """What a fact says of its step.

    `ABORT` is a wish to unwind, `REFUSED` the answer that the pivot is already done. A `NOTE` says nothing that anybody acts
    on: nobody is its audience.
    """

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    COMPENSATED = "compensated"
    STUCK = "stuck"
    ABORT = "abort"
    REFUSED = "refused"
    NOTE = "note"


class StepStatus(StrEnum):
    """Where a step stands in its owner's store."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    STUCK = "stuck"


class WorkflowStatus(StrEnum):
    """Where a workflow stands; `FAILED` means unwinding."""

    ACCEPTED = "accepted"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPENSATED = "compensated"


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement about one step of a workflow; `event` is the Avro full name of the event emitted by a done step."""

    step: str
    status: FactStatus
    event: str | None = None


@lru_cache(maxsize=4096)
def stated(step: str, status: FactStatus, type: str) -> Fact:
    """The fact that a record of this type states; only a done step's event is part of it."""
    return Fact(step, status, type if status is FactStatus.DONE else None)


REPORTS = frozenset({FactStatus.SKIPPED, FactStatus.FAILED, FactStatus.COMPENSATED})
"""With these a step reports, to those before it, that nothing of it is left. Each implies that an abort exists."""


@lru_cache(maxsize=4096)
def audience(saga: Definition, fact: Fact) -> frozenset[str]:
    """The participants that must handle `fact`, its own stater included where it owns an addressed step."""
    match fact.status:
        case FactStatus.DONE if fact.step == saga.sink.name:
            return saga.participants
        case FactStatus.DONE:
            return _owners(saga, saga.triggered_by.get(fact.event or "", ()))
        case FactStatus.COMPENSATED if fact.step == saga.root.name:
            return saga.participants
        case FactStatus.SKIPPED | FactStatus.COMPENSATED:
            return _owners(saga, saga.predecessors[fact.step])
        case FactStatus.STUCK:
            return _owners(saga, saga.predecessors[fact.step]) | {saga.initiator}
        case FactStatus.ABORT | FactStatus.FAILED | FactStatus.REFUSED:
            stoppable = (s.name for s in saga.steps if s.name not in saga.after_pivot)
            return _owners(saga, stoppable) | {saga.initiator}
        case FactStatus.NOTE:
            return frozenset()


@lru_cache(maxsize=4096)
def expected(saga: Definition, fact: Fact) -> frozenset[str]:
    """Who has to acknowledge `fact` before it counts as handled: its audience, unless its step does without."""
    return audience(saga, fact) if not fact.step or saga[fact.step].acknowledged else frozenset()


def _owners(saga: Definition, steps: Iterable[str]) -> frozenset[str]:
    return frozenset(saga[name].by for name in steps)
