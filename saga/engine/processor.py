"""The heart: a micro-batch of one lane in one database transaction.

Facts are taken in, `decide` is asked, handlers run, and fences, inbox, outbox, delivery marks and the lane's offsets commit
together or not at all. If a batch fails it is bisected: only a batch of one may blame a handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from saga.clock import Clock
from saga.contracts.message import Message
from saga.engine.decisions import Decisions
from saga.engine.external import Answer, Externals, Intent
from saga.engine.intake import Incoming, Intake
from saga.engine.invocation import Answered, HandlerFailure, Invocation
from saga.engine.relay import Relay
from saga.errors import CommitUnknown, LaneStopped, StatementFailed, StoreConflict
from saga.failpoints import Failpoint, failpoint
from saga.participant.handler import Act, Pending
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


Item = Incoming | Answer


class Processor:
    """Processes the lanes of one participant; belongs to one thread. `chance` draws from [0, 1) for the jitter of retries."""

    def __init__(
        self, participant: Participant, store: Store, relay: Relay, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self.participant, self.saga = participant, participant.saga
        self.store, self.relay, self.clock, self.chance = store, relay, clock, chance
        self.decisions = Decisions(self.saga, participant.name)
        self.invocation = Invocation(participant.codec)
        self.externals = Externals(self.saga.name, self.invocation, clock, chance)
        self.intake = Intake(self.saga, participant.name)

    def process(self, lane: Lane, records: Sequence[Record]) -> None:
        """Take the records in, in order; `lane` is advanced as transactions commit.

        Raises LaneStopped for what cannot be read or handled (nothing of it is committed), LaneFenced and StoreError.
        """
        readable, unreadable = self.intake.read(lane, records)
        self._carry_on(lane, self._commit(lane, readable) if readable else [])
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
                if fence.status in {StepStatus.RUNNING, StepStatus.COMPENSATING} and not fence.pending
            ]
        self._carry_on(lane, intents)

    def close(self) -> None:
        self.externals.close()
        self.invocation.close()

    def _carry_on(self, lane: Lane, intents: list[Intent]) -> None:
        """Call the world for committed intents and commit its answers, until nothing is in the air."""
        while intents:
            answers, failures = self.externals.carry_out(intents)
            intents = self._commit(lane, answers) if answers else []
            if failures:
                raise self._stopped(lane, failures[0])

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
        """A batch of one: its handler is to blame, and gets its quick retries here."""
        attempt = 1
        while not failure.final and (delay := failure.handler.retry.delay(attempt, self.chance())) is not None:
            log.warning("attempt %d of %s; trying again", attempt, failure)
            self.clock.sleep(delay)
            attempt += 1
            try:
                return self._persist(lane, [item])
            except HandlerFailure as again:
                failure = again
        raise self._stopped(lane, failure)

    def _persist(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """One unit, done again whole if it got into another transaction's way."""
        for attempt in range(1, CONFLICT_ATTEMPTS):
            try:
                return self._unit(lane, items)
            except StoreConflict as conflict:
                log.info("lane %s/%d: %s; trying again", lane.saga, lane.number, conflict)
                self.clock.sleep(self.chance() * CONFLICT_PAUSE * attempt)
        return self._unit(lane, items)

    def _stopped(self, lane: Lane, failure: HandlerFailure) -> LaneStopped:
        stopped = LaneStopped(lane.saga, lane.number, f"{failure}. Repair the cause and restart: it will be tried again.")
        stopped.__cause__ = failure.__cause__ or failure
        return stopped

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
        if item.message is not None:
            return self._take(ledger, lane, item.message)
        self.intake.counts.ignored += 1
        return []

    def _take(self, ledger: Ledger, lane: Lane, message: Message) -> list[Intent]:
        """Take one fact in, and do what follows from it."""
        workflow = ledger.meet(message, lane.number)
        ledger.cause = message
        if message.id in workflow.inbox:
            self.intake.counts.duplicates += 1
            return []
        if workflow.closed:
            if (refusal := answer(self.saga, self.participant.name, message.fact, workflow.fences)) is not None:
                ledger.carry_out(workflow, refusal)
            return []
        ledger.receive(workflow, message)
        self.intake.counts.handled += 1
        return self._decide(ledger, workflow)

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
            self._record(ledger, workflow, step, item.outcome)
            self._finish(ledger, workflow, step, item.act, item.outcome)
        return self._decide(ledger, workflow)

    def _decide(self, ledger: Ledger, workflow: Workflow) -> list[Intent]:
        intents: list[Intent] = []
        while not workflow.closed:
            acts, workflow.status = self.decisions(workflow)
            if not acts:
                break
            match acts[0]:
                case Run(step, trigger):
                    intents += self._begin(ledger, workflow, self.saga[step], Act.ACTION, self._triggers(workflow, trigger))
                case Compensate(step):
                    intents += self._compensate(ledger, workflow, self.saga[step])
                case act:
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
        arguments = self.invocation.arguments(handler, workflow.id, events)
        if step.external:
            status = StepStatus.RUNNING if act is Act.ACTION else StepStatus.COMPENSATING
            ledger.move(workflow, step.name, status, pending=False)
            return [Intent(workflow.id, step.name, act, handler, arguments)]
        ledger.unit.workflow_id = workflow.id
        returned = self.invocation.call(handler, workflow.id, arguments, ledger.unit)
        outcome = self.invocation.encode(handler, workflow.id, returned)
        if isinstance(outcome, Pending):
            ledger.move(workflow, step.name, StepStatus.RUNNING, pending=True)
        else:
            self._finish(ledger, workflow, step, act, outcome)
        return []

    def _finish(self, ledger: Ledger, workflow: Workflow, step: Step, act: Act, outcome: Answered) -> None:
        if act is Act.ACTION:
            ledger.finish(workflow, step, *outcome)
        else:
            ledger.undo(workflow, step, outcome[1])

    def _record(self, ledger: Ledger, workflow: Workflow, step: Step, outcome: Answered) -> None:
        if (handler := self.participant.handlers.get((step.name, Act.RECORDING))) is not None:
            ledger.unit.workflow_id = workflow.id
            arguments = self.invocation.arguments(handler, workflow.id, dict([outcome]))
            self.invocation.call(handler, workflow.id, arguments, ledger.unit)

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
        return Intent(workflow.id, step.name, act, handler, self.invocation.arguments(handler, workflow.id, events))

    def _triggers(self, workflow: Workflow, trigger: frozenset[str]) -> dict[str, bytes | None]:
        return {r.type: r.payload for r in workflow.inbox.values() if r.type in trigger and r.status is FactStatus.DONE}

    def _ledger(self, unit: Unit) -> Ledger:
        return Ledger(self.saga, self.participant.name, self.participant.codec, unit, self.clock.now())


def _recorded(fence: Fence) -> dict[str, bytes | None]:
    return {fence.event: fence.result} if fence.event else {}


def _workflow_of(item: Item) -> str | None:
    if isinstance(item, Answer):
        return item.workflow_id
    return item.message.workflow_id if item.message else None


def _offsets_after(lane: Lane, items: Sequence[Item]) -> dict[str, int]:
    offsets = dict(lane.offsets)
    for item in items:
        if isinstance(item, Incoming):
            offsets[item.record.topic] = item.record.offset + 1
    return offsets
