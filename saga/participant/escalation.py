"""Who is told of workflows that were parked: after the commit, in the thread that committed, and never to its harm."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from saga.store.workflow import Fence, Workflow

log = logging.getLogger("saga.escalation")


@dataclass(frozen=True, slots=True)
class Parked:
    """A workflow whose handler failed and is suspended here since `since`.

    `attempts` counts the tries so far; `due` is the time of the next one, None if an operator must act: see `saga parked`.
    """

    saga: str
    participant: str
    workflow_id: str
    step: str
    status: str
    error: str
    attempts: int
    due: datetime | None
    since: datetime


Listener = Callable[[Parked], object]


class _Told(NamedTuple):
    listener: Listener
    every: bool


class Escalation:
    """Those that are to be told, in the order in which they asked."""

    def __init__(self) -> None:
        self._told: list[_Told] = []

    def add(self, listener: Listener, *, every: bool = False) -> None:
        """Tell this one as well: of what waits for an operator, with `every` also of what will be tried again."""
        self._told.append(_Told(listener, every))

    def __bool__(self) -> bool:
        return bool(self._told)

    def tell(self, parked: Parked) -> None:
        """Tell whoever wants to know; what they raise is logged."""
        for listener, every in self._told:
            if every or parked.due is None:
                try:
                    listener(parked)
                except Exception:
                    log.exception("%r failed when told that workflow %s is parked", listener, parked.workflow_id)


def parked_of(saga: str, participant: str, workflow: Workflow, fence: Fence) -> Parked:
    """What is told of a fence that has an error."""
    return Parked(
        saga=saga,
        participant=participant,
        workflow_id=workflow.id,
        step=fence.step,
        status=fence.status.value,
        error=fence.error or "",
        attempts=fence.attempt,
        due=fence.due,
        since=fence.changed or workflow.opened,
    )
