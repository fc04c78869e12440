"""What one transaction changes: facts stated, fences moved, workflows opened and closed; written set-based at its end.

Fences move here only, each together with its fact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, assert_never

from saga.contracts.message import Kind, Message
from saga.contracts.saga import Saga
from saga.contracts.trace import TraceContext
from saga.participant.note import Notes, remember
from saga.participant.statement import statement
from saga.participant.versions import Versions
from saga.protocol.decide import Close, Refuse, Skip, Withdraw
from saga.protocol.definition import Step, Undo
from saga.protocol.facts import REPORTS, FactStatus, StepStatus, WorkflowStatus
from saga.store.outbox import OutboxRow
from saga.store.port import Changes, Unit
from saga.store.workflow import Fence, Intervention, Received, Workflow

_BEGUN = frozenset({StepStatus.IDLE, StepStatus.RUNNING})
_UNWINDING = REPORTS | {FactStatus.ABORT}
_STANDING = frozenset({StepStatus.DONE, StepStatus.COMPENSATING})
_UNDECIDED = frozenset({StepStatus.IDLE, StepStatus.RUNNING, StepStatus.STUCK})


class Ledger:
    """The changes of one unit of work of `participant`.

    `cause` is the message at hand: facts stated now name it as their cause and carry its trace on, or that of `context`, the
    call of which they are the outcome. `suspended` are, once all is written, the facts taken in for workflows that are parked.
    """

    def __init__(self, versions: Versions, participant: str, unit: Unit, now: datetime) -> None:
        self.versions, self.participant, self.unit, self.now = versions, participant, unit, now
        self.workflows: dict[str, Workflow] = {}
        self.outbox: dict[str, list[OutboxRow]] = {}
        self.cause: Message | None = None
        self.context: TraceContext | None = None
        self.suspended: list[Received] = []
        self._fences: dict[tuple[str, str], Fence] = {}
        self._inbox: list[tuple[str, Received]] = []
        self._touched: dict[str, Workflow] = {}

    def load(self, ids: Collection[str]) -> Mapping[str, Workflow]:
        """Lock and read these workflows; unknown ones are absent."""
        self.workflows.update(self.unit.load(self.versions.name, ids))
        return self.workflows

    def saga(self, workflow: Workflow) -> Saga:
        """The saga as this workflow runs it."""
        return self.versions.of(workflow)

    def open(
        self, workflow_id: str, saga: Saga, lane: int, *, gates: str | None = None, traceparent: str | None = None
    ) -> Workflow:
        """A workflow of this saga that begins here, behind these open gates."""
        return self._remember(
            Workflow(
                id=workflow_id,
                version=saga.version,
                lane=lane,
                status=WorkflowStatus.ACCEPTED,
                deadline=self.now + saga.deadline if saga.deadline else None,
                opened=self.now,
                gates=gates,
                traceparent=traceparent,
            )
        )

    def meet(self, message: Message, lane: int) -> Workflow:
        """The workflow of a message, opened if this is the first that is heard of it."""
        if (known := self.workflows.get(message.workflow_id)) is not None:
            return known
        return self._remember(first_met(message, lane, self.now))

    def receive(self, workflow: Workflow, message: Message) -> None:
        """Take a fact in; its payload is kept where an own step may be triggered by it."""
        kind = message.kind
        received = Received(
            id=message.id,
            step=kind.step,
            status=kind.status,
            type=kind.type,
            payload=message.value if kind.type in self.saga(workflow).wanted(self.participant) else None,
            cause=message.cause,
            traceparent=message.traceparent,
            tracestate=message.tracestate,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            received=self.now,
        )
        if message.exceptions:
            workflow.exceptions |= message.exceptions
        workflow.inbox[message.id] = received
        self._inbox.append((workflow.id, received))
        self.touch(workflow)

    def touch(self, workflow: Workflow) -> None:
        """The workflow's own row is to be written."""
        self._touched[workflow.id] = workflow

    def stand(self, workflow: Workflow, status: WorkflowStatus) -> None:
        """How the workflow stands now; when the initiator learns that it unwinds, the time for that begins."""
        if status is WorkflowStatus.FAILED and workflow.status is not WorkflowStatus.FAILED:
            saga = self.saga(workflow)
            if saga.unwind is not None and saga.initiator == self.participant:
                workflow.unwind_by = self.now + saga.unwind
                self.touch(workflow)
        workflow.status = status

    def move(self, workflow: Workflow, step: str, status: StepStatus, **changes: Any) -> Fence:
        """Set a step's fence; `changes` are further fields of `Fence`."""
        fence = workflow.fences.get(step)
        if fence is None:
            fence = workflow.fences[step] = Fence(step=step, status=status)
        fence.status, fence.changed, fence.due, fence.error = status, self.now, None, None
        fence.expires = self._expires(workflow, fence) if status in _BEGUN else None
        for name, value in changes.items():
            setattr(fence, name, value)
        self._fences[workflow.id, step] = fence
        self.touch(workflow)
        return fence

    def _expires(self, workflow: Workflow, fence: Fence) -> datetime | None:
        timeout = self.saga(workflow)[fence.step].timeout
        return fence.expires or (self.now + timeout if timeout else None)

    def parked(self) -> list[tuple[Workflow, Fence]]:
        """The steps written here that have failed and are not over."""
        written = ((self.workflows[id], fence) for (id, _), fence in self._fences.items() if fence.error is not None)
        return [(workflow, fence) for workflow, fence in written if not workflow.closed]

    def expire(self, workflow: Workflow, moment: datetime) -> list[str]:
        """Note which timeouts of steps have passed at a moment; answers those steps."""
        late = [f for f in workflow.fences.values() if f.expires is not None and f.expires <= moment]
        for fence in late:
            fence.expires = None
            self._fences[workflow.id, fence.step] = fence
            self.touch(workflow)
        return [fence.step for fence in late]

    def park(self, workflow: Workflow, step: str, *, attempt: int, due: datetime | None, error: str) -> None:
        """A try of the step failed: note it on the fence, whose status stays; `due` None waits for an operator."""
        fence = workflow.fences.get(step)
        self.move(workflow, step, fence.status if fence else StepStatus.IDLE, attempt=attempt, due=due, error=error)

    def fail(self, workflow: Workflow, step: Step, reason: str) -> None:
        """The action failed for technical reasons, all tries spent."""
        self.move(workflow, step.name, StepStatus.FAILED, pending=False)
        self._control(workflow, step.name, FactStatus.FAILED, "saga.StepFailed", {"step": step.name, "reason": reason})

    def stick(self, workflow: Workflow, step: Step, reason: str) -> None:
        """All tries of a step that may not fail are spent; superseded by `done` or `compensated`."""
        fields = {"step": step.name, "reason": reason}
        if step.name in self.saga(workflow).passed_over:
            self.make_exception(workflow, step.name)
        self.move(workflow, step.name, StepStatus.STUCK, error=reason)
        # attempts are counted anew after an operator's retry, so that they make no id that is never used twice
        self._control(workflow, step.name, FactStatus.STUCK, "saga.StepStuck", fields, index=workflow.sequence + 1)

    def make_exception(self, workflow: Workflow, step: str) -> None:
        """The step's compensation is passed over or stated by hand: all facts from now on say so, and so does the end."""
        workflow.exceptions |= {step}
        self.touch(workflow)

    def finish(self, workflow: Workflow, step: Step, event: str, payload: bytes) -> None:
        """The action ended with this event: done, or failed."""
        failed, attempt = event == step.fails, _attempt(workflow, step.name)
        status = StepStatus.FAILED if failed else StepStatus.DONE
        result = payload if step.name in self.saga(workflow).undoable else None
        self.move(workflow, step.name, status, event=event, result=result, pending=False, attempt=0)
        outcome = FactStatus.FAILED if failed else FactStatus.DONE
        cause = self.cause or _latest(r for r in workflow.inbox.values() if r.type in step.consumes)
        self.state(workflow, step.name, outcome, event, payload, attempt=attempt, cause=cause)

    def undo(self, workflow: Workflow, step: Step, payload: bytes | None = None) -> None:
        """The step is compensated; `payload` is its compensating event, None where there was nothing to undo."""
        attempt = _attempt(workflow, step.name)
        self.move(workflow, step.name, StepStatus.COMPENSATED, pending=False)
        if payload is not None and isinstance(step.compensated, str):
            cause = self.cause or _latest(r for r in workflow.inbox.values() if r.status in _UNWINDING)
            compensated = FactStatus.COMPENSATED
            self.state(workflow, step.name, compensated, step.compensated, payload, attempt=attempt, cause=cause)
        else:
            assert step.compensated is Undo.NOTHING
            self._control(workflow, step.name, FactStatus.COMPENSATED, "saga.StepCompensated", {"step": step.name})

    def skip(self, workflow: Workflow, step: str, *, reason: str | None = None, by: str | None = None) -> None:
        """Put a tombstone on the step and report it; `by` is the person that gave it up."""
        self.move(workflow, step, StepStatus.SKIPPED, pending=False)
        fields = {"step": step, "reason": reason, "requested_by": by}
        self._control(workflow, step, FactStatus.SKIPPED, "saga.StepSkipped", fields)

    def abort(self, workflow: Workflow, reason: str, *, by: str | None = None) -> None:
        """State the wish to unwind; `by` is the person that has it, if it is not the service's own."""
        fields = {"reason": reason, "requested_by": by or self.participant}
        self._control(workflow, "", FactStatus.ABORT, "saga.AbortRequested", fields, index=workflow.sequence + 1)

    def carry_out(self, workflow: Workflow, act: Skip | Withdraw | Refuse | Close) -> None:
        """What needs no handler."""
        match act:
            case Skip(step):
                self.skip(workflow, step)
            case Withdraw(step):
                self.move(workflow, step, StepStatus.COMPENSATING, pending=True)
            case Refuse(step):
                self.move(workflow, step, StepStatus.DONE, refused=True)
                self._control(workflow, step, FactStatus.REFUSED, "saga.Refused", {"pivot": step})
            case Close(outcome):
                self._close(workflow, outcome)
            case _:
                assert_never(act)

    def _close(self, workflow: Workflow, outcome: WorkflowStatus) -> None:
        """What was passed over and is being tried once more is left as it was told: stuck."""
        workflow.status, workflow.closed = outcome, self.now
        self.touch(workflow)
        if outcome is WorkflowStatus.COMPENSATED:
            for fence in workflow.fences.values():
                if fence.status in _STANDING and fence.step in self.saga(workflow).passed_over:
                    fence.status = StepStatus.STUCK

    def state(
        self,
        workflow: Workflow,
        step: str,
        status: FactStatus,
        event: str,
        payload: bytes,
        *,
        attempt: int = 1,
        index: int = 0,
        cause: Message | Received | None = None,
    ) -> None:
        """Write a fact to the outbox, with the next sequence number; `cause` led to it, or else the message at hand."""
        saga, gates = self.versions.name, workflow.gates or ""
        kind = Kind(event, self.participant, saga, workflow.version, step, status, attempt, gates)
        row = statement(kind, workflow, payload, self.now, index=index, cause=cause or self.cause, context=self.context)
        self._put(workflow, row)

    def note(self, workflow: Workflow, act: Intervention) -> None:
        """Keep what an operator did, and tell it to whoever reads the topics."""
        self.remember(workflow, act)
        notes = Notes(self.versions.name, self.participant, self.versions.codec(workflow.version))
        self._put(workflow, notes.write(workflow, act, self.now))

    def remember(self, workflow: Workflow, act: Intervention) -> None:
        """Keep what an operator did, where facts of its own tell it."""
        remember(workflow, act)
        self.touch(workflow)

    def _put(self, workflow: Workflow, row: OutboxRow) -> None:
        self.touch(workflow)
        self.outbox.setdefault(workflow.id, []).append(row)

    def write(self) -> None:
        """Hand all changes to the store."""
        self._tell_recorded_from_handled()
        closed = {id for id, workflow in self._touched.items() if workflow.closed}
        for id, received in self._inbox:
            if received.payload is not None and self._is_spent(self._touched[id], received):
                received.payload = None
        self.unit.save(
            self.versions.name,
            Changes(
                workflows=[w for w in self._touched.values() if not w.closed],
                fences=[(id, fence) for (id, _), fence in self._fences.items() if id not in closed],
                inbox=[(id, received) for id, received in self._inbox if id not in closed],
                outbox=[row for rows in self.outbox.values() for row in rows],
                closed=[self._touched[id] for id in closed],
            ),
        )

    def _tell_recorded_from_handled(self) -> None:
        """What came in for a parked workflow is recorded; it is handled once the workflow is parked no more."""
        parked = {id for id, workflow in self._touched.items() if not workflow.closed and workflow.is_parked}
        for id, workflow in self._touched.items():
            for received in workflow.inbox.values():
                if received.state == "recorded" and id not in parked:
                    received.state = "handled"
                    self._inbox.append((id, received))
        if parked:
            self.suspended = [received for id, received in self._inbox if id in parked]
            for received in self.suspended:
                received.state = "recorded"

    def _is_spent(self, workflow: Workflow, received: Received) -> bool:
        """Whether every own step that this event may trigger has had its outcome, so that nobody reads it again."""
        saga = self.saga(workflow)
        for name in saga.triggered_by.get(received.type, ()):
            fence = workflow.fences.get(name)
            if saga[name].by == self.participant and (fence is None or fence.status in _UNDECIDED):
                return False
        return True

    def _remember(self, workflow: Workflow) -> Workflow:
        self.workflows[workflow.id] = workflow
        self.touch(workflow)
        return workflow

    def _control(
        self, workflow: Workflow, step: str, status: FactStatus, record: str, fields: Mapping[str, Any], *, index: int = 0
    ) -> None:
        self.state(workflow, step, status, record, self.versions.codec(workflow.version).encode(record, fields), index=index)


def first_met(message: Message, lane: int, opened: datetime, **known: Any) -> Workflow:
    """The workflow of a message that is the first heard of it; `known` are further fields of `Workflow`."""
    return Workflow(
        id=message.workflow_id,
        version=message.kind.version,
        lane=lane,
        deadline=message.deadline,
        opened=opened,
        gates=message.kind.gates or None,
        traceparent=message.traceparent,
        tracestate=message.tracestate,
        **known,
    )


def _attempt(workflow: Workflow, step: str) -> int:
    """Which try of the step it is that ends now; of what is parked, and ended by hand, the last that was made."""
    fence = workflow.fences.get(step)
    return 1 if fence is None else max(1, fence.attempt + (fence.error is None))


def _latest(received: Iterable[Received]) -> Received | None:
    """What had led to a fact for which no message is at hand: a handler ran again, or the world has answered."""
    return max(received, key=lambda one: (one.received or datetime.min.replace(tzinfo=UTC), one.offset), default=None)
