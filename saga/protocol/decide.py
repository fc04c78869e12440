"""What a participant does with what it knows: the heart of the protocol, one pure function.

`decide` gives the same end whatever the order, delay or repetition of the facts. It is called again after each of its
actions has been carried out, until it asks for nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from saga.protocol.definition import Definition, Step
from saga.protocol.facts import REPORTS, Fact, FactStatus, StepStatus, WorkflowStatus


class FenceView(Protocol):
    """What `decide` must know of an own step.

    `pending`: a running step whose handler returned `Pending`, or such a step withdrawn and not yet being undone.
    A step that is running or compensating and not pending has an external call in hand, whose outcome comes first.
    `refused`: a done pivot has said so.
    """

    @property
    def status(self) -> StepStatus: ...
    @property
    def pending(self) -> bool: ...
    @property
    def refused(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Run:
    """Run the action of an idle step; `trigger` is the join that is satisfied."""

    step: str
    trigger: frozenset[str]


@dataclass(frozen=True, slots=True)
class Skip:
    """Put a tombstone on a step that has not happened, and report it: a late trigger finds it and is refused."""

    step: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Fence a step that waits for the world (`Pending`): it is compensated later, a late answer is refused."""

    step: str


@dataclass(frozen=True, slots=True)
class Compensate:
    """Undo a done step; everything that built on it is undone already."""

    step: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """State that the pivot is done, so that whoever wished to abort hears that there is no way back."""

    step: str


@dataclass(frozen=True, slots=True)
class Close:
    """Fold all that is known of the workflow into one closed row."""

    outcome: WorkflowStatus


Action = Run | Skip | Withdraw | Compensate | Refuse | Close

_UNDONE = frozenset({StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.COMPENSATED})
_UNWINDING = _UNDONE | {StepStatus.COMPENSATING}


def decide(saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]) -> tuple[Action, ...]:
    """What `participant` must do now about one workflow.

    `facts` are those received so far, own ones included once they came back from the topics; `fences` are the participant's
    own steps that are not idle. Own steps are judged by their fences alone, foreign ones by facts alone.
    """
    knowledge = _Knowledge(saga, participant, facts, fences)
    if (outcome := knowledge.outcome()) is not None:
        return (*knowledge.refusals(), Close(outcome))
    actions = (knowledge.action(step) for step in saga.owned(participant))
    return tuple(action for action in actions if action is not None)


def answer(saga: Definition, participant: str, fact: Fact, fences: Mapping[str, FenceView]) -> Refuse | None:
    """What a closed workflow answers to a late fact: whoever still wishes to abort hears once that the pivot is done.

    `fences` may hold statuses and `refused` only. Every other late fact is acknowledged without effect.
    """
    if fact.status not in (FactStatus.ABORT, FactStatus.FAILED):
        return None
    pivots = (step.name for step in saga.owned(participant) if step.name in saga.pivots and step.name in fences)
    unheard = (name for name in pivots if fences[name].status is StepStatus.DONE and not fences[name].refused)
    return next(map(Refuse, unheard), None)


def status(saga: Definition, facts: Collection[Fact], fences: Mapping[str, FenceView]) -> WorkflowStatus:
    """How an open workflow stands: once a pivot is done, as what comes after it proves too, it is never `failed`."""
    done = {f.step for f in facts if f.status is FactStatus.DONE}
    done.update(name for name, fence in fences.items() if fence.status is StepStatus.DONE)
    if done & saga.from_pivot or any(f.status is FactStatus.REFUSED for f in facts):
        return WorkflowStatus.IN_PROGRESS
    unwinding = any(f.status in REPORTS or f.status is FactStatus.ABORT for f in facts)
    if unwinding or any(fence.status in _UNWINDING for fence in fences.values()):
        return WorkflowStatus.FAILED
    return WorkflowStatus.IN_PROGRESS


class _Knowledge:
    """The facts of one workflow, read once."""

    __slots__ = ("aborted", "done", "fences", "reported", "saga", "statuses", "steps")

    def __init__(self, saga: Definition, participant: str, facts: Collection[Fact], fences: Mapping[str, FenceView]) -> None:
        self.saga, self.fences = saga, fences
        self.steps = saga.owned(participant)
        self.statuses = {(f.step, f.status) for f in facts}
        self.done = {f.event for f in facts if f.status is FactStatus.DONE}
        self.reported = {f.step for f in facts if f.status in REPORTS}
        self.reported.update(f.step for f in facts if f.status is FactStatus.STUCK and f.step in saga.passed_over)
        self.reported.update(name for name, fence in fences.items() if fence.status in _UNDONE)
        self.aborted = (
            bool(self.reported)
            or any(status is FactStatus.ABORT for _, status in self.statuses)
            or any(fence.status in _UNWINDING for fence in fences.values())
        )

    def outcome(self) -> WorkflowStatus | None:
        """How the workflow ended, once it is known here."""
        root, sink = self.saga.root.name, self.saga.sink.name
        if (sink, FactStatus.DONE) in self.statuses or self._own(sink) is StepStatus.DONE:
            return WorkflowStatus.COMPLETED
        if (root, FactStatus.COMPENSATED) in self.statuses or self._own(root) is StepStatus.COMPENSATED:
            return WorkflowStatus.COMPENSATED
        if self._on_untaken_branch():
            return WorkflowStatus.COMPLETED
        return None

    def _on_untaken_branch(self) -> bool:
        """A pivot elsewhere is done and all own steps are tombstones: nothing can happen here any more."""
        return any(status is FactStatus.REFUSED for _, status in self.statuses) and all(
            self._own(step.name) is StepStatus.SKIPPED for step in self.steps
        )

    def refusals(self) -> tuple[Refuse, ...]:
        return tuple(
            Refuse(step.name)
            for step in self.steps
            if step.name in self.saga.pivots and self._own(step.name) is StepStatus.DONE and self._must_refuse(step)
        )

    def action(self, step: Step) -> Action | None:
        match self._own(step.name):
            case StepStatus.IDLE:
                return self._begin(step)
            case StepStatus.RUNNING:
                return self._interrupt(step)
            case StepStatus.DONE if step.name in self.saga.pivots:
                return Refuse(step.name) if self._must_refuse(step) else None
            case StepStatus.DONE:
                return Compensate(step.name) if self._may_undo(step) else None
            case StepStatus.COMPENSATING if self.fences[step.name].pending:
                return Compensate(step.name) if self._may_undo(step) else None
            case _:
                return None

    def _begin(self, step: Step) -> Action | None:
        if self.aborted and step.name not in self.saga.after_pivot:
            return Skip(step.name)
        trigger = next((join for join in step.on if self.done.issuperset(join)), None)
        return Run(step.name, trigger) if trigger else None

    def _interrupt(self, step: Step) -> Action | None:
        if not self.aborted or step.name in self.saga.after_pivot or not self.fences[step.name].pending:
            return None  # an external call whose intent is committed: its outcome comes first
        return Skip(step.name) if step.name in self.saga.pivots else Withdraw(step.name)

    def _must_refuse(self, step: Step) -> bool:
        return self.aborted and not self.fences[step.name].refused

    def _may_undo(self, step: Step) -> bool:
        awaited = self.saga.awaited_reports[step.name]
        return self.aborted and step.name not in self.saga.after_pivot and awaited <= self.reported

    def _own(self, step: str) -> StepStatus:
        fence = self.fences.get(step)
        return StepStatus.IDLE if fence is None else fence.status
