"""What a store knows of one workflow: its row, the fences of own steps, the events taken in, what operators did."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from saga.protocol.facts import Fact, FactStatus, StepStatus, WorkflowStatus, stated


@dataclass(slots=True, kw_only=True)
class Fence:
    """One own step that is not idle.

    `event` and `result` are the type and bytes of the event with which the action ended, for the compensation. `pending`: the
    handler returned `Pending`. `refused`: a done pivot has said so. `attempt`, `due` and `error` describe the latest try.
    `expires`: when the step's timeout passes, while its action has begun or is parked.
    """

    step: str
    status: StepStatus
    event: str | None = None
    result: bytes | None = None
    pending: bool = False
    refused: bool = False
    attempt: int = 0
    due: datetime | None = None
    error: str | None = None
    changed: datetime | None = None
    expires: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Received:
    """One event taken in. `payload` is kept where an own step may be triggered by it."""

    id: str
    step: str
    status: FactStatus
    type: str
    payload: bytes | None = None
    state: Literal["recorded", "handled"] = "handled"
    cause: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    received: datetime | None = None

    @property
    def fact(self) -> Fact:
        return stated(self.step, self.status, self.type)


class Intervention(NamedTuple):
    """What an operator did about a workflow: `verb` is retry, skip, resolve or abort, `step` empty for the whole workflow."""

    verb: str
    step: str
    event: str | None
    reason: str | None
    by: str
    at: datetime


@dataclass(slots=True, kw_only=True)
class Workflow:
    """What this store knows of one workflow.

    `sequence` is the last number given to a fact of this participant; `unpublished` the ids of its outbox rows not yet marked
    as published. `exceptions` are steps whose compensation was passed over or stated by hand, as far as is known here;
    `unwind_by` is when the initiator raises the alarm about an unwinding. Once `closed` is set, `inbox` is empty and `fences`
    hold statuses only.
    """

    id: str
    version: int
    lane: int
    status: WorkflowStatus = WorkflowStatus.IN_PROGRESS
    sequence: int = 0
    deadline: datetime | None = None
    opened: datetime
    closed: datetime | None = None
    gates: str | None = None
    error: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    exceptions: frozenset[str] = frozenset()
    interventions: tuple[Intervention, ...] = ()
    unwind_by: datetime | None = None
    fences: dict[str, Fence] = field(default_factory=dict)
    inbox: dict[str, Received] = field(default_factory=dict)
    unpublished: set[str] = field(default_factory=set)

    @property
    def is_parked(self) -> bool:
        """Whether its handlers are suspended here: the latest try of some step failed."""
        for fence in self.fences.values():  # noqa: SIM110, every event asks, and `any` would cost twice as much
            if fence.error is not None:
                return True
        return False

    @property
    def facts(self) -> list[Fact]:
        """Those taken in and still held; none once the workflow is closed."""
        return [received.fact for received in self.inbox.values()]
