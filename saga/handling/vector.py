"""Calls of vectorised handlers: held back while a unit of work finds more of their kind, then made once for all of them.

A workflow of which a call is held back here does nothing else until it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saga.contracts.event import Event
from saga.contracts.message import Message
from saga.errors import SagaError
from saga.handling.invocation import HandlerFailure
from saga.participant.handler import Act, Handler
from saga.protocol.definition import Step
from saga.store.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Call:
    """One workflow's part in a call; `place` is that of its item in the unit, `cause` the message that led to it."""

    place: int
    workflow: Workflow
    step: Step
    handler: Handler
    arguments: list[Event | None]
    tried: int
    cause: Message | None


class VectorFailure(SagaError):
    """A call for several workflows failed, and the handler does not say of which; `failures` by the places of their items."""

    def __init__(self, failure: HandlerFailure, calls: list[Call]) -> None:
        super().__init__(f"{failure} and {len(calls) - 1} others")
        self.is_awaited = failure.dependency is not None
        self.failures: Mapping[int, HandlerFailure] = {call.place: _told_of(call, failure) for call in calls}


class Vector:
    """The calls that are held back in a unit of work."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, str, Act], list[Call]] = {}
        self._ids: set[str] = set()

    def __contains__(self, workflow_id: object) -> bool:
        return workflow_id in self._ids

    def add(self, call: Call) -> None:
        """Hold it back; its workflow has no other one here."""
        handler = call.handler
        self._calls.setdefault((handler.version, handler.step, handler.act), []).append(call)
        self._ids.add(call.workflow.id)

    def take(self) -> list[Call]:
        """All calls of one handler, in order of their items; empty if there are none."""
        if not self._calls:
            return []
        calls = self._calls.pop(next(iter(self._calls)))
        self._ids.difference_update(call.workflow.id for call in calls)
        return calls

    def clear(self) -> None:
        """Forget what a unit of work that failed has left."""
        self._calls.clear()
        self._ids.clear()


def _told_of(call: Call, failure: HandlerFailure) -> HandlerFailure:
    told = HandlerFailure(call.handler, call.workflow.id, failure.why, failure.failure, is_hushed=failure.is_hushed)
    told.tried, told.__cause__ = call.tried, failure.__cause__
    return told
