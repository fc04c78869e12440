"""The heart: a micro-batch of one lane in one database transaction.

Facts are taken in, `decide` is asked, handlers run, and fences, inbox, outbox, delivery marks and the lane's offsets commit
together or not at all. If a batch fails it is bisected: only a batch of one may blame a handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from saga.clock import Clock
from saga.contracts.event import Event
from saga.contracts.message import Message
from saga.engine.decisions import Decisions
from saga.engine.external import QUICK_PAUSE, Answer, Externals, Intent
from saga.engine.intake import Incoming, Intake
from saga.engine.invocation import Answered, HandlerFailure, Invocation
from saga.engine.parking import Resume, Setback, next_act, park, unpark
from saga.engine.relay import Relay
from saga.errors import CommitUnknown, StatementFailed, StoreConflict
from saga.failpoints import Failpoint, failpoint
from saga.participant.handler import Act, Handler, Pending
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.protocol.decide import Compensate, Run, answer
from saga.protocol.definition import Step, Undo
from saga.protocol.facts import FactStatus, StepStatus
from saga.store.port import Fence, Lane, Store, Unit, Workflow
from saga.transport.port import Record

log = logging.getLogger("saga.processor")

CONFLICT_ATTEMPTS = 10
CONFLICT_PAUSE = 0.05


Item = Incoming | Answer | Resume | Setback


class Processor:
    """Processes the lanes of one participant; belongs to one thread.

    `batch` bounds the messages of one transaction, `chance` draws from [0, 1) for the jitter of retries.
    """

    def __init__(
        self, participant: Participant, store: Store, relay: Relay, clock: Clock, *, batch: int, chance: Callable[[], float]
    ) -> None:
        self.participant, self.saga, self.batch = participant, participant.saga, batch
        self.store, self.relay, self.clock, self.chance = store, relay, clock, chance
        self.decisions = Decisions(self.saga, participant.name)
        self.invocation = Invocation(participant.codec)
        self.externals = Externals(self.saga.name, self.invocation, clock, chance)
        self.intake = Intake(self.saga, participant.name)

    def process(self, lane: Lane, records: Sequence[Record]) -> None:
        """Take the records in, in order; `lane` is advanced as transactions commit.

        A handler that fails parks its workflow. Raises LaneStopped for a record that cannot be read, LaneFenced, StoreError.
        """
        readable, unreadable = self.intake.read(lane, records)
        for part in self._parts(readable):
            self._carry_on(lane, self._commit(lane, part))
        if unreadable is not None:
            raise unreadable

    def resume(self, lane: Lane) -> None:
        """Ask again, with the same idempotency keys, what the previous owner left in the air."""
        with self.store.unit() as unit:
            ledger = self._ledger(unit)
            workflows = ledger.load(unit.running(self.saga.name, lane.number))
            intents = [
                self._intent(workflow, fence)
                for workflow in workflows.values()
                for fence in workflow.fences.values()
                if _is_in_the_air(fence) and fence.error is None
            ]
        self._carry_on(lane, intents)

    def close(self) -> None:
        self.externals.close()
        self.invocation.close()

    def _parts(self, items: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
        """Parts with at most a batch of messages each; records that concern others weigh nothing."""
        begin = weight = 0
        for end, item in enumerate(items):
            if item.message is not None:
                if weight == self.batch:
                    yield items[begin:end]
                    begin, weight = end, 0
                weight += 1
        if items:
            yield items[begin:]

    def retry(self, lane: Lane, workflow_ids: Sequence[str]) -> None:
        """Try parked workflows again whose time has come."""
        self._carry_on(lane, self._commit(lane, [Resume(id) for id in workflow_ids]))

    def _carry_on(self, lane: Lane, intents: list[Intent]) -> None:
        """Call the world for committed intents and commit its answers, until nothing is in the air."""
        while intents:
            answers, failures = self.externals.carry_out(intents)
            intents = self._commit(lane, answers) if answers else []
            for failure in failures:
                intents += self._park(lane, Setback(failure, failure.tried + 1))

    def _commit(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """Commit the items together, or, if one of them fails, in halves."""
        try:
            return self._persist(lane, items)
        except HandlerFailure as failure:
            if len(items) == 1:
                return self._retry(lane, items[0], failure)
        except StatementFailed:
            if len(items) == 1:
                raise
        middle = len(items) // 2
        return self._commit(lane, items[:middle]) + self._commit(lane, items[middle:])

    def _retry(self, lane: Lane, item: Item, failure: HandlerFailure) -> list[Intent]:
        """A batch of one: its handler is to blame, gets its quick retries here, and then parks its workflow."""
        attempt = failure.tried + 1
        while not failure.final and failure.handler.retry.is_quick(attempt):
            log.info("attempt %d: %s; trying again", attempt, failure)
            self.clock.sleep(self.chance() * QUICK_PAUSE)
            attempt += 1
            try:
                return self._persist(lane, [item])
            except HandlerFailure as again:
                failure = again
        return self._park(lane, Setback(failure, attempt, item if isinstance(item, Incoming) else None))

    def _park(self, lane: Lane, setback: Setback) -> list[Intent]:
        first = setback.failure.__cause__ if setback.failure.tried == 0 else None
        log.warning("parked after attempt %d: %s", setback.attempt, setback.failure, exc_info=first)
        return self._persist(lane, [setback])

    def _persist(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """One unit, done again whole if it got into another transaction's way."""
        for attempt in range(1, CONFLICT_ATTEMPTS):
            try:
                return self._unit(lane, items)
            except StoreConflict as conflict:
                log.info("lane %s/%d: %s; trying again", lane.saga, lane.number, conflict)
                self.clock.sleep(self.chance() * CONFLICT_PAUSE * attempt)
        return self._unit(lane, items)

    def _unit(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """One transaction; the lane's own row is its last statement, so a fenced owner commits nothing."""
        intents: list[Intent] = []
        ahead = replace(lane, batch=lane.batch + 1, offsets=_offsets_after(lane, items))
        marks = self.relay.delivered
        try:
            with self.store.unit(eager=len(items) == 1) as unit:
                ledger = self._ledger(unit)
                ledger.load({id for item in items if (id := _workflow_of(item)) is not None})
                unpublished = {id: set(w.unpublished) for id, w in ledger.workflows.items() if w.unpublished}
                for item in items:
                    intents += self._apply(ledger, lane, item)
                ledger.write()
                unit.mark(marks)
                unit.advance(ahead)
                failpoint(Failpoint.UNIT_INSIDE)
        except CommitUnknown:
            if not self.store.committed(ahead):
                raise
        failpoint(Failpoint.UNIT_COMMITTED)
        lane.batch, lane.offsets = ahead.batch, ahead.offsets
        self.relay.marked(marks)
        self.relay.publish(lane, ledger.outbox, unpublished)
        return intents

    def _apply(self, ledger: Ledger, lane: Lane, item: Item) -> list[Intent]:
        if isinstance(item, Answer):
            return self._settle(ledger, item)
        if isinstance(item, Resume):
            return self._resume(ledger, item)
        if isinstance(item, Setback):
            return self._set_back(ledger, lane, item)
        if item.message is not None:
            return self._take(ledger, lane, item.message)
        self.intake.counts.ignored += 1
        return []

    def _take(self, ledger: Ledger, lane: Lane, message: Message) -> list[Intent]:
        """Take one fact in, and do what follows from it."""
        workflow = ledger.meet(message, lane.number)
        return self._decide(ledger, workflow) if self._is_news(ledger, workflow, message) else []

    def _is_news(self, ledger: Ledger, workflow: Workflow, message: Message) -> bool:
        ledger.cause = message
        if message.id in workflow.inbox:
            self.intake.counts.duplicates += 1
            return False
        if workflow.closed:
            if (refusal := answer(self.saga, self.participant.name, message.fact, workflow.fences)) is not None:
                ledger.carry_out(workflow, refusal)
            return False
        ledger.receive(workflow, message)
        self.intake.counts.handled += 1
        return True

    def _set_back(self, ledger: Ledger, lane: Lane, item: Setback) -> list[Intent]:
        """Take the fact in whose handler failed, and park the workflow; what needs no handler goes on."""
        incoming = item.incoming
        if incoming is not None and incoming.message is not None:
            workflow = ledger.meet(incoming.message, lane.number)
            if not self._is_news(ledger, workflow, incoming.message):
                return []
        else:
            workflow = ledger.workflows[item.workflow_id]
        park(ledger, workflow, item, self.chance())
        return self._decide(ledger, workflow)

    def _resume(self, ledger: Ledger, item: Resume) -> list[Intent]:
        """Take a parked workflow up again, with the call to the world that was committed, if one was."""
        workflow = ledger.workflows.get(item.workflow_id)
        if workflow is None or workflow.closed:
            return []
        taken_up = unpark(ledger, workflow)
        intents = [self._intent(workflow, fence) for fence in taken_up if _is_in_the_air(fence)]
        return intents + self._decide(ledger, workflow)

    def _settle(self, ledger: Ledger, item: Answer) -> list[Intent]:
        """Commit what the world answered, unless a previous owner's answer was committed first."""
        workflow, step = ledger.workflows[item.workflow_id], self.saga[item.step]
        fence = workflow.fences.get(item.step)
        expected = StepStatus.RUNNING if item.act is Act.ACTION else StepStatus.COMPENSATING
        if fence is None or fence.status is not expected or fence.pending:
            return []
        if isinstance(item.outcome, Pending):
            ledger.move(workflow, step.name, StepStatus.RUNNING, pending=True)
        else:
            self._record(ledger, workflow, fence, item.outcome)
            self._finish(ledger, workflow, step, item.act, item.outcome)
        return self._decide(ledger, workflow)

    def _decide(self, ledger: Ledger, workflow: Workflow) -> list[Intent]:
        intents: list[Intent] = []
        while not workflow.closed:
            acts, workflow.status = self.decisions(workflow)
            if (act := next_act(acts, workflow)) is None:
                break
            match act:
                case Run(step, trigger):
                    intents += self._begin(ledger, workflow, self.saga[step], Act.ACTION, self._triggers(workflow, trigger))
                case Compensate(step):
                    intents += self._compensate(ledger, workflow, self.saga[step])
                case _:
                    ledger.carry_out(workflow, act)
        return intents

    def _compensate(self, ledger: Ledger, workflow: Workflow, step: Step) -> list[Intent]:
        if step.compensated is Undo.NOTHING:
            ledger.undo(workflow, step)
            return []
        fence = workflow.fences[step.name]
        return self._begin(ledger, workflow, step, Act.COMPENSATION, _recorded(fence))

    def _begin(
        self, ledger: Ledger, workflow: Workflow, step: Step, act: Act, events: dict[str, bytes | None]
    ) -> list[Intent]:
        """Run the handler in this transaction, or, for an external step, commit the intent in it."""
        handler = self.participant.handlers[step.name, act]
        fence = workflow.fences.get(step.name)
        tried = fence.attempt if fence else 0
        try:
            arguments = self.invocation.arguments(handler, workflow.id, events)
            if step.external:
                status = StepStatus.RUNNING if act is Act.ACTION else StepStatus.COMPENSATING
                ledger.move(workflow, step.name, status, pending=False, attempt=tried)
                return [Intent(workflow.id, step.name, act, handler, arguments, tried)]
            outcome = self._call(ledger, workflow, handler, arguments)
        except HandlerFailure as failure:
            failure.tried = tried
            raise
        if isinstance(outcome, Pending):
            ledger.move(workflow, step.name, StepStatus.RUNNING, pending=True)
        else:
            self._finish(ledger, workflow, step, act, outcome)
        return []

    def _call(
        self, ledger: Ledger, workflow: Workflow, handler: Handler, arguments: list[Event | None]
    ) -> Answered | Pending:
        ledger.unit.workflow_id = workflow.id
        returned = self.invocation.call(handler, workflow.id, arguments, ledger.unit)
        return self.invocation.encode(handler, workflow.id, returned)

    def _finish(self, ledger: Ledger, workflow: Workflow, step: Step, act: Act, outcome: Answered) -> None:
        if act is Act.ACTION:
            ledger.finish(workflow, step, *outcome)
        else:
            ledger.undo(workflow, step, outcome[1])

    def _record(self, ledger: Ledger, workflow: Workflow, fence: Fence, outcome: Answered) -> None:
        if (handler := self.participant.handlers.get((fence.step, Act.RECORDING))) is not None:
            ledger.unit.workflow_id = workflow.id
            try:
                arguments = self.invocation.arguments(handler, workflow.id, dict([outcome]))
                self.invocation.call(handler, workflow.id, arguments, ledger.unit)
            except HandlerFailure as failure:
                failure.tried = fence.attempt
                raise

    def _intent(self, workflow: Workflow, fence: Fence) -> Intent:
        """What a running fence was about, from the store alone."""
        step = self.saga[fence.step]
        act = Act.ACTION if fence.status is StepStatus.RUNNING else Act.COMPENSATION
        handler = self.participant.handlers[step.name, act]
        done = {received.type for received in workflow.inbox.values() if received.status is FactStatus.DONE}
        events = (
            self._triggers(workflow, next(join for join in step.on if join <= done))
            if act is Act.ACTION
            else _recorded(fence)
        )
        arguments = self.invocation.arguments(handler, workflow.id, events)
        return Intent(workflow.id, step.name, act, handler, arguments, fence.attempt)

    def _triggers(self, workflow: Workflow, trigger: frozenset[str]) -> dict[str, bytes | None]:
        return {r.type: r.payload for r in workflow.inbox.values() if r.type in trigger and r.status is FactStatus.DONE}

    def _ledger(self, unit: Unit) -> Ledger:
        return Ledger(self.saga, self.participant.name, self.participant.codec, unit, self.clock.now())


def _is_in_the_air(fence: Fence) -> bool:
    """Whether a call to the world is committed, and its answer is not."""
    return fence.status in {StepStatus.RUNNING, StepStatus.COMPENSATING} and not fence.pending


def _recorded(fence: Fence) -> dict[str, bytes | None]:
    return {fence.event: fence.result} if fence.event else {}


def _workflow_of(item: Item) -> str | None:
    if isinstance(item, Incoming):
        return item.message.workflow_id if item.message else None
    return item.workflow_id


def _offsets_after(lane: Lane, items: Sequence[Item]) -> dict[str, int]:
    offsets = dict(lane.offsets)
    for item in items:
        incoming = item.incoming if isinstance(item, Setback) else item
        if isinstance(incoming, Incoming):
            offsets[incoming.record.topic] = incoming.record.offset + 1
    return offsets
