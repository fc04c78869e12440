"""What becomes of a workflow whose handler failed: it alone is parked; its facts are taken in and decided upon all the same.

A parked workflow has a fence with an `error`: of the step that failed, with the number of attempts and the time of the next
one, or none if an operator must act. While it is there no handler of this workflow runs here. What waits for a dependency that
is away is parked too, and spends no attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from saga.handling.breakers import Unasked
from saga.handling.external import Answer
from saga.handling.intake import Incoming
from saga.handling.invocation import HandlerFailure
from saga.participant import operator
from saga.participant.handler import Act
from saga.participant.ledger import Ledger
from saga.protocol.decide import Action, Compensate, Run
from saga.protocol.definition import Definition, Step
from saga.protocol.facts import StepStatus
from saga.store.workflow import Fence, Workflow


@dataclass(frozen=True, slots=True)
class Resume:
    """A parked workflow whose time has come."""

    workflow_id: str


@dataclass(frozen=True, slots=True)
class Setback:
    """A try that failed, with the record that led to it if it has not been taken in; `attempt` counts the tries spent.

    `answer` is what the world said, if that led to it: nobody would ask again for a call that is not parked itself.
    `others` are setbacks of the same workflow to which this one led: a step that fails has another one undone, which fails too.
    """

    failure: HandlerFailure
    attempt: int
    incoming: Incoming | None = None
    others: tuple[Setback, ...] = ()
    answer: Answer | None = None

    @classmethod
    def of(cls, failure: HandlerFailure, attempt: int, item: object) -> Setback:
        """The setback of an item of a unit; one that met another failure still has the record with which it began."""
        if isinstance(item, Setback):
            return item.led_to(failure)
        answer = item if isinstance(item, Answer) and not failure.is_of_recording else None
        return cls(failure, attempt, item if isinstance(item, Incoming) else None, answer=answer)

    def led_to(self, failure: HandlerFailure) -> Setback:
        """What it becomes as this fails besides: an answer that cannot be recorded is asked for again, and leads to nothing."""
        another = Setback(failure, failure.spent(failure.tried + 1))
        return another if failure.is_of_recording else replace(self, others=(*self.others, another))

    @property
    def workflow_id(self) -> str:
        return self.failure.workflow_id

    @property
    def is_undoing(self) -> bool:
        """Whether it is a compensation that failed."""
        return self.failure.handler.act is Act.COMPENSATION

    def failed(self, act: Action) -> bool:
        """Whether the handler that this would run is one of those that failed."""
        calls = {(each.failure.handler.step, each.is_undoing) for each in (self, *self.others)}
        return isinstance(act, Run | Compensate) and (act.step, isinstance(act, Compensate)) in calls


def next_act(acts: tuple[Action, ...], workflow: Workflow) -> Action | None:
    """The first action that may be carried out now: those of handlers wait while the workflow is parked."""
    if not acts:
        return None
    if not workflow.is_parked:
        return acts[0]
    return next((act for act in acts if not isinstance(act, Run | Compensate)), None)


def is_wanted(setback: Setback, acts: tuple[Action, ...], workflow: Workflow) -> bool:
    """Whether what failed is still to be done now: no compensation is stuck before what follows its step is undone."""
    step = setback.failure.handler.step
    fence = workflow.fences.get(step)
    may_wait = fence is not None and fence.status is not StepStatus.STUCK and not in_the_air(fence)
    return not setback.is_undoing or not may_wait or Compensate(step) in acts


def tried_of(workflow: Workflow, step: str) -> int:
    """How many tries of the step were spent."""
    fence = workflow.fences.get(step)
    return fence.attempt if fence else 0


def kept(fence: Fence) -> dict[str, bytes | None]:
    """The event with which the step's action ended, if one is kept."""
    return {fence.event: fence.result} if fence.event else {}


def in_the_air(fence: Fence) -> bool:
    """Whether a call to the world is committed, and its answer is not."""
    return fence.status in {StepStatus.RUNNING, StepStatus.COMPENSATING} and not fence.pending


def park(ledger: Ledger, workflow: Workflow, setback: Setback, chance: float) -> None:
    """Commit that a try failed: wait for the next one, or, when they are spent, fail the step or wait for an operator.

    What could not be read waits for an operator in any case: a reader that is put right may still do it.
    A compensation, or an action that may not fail any more, is stuck then, and those before it hear of it.
    """
    failure, saga = setback.failure, ledger.saga(workflow)
    step = saga[failure.handler.step]
    if (delay := failure.delay(setback.attempt, chance)) is not None:
        due = ledger.now + timedelta(seconds=delay)
        ledger.park(workflow, step.name, attempt=setback.attempt, due=due, error=failure.why)
    elif failure.handler.act is Act.ACTION and not failure.is_unreadable and _may_fail(saga, step):
        ledger.fail(workflow, step, failure.why)
    else:
        ledger.park(workflow, step.name, attempt=setback.attempt, due=None, error=failure.why)
        if failure.handler.act is Act.COMPENSATION or step.name in saga.after_pivot:
            ledger.stick(workflow, step, failure.why)


def postpone(ledger: Ledger, workflow: Workflow, setback: Setback, wait: timedelta) -> None:
    """Commit that a step waits for a dependency. An action that the world cannot know of has not begun: an abort skips it."""
    failure, step = setback.failure, setback.failure.handler.step
    fence = workflow.fences.get(step)
    if isinstance(failure, Unasked) and failure.is_untouched and fence is not None and fence.status is StepStatus.RUNNING:
        ledger.move(workflow, step, StepStatus.IDLE)
    ledger.park(workflow, step, attempt=setback.attempt, due=ledger.now + wait, error=failure.why)


def unpark(ledger: Ledger, workflow: Workflow, *, calls: bool = True) -> list[Fence]:
    """Take up what is due, calls in the air too unless told otherwise; answers the fences that had failed."""
    parked = (f for f in workflow.fences.values() if operator.is_parked(f) and f.due is not None and f.due <= ledger.now)
    due = [fence for fence in parked if calls or not in_the_air(fence)]
    for fence in due:
        ledger.move(workflow, fence.step, _before_stuck(ledger.saga(workflow), fence))
    return due


def _may_fail(saga: Definition, step: Step) -> bool:
    return step.on_error == "fail" and step.name not in saga.after_pivot


def _before_stuck(saga: Definition, fence: Fence) -> StepStatus:
    """A stuck step goes back to where it was: done or withdrawn if there is something to undo, else not begun."""
    if fence.status is not StepStatus.STUCK:
        return fence.status
    if not operator.is_undoing(saga, fence):
        return StepStatus.IDLE
    return StepStatus.DONE if fence.event else StepStatus.COMPENSATING
