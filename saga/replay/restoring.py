"""From facts to the rows of one participant's store: what its workflows, fences and inbox are a function of. Pure.

Facts that the participant took in make the inbox, facts that it stated itself make the fences, in the order of their sequence
numbers. Nothing is ever stated here: there is no outbox to state it to. What `decide` still asks for is left to a worker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from saga.contracts.message import Kind, Message
from saga.contracts.saga import Saga
from saga.handling.intake import Concern, Intake
from saga.participant.decisions import Decisions
from saga.participant.ledger import first_met
from saga.participant.note import RECORD as NOTED
from saga.participant.note import remember
from saga.participant.versions import Versions
from saga.protocol.decide import Action, Close, Run, Skip, answer
from saga.protocol.definition import Step
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.workflow import Fence, Intervention, Received, Workflow

TAKEN_UP = "rebuilt from the topics: what was not published by then is done now"
"""The error of a fence that a worker takes up at once, since no fact will come that leads to it."""

_OUTCOMES = {
    FactStatus.DONE: StepStatus.DONE,
    FactStatus.FAILED: StepStatus.FAILED,
    FactStatus.SKIPPED: StepStatus.SKIPPED,
    FactStatus.COMPENSATED: StepStatus.COMPENSATED,
    FactStatus.STUCK: StepStatus.STUCK,
    FactStatus.REFUSED: StepStatus.DONE,
}
_WORDED = frozenset({FactStatus.STUCK, FactStatus.NOTE, FactStatus.ABORT, FactStatus.SKIPPED})
_UNDECIDED = frozenset({StepStatus.IDLE, StepStatus.RUNNING, StepStatus.STUCK})


class Part(NamedTuple):
    """What a fact is to the participant: its own statement, something it takes in, both, or neither.

    `number` stands for the kind of the fact: no two kinds have the same.
    """

    own: bool
    heard: bool
    number: int


class Fact(NamedTuple):
    """One fact of a workflow, and what it is to the participant."""

    message: Message
    part: Part


class Restoring:
    """Applies facts to workflows of `participant`, as its live store would have come to hold them."""

    def __init__(self, versions: Versions, participant: str, intake: Intake) -> None:
        self.versions, self.participant, self.intake = versions, participant, intake
        self.decisions = Decisions(participant)
        self.part, self._numbers = lru_cache(maxsize=4096)(self._part), count()

    def _part(self, kind: Kind, forged: bool = False) -> Part:
        """Of a record that is `forged`, what is left of it is what others would take in.

        Raises ValueError for what only a dead letter can be made of.
        """
        concern = self.intake.concern(kind)
        if concern in (Concern.FOREIGN, Concern.UNKNOWN):
            raise ValueError(concern.value)
        own = kind.source == self.participant and concern is not Concern.REFUSE and not forged
        return Part(own, concern is Concern.HANDLE, next(self._numbers))

    def open(self, message: Message, lane: int) -> Workflow:
        """A workflow of which this is the first fact; moments are those of facts, since nothing else is on the topics."""
        return first_met(message, lane, message.time, status=WorkflowStatus.ACCEPTED)

    def hear(self, workflow: Workflow, message: Message) -> bool:
        """Take a fact in; answers whether a worker has still to answer it, so that it is not to be passed yet."""
        if workflow.closed:
            return answer(self.versions.of(workflow), self.participant, message.fact, workflow.fences) is not None
        if message.id not in workflow.inbox:
            kind = message.kind
            workflow.exceptions |= message.exceptions
            workflow.inbox[message.id] = Received(
                id=message.id,
                step=kind.step,
                status=kind.status,
                type=kind.type,
                payload=message.value if kind.type in self.versions.of(workflow).wanted(self.participant) else None,
                cause=message.cause,
                traceparent=message.traceparent,
                tracestate=message.tracestate,
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                received=message.time,
            )
        return False

    def awaited(self, workflow: Workflow, message: Message) -> list[str]:
        """The events that must have been taken in before the participant can have stated this fact."""
        kind, saga = message.kind, self.versions.of(workflow)
        if workflow.closed or not kind.step or kind.type not in saga[kind.step].outcomes:
            return []
        on, done = saga[kind.step].on, _done(workflow)
        missing = sorted((sorted(join - done) for join in on), key=len)
        return missing[0] if missing else []

    def words(self, message: Message) -> Mapping[str, Any]:
        """What beside its headers tells of an own fact: why a step is stuck, what an operator did. Raises ContractError."""
        kind = message.kind
        return self.versions.codec(kind.version).decode(kind.type, message.value) if kind.status in _WORDED else {}

    def state(self, workflow: Workflow, message: Message, words: Mapping[str, Any]) -> None:
        """Apply a fact that the participant stated, the next one by its sequence number.

        It carries the deadline that its own row had: others may have begun the same workflow at another time.
        """
        kind, saga = message.kind, self.versions.of(workflow)
        workflow.sequence, workflow.deadline = message.sequence, message.deadline
        workflow.exceptions |= message.exceptions
        if kind.status in _OUTCOMES:
            self._move(workflow, saga, saga[kind.step], message, words)
        if kind.status in (FactStatus.NOTE, FactStatus.ABORT, FactStatus.SKIPPED):
            self._intervened(workflow, message, words)

    def events(self, workflow: Workflow, message: Message) -> dict[str, bytes]:
        """What an own event came of, by type, with the event itself: its trigger, or the outcome that it undoes."""
        kind, found = message.kind, {}
        if kind.status is FactStatus.COMPENSATED:
            fence = workflow.fences.get(kind.step)
            if fence is not None and fence.event is not None and fence.result is not None:
                found[fence.event] = fence.result
        else:
            consumed = self.versions.of(workflow)[kind.step].consumes
            taken = (r for r in workflow.inbox.values() if r.status is FactStatus.DONE and r.type in consumed)
            found = {r.type: r.payload for r in taken if r.payload is not None}
        return {**found, kind.type: message.value}

    def settle(self, workflow: Workflow, now: datetime) -> None:
        """Bring the rows in line with all that was applied: close the workflow, or mark what a worker is to take up."""
        if workflow.closed:
            return
        saga = self.versions.of(workflow)
        _unmark(workflow)
        acts, status = self.decisions(saga, workflow)
        if workflow.inbox:
            workflow.status = status
        if len(acts) == 1 and isinstance(acts[0], Close):
            workflow.status, workflow.closed = acts[0].outcome, _ended(saga, workflow)
            return
        left = [step for act in acts if (step := self._take_up(saga, workflow, act, now)) is not None]
        for received in workflow.inbox.values():
            if received.payload is not None and self._is_spent(saga, workflow, received):
                received.payload = None
            waits = left and received.payload is not None
            received.state = "recorded" if waits else "handled"

    def _take_up(self, saga: Saga, workflow: Workflow, act: Action, now: datetime) -> str | None:
        """Have a worker do this: at once, or, if the world may have been asked, by asking it again with the same key."""
        if isinstance(act, Close):
            return None  # a refusal beside it is what is left
        name = act.step
        fence = workflow.fences.get(name) or Fence(step=name, status=StepStatus.IDLE)
        workflow.fences[name] = fence
        if isinstance(act, Run | Skip) and fence.status is StepStatus.IDLE:
            began = _satisfied(saga[name], workflow)
            timeout = saga[name].timeout
            fence.expires = began + timeout if began and timeout else None
            if saga[name].external and began:
                fence.status, fence.changed = StepStatus.RUNNING, began
                return name
        fence.error, fence.due, fence.attempt = TAKEN_UP, now, 0
        return name

    def _move(self, workflow: Workflow, saga: Saga, step: Step, message: Message, words: Mapping[str, Any]) -> None:
        kind, fence = message.kind, workflow.fences.get(step.name)
        if fence is None:
            fence = workflow.fences[step.name] = Fence(step=step.name, status=StepStatus.IDLE)
        fence.status, fence.changed = _OUTCOMES[kind.status], message.time
        fence.pending, fence.due, fence.error, fence.expires = False, None, None, None
        if kind.type in step.outcomes:
            fence.event, fence.attempt = kind.type, 0
            fence.result = message.value if step.name in saga.undoable else None
        elif kind.status is FactStatus.REFUSED:
            fence.refused = True
        elif kind.status is FactStatus.STUCK:
            fence.error = str(words.get("reason") or "stuck")
            # it was withdrawn while it waited for the world, if it is stuck before the pivot and was never done
            fence.pending = fence.event is None and step.name not in saga.after_pivot

    def _intervened(self, workflow: Workflow, message: Message, words: Mapping[str, Any]) -> None:
        """Keep what an operator did, as far as the fact says that it was one."""
        at, step = message.time, message.kind.step
        by, reason = words.get("requested_by"), words.get("reason")
        if not by or (message.kind.status is FactStatus.ABORT and by == self.participant):
            return
        latest = workflow.interventions[-1] if workflow.interventions else None
        if message.kind.type == NOTED:
            remember(workflow, Intervention(words["verb"], step, words.get("event"), reason, by, at))
            stuck = workflow.fences.get(step)
            if words["verb"] == "retry" and stuck is not None and stuck.status is StepStatus.STUCK:
                stuck.due = at
        elif message.kind.status is FactStatus.SKIPPED:
            remember(workflow, Intervention("skip", step, None, reason, by, at))
        elif latest is None or (latest.verb, latest.at, latest.by) != ("skip", at, by):  # a skip states an abort as well
            remember(workflow, Intervention("abort", "", None, reason, by, at))

    def _is_spent(self, saga: Saga, workflow: Workflow, received: Received) -> bool:
        """Whether no own step may still be triggered by it."""
        for name in saga.triggered_by.get(received.type, ()):
            fence = workflow.fences.get(name)
            if saga[name].by == self.participant and (fence is None or fence.status in _UNDECIDED):
                return False
        return True


def _unmark(workflow: Workflow) -> None:
    """Take back what an earlier `settle` left for a worker."""
    for fence in workflow.fences.values():
        if fence.error == TAKEN_UP:
            fence.error = fence.due = None
            fence.expires = None


def _done(workflow: Workflow) -> set[str]:
    return {received.type for received in workflow.inbox.values() if received.status is FactStatus.DONE}


def _satisfied(step: Step, workflow: Workflow) -> datetime | None:
    """Since when the step's trigger is there."""
    moments = {r.type: r.received for r in workflow.inbox.values() if r.status is FactStatus.DONE}
    found = [_latest([moments[event] for event in join]) for join in step.on if join <= moments.keys()]
    return min((moment for moment in found if moment is not None), default=None)


def _ended(saga: Saga, workflow: Workflow) -> datetime:
    """When the workflow ended, as the facts that tell of it say."""
    ends = {(saga.sink.name, FactStatus.DONE), (saga.root.name, FactStatus.COMPENSATED)}
    own = [f.changed for f in workflow.fences.values() if f.step in (saga.sink.name, saga.root.name)]
    telling = [r.received for r in workflow.inbox.values() if (r.step, r.status) in ends or r.status is FactStatus.REFUSED]
    return _latest(telling) or _latest(own) or workflow.opened


def _latest(moments: Collection[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
