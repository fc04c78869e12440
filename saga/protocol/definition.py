"""What a saga is: its steps, which follow which, and where there is no way back. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cached_property
from typing import Literal

from saga.errors import DefinitionError


class Undo(Enum):
    """Marks a step that has nothing to undo: `"compensated": null` in the schema."""

    NOTHING = "nothing"


Compensated = str | Literal[Undo.NOTHING] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One local transaction of one participant.

    `on` is a disjunction of joins: the step is triggered when all events of one of its sets are there; empty for the root.
    `emits` are alternatives, of which one is emitted. `fails` is the event of a business failure, None where the step may not
    fail. `compensated` names the event that reports the undoing, `Undo.NOTHING` says there is nothing to undo, None that the
    step cannot be undone (at and after a pivot). `gate` names the feature gate that the step is behind, `!name` for a step that
    is there while the gate is shut.
    """

    name: str
    by: str
    on: tuple[frozenset[str], ...] = ()
    emits: tuple[str, ...] = ()
    fails: str | None = None
    compensated: Compensated = None
    pivot: bool = False
    external: bool = False
    timeout: timedelta | None = None
    on_error: Literal["park", "fail"] = "park"
    on_stuck: Literal["wait", "continue"] = "wait"
    gate: str | None = None
    acknowledged: bool = True

    @property
    def consumes(self) -> frozenset[str]:
        """Every event that may take part in a trigger of this step."""
        return frozenset().union(*self.on)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The events with which the action may end: what it emits and how it fails."""
        return (*self.emits, self.fails) if self.fails else self.emits


@dataclass(frozen=True, eq=False, kw_only=True)
class Definition:
    """The choreography of one saga version: who does what after which event.

    Construction refuses (`DefinitionError`) what has no meaning at all: no root, no unique completing step, an event that
    two steps emit, nobody emits or that means two things, a cycle. What has a meaning but is unsafe is the business of
    `saga check`.
    """

    name: str
    version: int = 1
    owner: str = ""
    deadline: timedelta | None = None
    unwind: timedelta | None = None
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        self._refuse_empty()
        self._refuse_two_meanings()
        self._refuse_duplicates()
        self._refuse_unknown_events()
        self._refuse_cycles()
        _ = self.root, self.sink

    def __getitem__(self, step: str) -> Step:
        """The step of that name; KeyError if there is none."""
        return self._by_name[step]

    def __contains__(self, step: object) -> bool:
        return step in self._by_name

    @cached_property
    def _by_name(self) -> Mapping[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def emitter(self) -> Mapping[str, str]:
        """Event to the step that emits it on success."""
        return {event: step.name for step in self.steps for event in step.emits}

    @cached_property
    def participants(self) -> frozenset[str]:
        return frozenset(step.by for step in self.steps)

    @cached_property
    def root(self) -> Step:
        """The step that starts a workflow; its owner is the initiator."""
        return self._only("root (a step without `on`)", (s for s in self.steps if not s.on))

    @cached_property
    def sink(self) -> Step:
        """The completing step: the one whose events trigger nothing."""
        return self._only(
            "completing step (a step whose events trigger no other)",
            (s for s in self.steps if not self.successors[s.name]),
        )

    @property
    def initiator(self) -> str:
        return self.root.by

    @cached_property
    def triggered_by(self) -> Mapping[str, tuple[str, ...]]:
        """Event to the steps that it may trigger, alone or in a join."""
        events = {event for step in self.steps for event in step.consumes}
        return {e: tuple(s.name for s in self.steps if e in s.consumes) for e in events}

    @cached_property
    def successors(self) -> Mapping[str, tuple[str, ...]]:
        """Step to the steps that any of its events may trigger."""
        return {step.name: tuple(s.name for s in self.steps if s.consumes & set(step.emits)) for step in self.steps}

    @cached_property
    def predecessors(self) -> Mapping[str, tuple[str, ...]]:
        return {step.name: tuple(s.name for s in self.steps if step.name in self.successors[s.name]) for step in self.steps}

    @cached_property
    def pivots(self) -> frozenset[str]:
        """The declared pivots; without any, the completing step."""
        return frozenset(s.name for s in self.steps if s.pivot) or frozenset({self.sink.name})

    @cached_property
    def after_pivot(self) -> frozenset[str]:
        """Steps that only go forward: those reachable from a pivot, the pivots themselves excluded."""
        found: set[str] = set()
        frontier = [name for pivot in self.pivots for name in self.successors[pivot]]
        while frontier:
            name = frontier.pop()
            if name not in found:
                found.add(name)
                frontier.extend(self.successors[name])
        return frozenset(found)

    @cached_property
    def from_pivot(self) -> frozenset[str]:
        """The pivots and what comes after them: once one of these is done, the workflow only goes forward."""
        return self.pivots | self.after_pivot

    @cached_property
    def undoable(self) -> frozenset[str]:
        """Steps with a compensation that may run: what they did must be remembered."""
        return frozenset(s.name for s in self.steps if isinstance(s.compensated, str) and s.name not in self.from_pivot)

    @cached_property
    def passed_over(self) -> frozenset[str]:
        """Steps of which a compensation that is stuck counts as a report: nobody waits for it."""
        return frozenset(s.name for s in self.steps if s.on_stuck == "continue" and s.name not in self.from_pivot)

    @cached_property
    def awaited_reports(self) -> Mapping[str, frozenset[str]]:
        """Step to the direct successors that must have reported before it may be compensated."""
        return {name: frozenset(after) - self.after_pivot for name, after in self.successors.items()}

    def owned(self, participant: str) -> tuple[Step, ...]:
        """The participant's own steps, in the order of the schema."""
        return self._owned.get(participant, ())

    def wanted(self, participant: str) -> frozenset[str]:
        """The events that may take part in a trigger of the participant's steps."""
        return self._wanted.get(participant, frozenset())

    @cached_property
    def _wanted(self) -> Mapping[str, frozenset[str]]:
        return {p: frozenset().union(*(s.consumes for s in self.owned(p))) for p in self.participants}

    @cached_property
    def _owned(self) -> Mapping[str, tuple[Step, ...]]:
        return {p: tuple(s for s in self.steps if s.by == p) for p in self.participants}

    def _only(self, what: str, found: Iterable[Step]) -> Step:
        steps = list(found)
        if len(steps) != 1:
            names = ", ".join(s.name for s in steps) or "none"
            raise DefinitionError(f"saga {self.name!r}: found {names}; expected exactly one {what}")
        return steps[0]

    def _refuse_empty(self) -> None:
        for step in self.steps:
            if not step.emits or not all(step.on):
                what = "emits no event" if not step.emits else "has a trigger without events"
                raise DefinitionError(f"saga {self.name!r}: step {step.name!r} {what}; name at least one event there")

    def _refuse_two_meanings(self) -> None:
        for step in self.steps:
            endings = [*step.outcomes, *([step.compensated] if isinstance(step.compensated, str) else [])]
            for event in sorted({e for e in endings if endings.count(e) > 1}):
                raise DefinitionError(
                    f"saga {self.name!r}: step {step.name!r} uses {event!r} in two meanings; "
                    "its success, failure and compensation each need an event of their own"
                )

    def _refuse_duplicates(self) -> None:
        names = [step.name for step in self.steps]
        events = [event for step in self.steps for event in step.emits]
        for word, values in (("step", names), ("event", events)):
            for value in sorted({v for v in values if values.count(v) > 1}):
                raise DefinitionError(
                    f"saga {self.name!r}: {word} {value!r} is declared twice; each {word} needs a name of its own"
                )

    def _refuse_unknown_events(self) -> None:
        for step in self.steps:
            for event in sorted(step.consumes - set(self.emitter)):
                raise DefinitionError(
                    f"saga {self.name!r}: step {step.name!r} waits for {event!r}, which no step emits; "
                    f"emitted are {', '.join(sorted(self.emitter))}"
                )

    def _refuse_cycles(self) -> None:
        settled: set[str] = set()
        while len(settled) < len(self.steps):
            free = {s.name for s in self.steps if s.name not in settled and settled.issuperset(self.predecessors[s.name])}
            if not free:
                circle = ", ".join(s.name for s in self.steps if s.name not in settled)
                raise DefinitionError(f"saga {self.name!r}: steps {circle} wait for each other in a circle")
            settled |= free
