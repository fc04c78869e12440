"""Everything that may be said about a workflow of a saga: by whom, in which type, on which topic, and who must hear it.

The audience is the protocol's own, so that documents cannot tell another story than the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from saga.contracts.acknowledged import RECORD as ACKNOWLEDGED
from saga.contracts.saga import Saga
from saga.contracts.topics import acks_topic, compensations_topic, events_topic
from saga.protocol.definition import Step, Undo
from saga.protocol.facts import Fact, FactStatus, audience


@dataclass(frozen=True, slots=True)
class Statement:
    """What may be stated; `type` is the full name of its record.

    `step` is None for a wish about the whole workflow and for an acknowledgment, which has no status either.
    """

    step: Step | None
    status: FactStatus | None
    type: str
    by: frozenset[str]
    heard: frozenset[str]
    topic: str


def statements(saga: Saga) -> list[Statement]:
    """All of them, step by step in the order of the schema; the wish to abort and acknowledgments come last."""
    of_steps = (_stated(saga, step, status, type_) for step in saga.steps for status, type_ in _says(saga, step))
    heard = audience(saga, Fact("", FactStatus.ABORT))
    wish = Statement(None, FactStatus.ABORT, "saga.AbortRequested", saga.participants, heard, compensations_topic(saga.name))
    taken_in = Statement(None, None, ACKNOWLEDGED, saga.participants, saga.participants, acks_topic(saga.name))
    return [*of_steps, wish, taken_in]


def is_control(type_: str) -> bool:
    """Whether a record is the framework's own, and no event of the saga."""
    return type_.startswith("saga.")


def _says(saga: Saga, step: Step) -> Iterator[tuple[FactStatus, str]]:
    forward, root = step.name in saga.after_pivot, step.name == saga.root.name
    yield from ((FactStatus.DONE, event) for event in step.emits)
    if step.fails:
        yield FactStatus.FAILED, step.fails
    if step.on_error == "fail" and not forward and not root:
        yield FactStatus.FAILED, "saga.StepFailed"
    if not forward and not root:
        yield FactStatus.SKIPPED, "saga.StepSkipped"
    if step.name in saga.undoable:
        yield FactStatus.COMPENSATED, str(step.compensated)
    if step.compensated is Undo.NOTHING and not forward and step.name not in saga.pivots:
        yield FactStatus.COMPENSATED, "saga.StepCompensated"
    if step.name in saga.pivots:
        yield FactStatus.REFUSED, "saga.Refused"
    if forward or step.name in saga.undoable:
        yield FactStatus.STUCK, "saga.StepStuck"


def _stated(saga: Saga, step: Step, status: FactStatus, type_: str) -> Statement:
    fact = Fact(step.name, status, type_ if status is FactStatus.DONE else None)
    topic = events_topic if status is FactStatus.DONE else compensations_topic
    return Statement(step, status, type_, frozenset({step.by}), audience(saga, fact), topic(saga.name))
