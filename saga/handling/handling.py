"""What is done about one workflow in an open transaction: a fact is taken in, `decide` is asked, handlers run, fences move.

Nothing here begins or ends a transaction. A handler that fails raises HandlerFailure, and the transaction is lost with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from saga.clock import Clock
from saga.contracts.acknowledged import Reason
from saga.contracts.event import Event
from saga.contracts.message import Message
from saga.contracts.trace import TraceContext, Traced, is_sampled
from saga.delivery.acks import Remark
from saga.errors import Overstayed, StatementFailed
from saga.handling.breakers import Breakers, Unasked
from saga.handling.external import Answer, Intent
from saga.handling.intake import Counts, Incoming, contradiction, forgotten
from saga.handling.invocation import Answered, HandlerFailure, Invocation, Latest
from saga.handling.parking import Resume, Setback, in_the_air, is_wanted, kept, next_act, park, postpone, tried_of, unpark
from saga.handling.quarantine import Suspect
from saga.handling.timers import Late, expire
from saga.handling.tracing import Tracer
from saga.handling.vector import Call, Vector, VectorFailure
from saga.participant.decisions import Decisions
from saga.participant.handler import Act, Handler, Pending
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.protocol.decide import Action, Compensate, Run, answer
from saga.protocol.definition import Step, Undo
from saga.protocol.facts import FactStatus, StepStatus
from saga.store.dead_letter import DeadLetter
from saga.store.lane import Lane
from saga.store.workflow import Fence, Workflow

Item = Incoming | Answer | Resume | Setback | Late | Suspect

PATIENCE = 1.0
"""Seconds of handlers in one transaction, after which it takes nothing more in."""


class Handling:
    """Handles items of one participant, one after the other; belongs to one thread.

    `reached` is the place of the item at hand in its unit, `handled` how many of its items are in it, `latest` the handler that
    ran last there, `remarks` what its acknowledgment is to say, `letters` what of it cannot be taken in. `chance` draws from
    [0, 1) for the jitter of retries.
    """

    def __init__(
        self,
        participant: Participant,
        invocation: Invocation,
        breakers: Breakers,
        counts: Counts,
        tracer: Tracer,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.participant, self.versions, self.invocation, self.clock = participant, participant.versions, invocation, clock
        self.breakers, self.counts, self.tracer, self.chance = breakers, counts, tracer, chance
        self.decisions = Decisions(participant.name)
        self.reached = self.handled = 0
        self.latest: Latest | None = None
        self.remarks: list[Remark] = []
        self.letters: list[DeadLetter] = []
        self._suspect: Suspect | None = None
        self._vector = Vector()

    def blame(self, error: StatementFailed | Overstayed) -> HandlerFailure | None:
        """What the store said too late stands for: it is the latest handler's, if one has run."""
        return None if self.latest is None else self.invocation.blame_latest(self.latest, error)

    def apply(self, ledger: Ledger, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """Handle the items of a unit, all of them unless handlers take long; answers the calls to make once it is committed.

        Raises HandlerFailure for what the item is to blame that is `reached`, VectorFailure where one of several is.
        """
        intents: list[Intent] = []
        self._vector.clear()
        self.handled, until = 0, self.clock.monotonic() + PATIENCE
        for place, item in enumerate(items):
            if workflow_of(item) in self._vector:
                intents += self._call_together(ledger)
            self.reached, self.handled = place, place + 1
            intents += self._apply(ledger, lane, item)
            if self.latest is not None and self.clock.monotonic() > until:
                break
        return intents + self._call_together(ledger)

    def _apply(self, ledger: Ledger, lane: Lane, item: Item) -> list[Intent]:
        if isinstance(item, Incoming):
            return self._come_in(ledger, lane, item)
        ledger.cause = None
        if isinstance(item, Suspect):
            return self._without_handlers(ledger, lane, item)
        if isinstance(item, Answer):
            return self._decide(ledger, self._settle(ledger, item))
        if isinstance(item, Resume):
            return self._resume(ledger, item)
        if isinstance(item, Late):
            return self._be_late(ledger, item)
        return self._set_back(ledger, lane, item)

    def _come_in(self, ledger: Ledger, lane: Lane, item: Incoming) -> list[Intent]:
        if item.message is not None:
            return [] if self._is_dead(ledger, lane, item, item.message) else self._take(ledger, lane, item.message)
        if item.letter is not None:
            self.letters.append(item.letter)
            self.counts.dead += 1
        else:
            self.counts.ignored += 1
        return []

    def _without_handlers(self, ledger: Ledger, lane: Lane, item: Suspect) -> list[Intent]:
        """Take in what the process died of; the first handler that would run now has its workflow wait instead."""
        self._suspect = item
        try:
            return self._apply(ledger, lane, item.item)
        finally:
            self._suspect = None

    def _quarantine(self, ledger: Ledger, workflow: Workflow, handler: Handler) -> bool:
        """Whether this handler must not run now, and its workflow waits for an operator."""
        if self._suspect is None:
            return False
        failure = self._suspect.failure(handler, workflow.id)
        park(ledger, workflow, Setback(failure, tried_of(workflow, handler.step) + self._suspect.deaths), self.chance())
        return True

    def _is_dead(self, ledger: Ledger, lane: Lane, item: Incoming, message: Message) -> bool:
        """Whether what can be read cannot be taken in after all, as its workflow stands or as it is not there."""
        workflow = ledger.workflows.get(message.workflow_id)
        saga = self.versions.saga_of(message.kind.version)
        letter = contradiction(lane, item, workflow, ledger.now) if workflow else forgotten(lane, item, saga, ledger.now)
        if letter is not None:
            self.letters.append(letter)
            self.counts.dead += 1
        return letter is not None

    def _take(self, ledger: Ledger, lane: Lane, message: Message) -> list[Intent]:
        """Take one fact in, and do what follows from it."""
        workflow = ledger.meet(message, lane.number)
        return self._decide(ledger, workflow) if self._is_news(ledger, workflow, message) else []

    def _is_news(self, ledger: Ledger, workflow: Workflow, message: Message) -> bool:
        ledger.cause = message
        if message.id in workflow.inbox:
            self.counts.duplicates += 1
            self._remark(message, Reason.DUPLICATE)
            return False
        if workflow.closed:
            if (refusal := answer(ledger.saga(workflow), self.participant.name, message.fact, workflow.fences)) is not None:
                ledger.carry_out(workflow, refusal)
                self._remark(message, Reason.REFUSED_LATE)
            return False
        ledger.receive(workflow, message)
        self.counts.handled += 1
        return True

    def _remark(self, message: Message, reason: Reason) -> None:
        self.remarks.append(Remark(message.topic, message.offset, reason))

    def _set_back(self, ledger: Ledger, lane: Lane, item: Setback) -> list[Intent]:
        """Take the fact in whose handler failed, and park the workflow; what needs no handler goes on."""
        incoming = item.incoming
        if incoming is not None and incoming.message is not None:
            workflow = ledger.meet(incoming.message, lane.number)
            if not self._is_news(ledger, workflow, incoming.message):
                return []
        else:
            workflow = self._settle(ledger, item.answer) if item.answer else ledger.workflows[item.workflow_id]
        intents: list[Intent] = []
        for setback in (item, *item.others):
            intents += self._do_before(ledger, workflow, setback, item)
            if not is_wanted(setback, self.decisions(ledger.saga(workflow), workflow)[0], workflow):
                continue
            if (away := setback.failure.dependency) is None:
                park(ledger, workflow, setback, self.chance())
            else:
                postpone(ledger, workflow, setback, self.breakers.wait(away, self.chance()))
        return intents + self._decide(ledger, workflow)

    def _do_before(self, ledger: Ledger, workflow: Workflow, setback: Setback, item: Setback) -> list[Intent]:
        """Do again what was done before a compensation failed, the step that led to it too: that transaction was lost."""
        if not setback.is_undoing:
            return []
        intents: list[Intent] = []
        place, cause = self.reached, ledger.cause
        unpark(ledger, workflow, calls=False)
        saga = ledger.saga(workflow)
        while (act := next_act(self.decisions(saga, workflow)[0], workflow)) and not (workflow.closed or item.failed(act)):
            intents += self._carry_out(ledger, workflow, act)
            intents += self._call_together(ledger, waiting=workflow)
            self.reached, ledger.cause = place, cause
        return intents

    def _resume(self, ledger: Ledger, item: Resume) -> list[Intent]:
        """Take a parked workflow up again, with the call to the world that was committed, if one was."""
        workflow = ledger.workflows.get(item.workflow_id)
        if workflow is None or workflow.closed:
            return []
        flying = [fence for fence in unpark(ledger, workflow) if in_the_air(fence)]
        allowed = [f for f in flying if not self._quarantine(ledger, workflow, self._handler(workflow, f))]
        intents = [self.intent(workflow, fence) for fence in allowed]
        may_be_made = [i for i in intents if not self._postpone_while_away(ledger, workflow, i.handler, i.tried)]
        return may_be_made + self._decide(ledger, workflow)

    def _postpone_while_away(self, ledger: Ledger, workflow: Workflow, handler: Handler, tried: int) -> bool:
        """Have the workflow wait if something that the handler needs is away; answers whether it does."""
        if (away := self.breakers.refusing(handler.needs)) is None:
            return False
        setback = Setback(Unasked(handler, workflow.id, away), tried)
        postpone(ledger, workflow, setback, self.breakers.wait(away, self.chance()))
        return True

    def _be_late(self, ledger: Ledger, item: Late) -> list[Intent]:
        workflow = ledger.workflows.get(item.workflow_id)
        if workflow is None or workflow.closed:
            return []
        expire(ledger, workflow, item.moment)
        return self._decide(ledger, workflow)

    def _settle(self, ledger: Ledger, item: Answer) -> Workflow:
        """Commit what the world answered, unless a previous owner's answer was committed first; answers the workflow."""
        workflow = ledger.workflows[item.workflow_id]
        step = ledger.saga(workflow)[item.step]
        fence = workflow.fences.get(item.step)
        expected = StepStatus.RUNNING if item.act is Act.ACTION else StepStatus.COMPENSATING
        if fence is None or fence.status is not expected or fence.pending:
            return workflow
        if isinstance(item.outcome, Pending):
            ledger.move(workflow, step.name, StepStatus.RUNNING, pending=True)
        else:
            ledger.context = item.context
            self._record(ledger, workflow, fence, item.outcome)
            self._finish(ledger, workflow, step, item.act, item.outcome)
            ledger.context = None
        return workflow

    def _decide(self, ledger: Ledger, workflow: Workflow) -> list[Intent]:
        intents: list[Intent] = []
        saga = ledger.saga(workflow)
        while not workflow.closed and workflow.id not in self._vector:
            acts, status = self.decisions(saga, workflow)
            ledger.stand(workflow, status)
            if (act := next_act(acts, workflow)) is None:
                break
            intents += self._carry_out(ledger, workflow, act)
        return intents

    def _carry_out(self, ledger: Ledger, workflow: Workflow, act: Action) -> list[Intent]:
        saga = ledger.saga(workflow)
        match act:
            case Run(step, trigger):
                return self._begin(ledger, workflow, saga[step], Act.ACTION, self._triggers(workflow, trigger))
            case Compensate(step):
                return self._compensate(ledger, workflow, saga[step])
            case _:
                ledger.carry_out(workflow, act)
                return []

    def _compensate(self, ledger: Ledger, workflow: Workflow, step: Step) -> list[Intent]:
        if step.compensated is Undo.NOTHING:
            ledger.undo(workflow, step)
            return []
        fence = workflow.fences[step.name]
        return self._begin(ledger, workflow, step, Act.COMPENSATION, kept(fence))

    def _begin(self, ledger: Ledger, workflow: Workflow, step: Step, act: Act, events: dict[str, bytes | None]) -> list[Intent]:
        """Run the handler in this transaction, now or with others of its kind; of an external step, commit the intent in it."""
        handler = self.participant.handlers[workflow.version, step.name, act]
        tried = tried_of(workflow, step.name)
        if self._quarantine(ledger, workflow, handler):
            return []
        if self._postpone_while_away(ledger, workflow, handler, tried):
            return []
        try:
            arguments = self.invocation.arguments(handler, workflow.id, events)
            if step.external:
                status = StepStatus.RUNNING if act is Act.ACTION else StepStatus.COMPENSATING
                ledger.move(workflow, step.name, status, pending=False, attempt=tried)
                context = _place(ledger.cause or workflow)
                return [Intent(workflow.id, step.name, act, handler, arguments, tried, context=context)]
            if handler.batch:
                self._vector.add(Call(self.reached, workflow, step, handler, arguments, tried, ledger.cause))
                return []
            outcome = self._call(ledger, workflow, handler, arguments)
        except HandlerFailure as failure:
            failure.tried = tried
            raise
        if isinstance(outcome, Pending):
            ledger.move(workflow, step.name, StepStatus.RUNNING, pending=True)
        else:
            self._finish(ledger, workflow, step, act, outcome)
        ledger.context = None
        return []

    def _call(self, ledger: Ledger, workflow: Workflow, handler: Handler, arguments: list[Event | None]) -> Answered | Pending:
        self.latest = Latest(handler, workflow.id, tried_of(workflow, handler.step))
        ledger.unit.workflow_id = workflow.id
        with self.breakers.passage(handler, workflow.id), self._span(ledger.cause, workflow, handler) as ledger.context:
            returned = self.invocation.call(handler, workflow.id, arguments, ledger.unit)
        return self.invocation.encode(handler, workflow.id, returned)

    def _call_together(self, ledger: Ledger, waiting: Workflow | None = None) -> list[Intent]:
        """Make the calls that were held back, those of one handler as one, and go on with their workflows but the `waiting`."""
        intents: list[Intent] = []
        while calls := self._vector.take():
            try:
                returned = self._call_vectorised(ledger, calls)
            except HandlerFailure as failure:
                self.reached, failure.tried = calls[0].place, calls[0].tried
                raise failure if len(calls) == 1 else VectorFailure(failure, calls) from failure
            for call, (result, context) in zip(calls, returned, strict=True):
                self.reached, ledger.cause, ledger.context = call.place, call.cause, context
                self._finish(ledger, call.workflow, call.step, call.handler.act, self._result(call, result))
                ledger.context = None
                intents += self._decide(ledger, call.workflow) if call.workflow is not waiting else []
        return intents

    def _call_vectorised(self, ledger: Ledger, calls: Sequence[Call]) -> list[tuple[Any, TraceContext | None]]:
        """What came back for each, with its own place in a trace."""
        handler, ids = calls[0].handler, [call.workflow.id for call in calls]
        self.latest = Latest(handler, ids[0], calls[0].tried)
        unit = ledger.unit
        unit.workflow_id, unit.workflow_ids = None, ids
        with ExitStack() as around:
            around.enter_context(self.breakers.passage(handler, ids[0]))
            contexts = [around.enter_context(self._span(call.cause, call.workflow, handler)) for call in calls]
            returned = self.invocation.call_together(handler, ids, [call.arguments for call in calls], unit)
        unit.workflow_ids = ()
        return [*zip(returned, contexts, strict=True)]

    def _result(self, call: Call, returned: Any) -> Answered:
        try:
            outcome = self.invocation.encode(call.handler, call.workflow.id, returned)
        except HandlerFailure as failure:
            failure.tried = call.tried
            raise
        assert not isinstance(outcome, Pending)
        return outcome

    def _span(self, cause: Message | None, workflow: Workflow, handler: Handler) -> AbstractContextManager[TraceContext | None]:
        """Around one call, where somebody wants its trace recorded."""
        if not is_sampled(traced := cause or workflow):
            return _UNTRACED
        return self.tracer.call(handler, workflow.id, tried_of(workflow, handler.step) + 1, traced)

    def _finish(self, ledger: Ledger, workflow: Workflow, step: Step, act: Act, outcome: Answered) -> None:
        if act is Act.ACTION:
            ledger.finish(workflow, step, *outcome)
        else:
            ledger.undo(workflow, step, outcome[1])

    def _record(self, ledger: Ledger, workflow: Workflow, fence: Fence, outcome: Answered) -> None:
        if (handler := self.participant.handlers.get((workflow.version, fence.step, Act.RECORDING))) is not None:
            self.latest = Latest(handler, workflow.id, fence.attempt)
            ledger.unit.workflow_id = workflow.id
            try:
                arguments = self.invocation.arguments(handler, workflow.id, dict([outcome]))
                self.invocation.call(handler, workflow.id, arguments, ledger.unit)
            except HandlerFailure as failure:
                failure.tried = fence.attempt
                raise

    def intent(self, workflow: Workflow, fence: Fence) -> Intent:
        """What a running fence was about, from the store alone; raises HandlerFailure where that cannot be read (any more)."""
        step, handler = self.versions.of(workflow)[fence.step], self._handler(workflow, fence)
        act = handler.act
        done = {received.type for received in workflow.inbox.values() if received.status is FactStatus.DONE}
        events = self._triggers(workflow, next(join for join in step.on if join <= done)) if act is Act.ACTION else kept(fence)
        arguments = self.invocation.arguments(handler, workflow.id, events)
        return Intent(workflow.id, step.name, act, handler, arguments, fence.attempt, asked=True, context=_place(workflow))

    def _handler(self, workflow: Workflow, fence: Fence) -> Handler:
        act = Act.ACTION if fence.status is StepStatus.RUNNING else Act.COMPENSATION
        return self.participant.handlers[workflow.version, fence.step, act]

    def _triggers(self, workflow: Workflow, trigger: frozenset[str]) -> dict[str, bytes | None]:
        return {r.type: r.payload for r in workflow.inbox.values() if r.type in trigger and r.status is FactStatus.DONE}


_UNTRACED: AbstractContextManager[None] = nullcontext()


def _place(traced: Traced) -> TraceContext:
    return TraceContext(traced.traceparent, traced.tracestate)


def workflow_of(item: Item) -> str | None:
    """The id of the workflow that an item is about, if it is about one."""
    item = item.item if isinstance(item, Suspect) else item
    if isinstance(item, Incoming):
        return item.message.workflow_id if item.message else None
    return item.workflow_id
