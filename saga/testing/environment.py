"""What `saga_env` gives a test: a fleet, time in words, deaths at named places, assertions that tell the story."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from saga.contracts.message import from_headers
from saga.errors import DefinitionError
from saga.failpoints import Failpoint, FailpointRaised, armed
from saga.protocol.definition import Step
from saga.protocol.facts import FactStatus, WorkflowStatus
from saga.span import span_of
from saga.testing.harness import Harness

MOMENTS = 1_000
"""At which time stops on its way; beyond them the rest passes at once."""


class Environment(Harness):
    """A `Harness` in the words of a test."""

    def advance(self, span: str | float | timedelta) -> None:
        """Let time pass (seconds, `"90s"`, `"2h"`, `"PT2H"`), and everything happen at the moment when it is due.

        What is under way comes to rest before, so that a timeout runs from when its step really was reached.
        """
        self.settle()
        end = self.clock.now() + timedelta(seconds=seconds(span))
        for _ in range(MOMENTS):
            due = min((moment for moment in self._moments() if self.clock.now() < moment < end), default=None)
            if due is None:
                break
            super().advance((due - self.clock.now()).total_seconds())
        super().advance((end - self.clock.now()).total_seconds())

    def _moments(self) -> Iterator[datetime]:
        """When something is due of workflows that have not ended."""
        for store in self.stores.values():
            for workflow in store._tables.workflows.values():
                if workflow.closed is None:
                    fences = (moment for fence in workflow.fences.values() for moment in (fence.due, fence.expires))
                    yield from filter(None, (workflow.deadline, workflow.unwind_by, *fences))

    def crash_at(self, place: Failpoint | str, *, participant: str, nth: int = 1) -> None:
        """Let this participant turn until its process dies at that place, and start another one.

        Raises AssertionError if it comes to rest without having been there.
        """
        if place not in [*Failpoint]:
            raise DefinitionError(f"found the place {place!r}; expected one of {', '.join(Failpoint)}")
        try:
            with armed(f"{Failpoint(place)}:raise:{nth}"):
                while self.turn(participant):
                    pass
        except FailpointRaised:
            self.crash(participant)
            return
        raise AssertionError(f"{participant} came to rest and was never at {Failpoint(place).value} {nth} times")

    def assert_saga(self, workflow_id: str) -> Outcome:
        """How the workflow stands once nothing moves any more."""
        self.settle()
        return Outcome(self, workflow_id)


class Outcome:
    """Assertions about one workflow; what fails tells its whole story."""

    def __init__(self, fleet: Environment, workflow_id: str) -> None:
        self.fleet, self.workflow_id = fleet, workflow_id

    def completed(self) -> Outcome:
        """It is done, as everybody knows."""
        return self._ended(WorkflowStatus.COMPLETED)

    def compensated(self, *, order: Sequence[str] | None = None) -> Outcome:
        """It is undone, as everybody knows; in this `order` of steps, if one is given."""
        self._ended(WorkflowStatus.COMPENSATED)
        undone = [step for step, status in self._facts() if status is FactStatus.COMPENSATED]
        if order is not None and undone != [*order]:
            raise self._wrong(f"undone were {', '.join(undone) or 'no steps'}", f"{', '.join(order)}")
        return self

    def parked(self, *, step: str) -> Outcome:
        """Its handlers wait at this step, for another try or for a person."""
        owner = self._known(step).by
        known = self.fleet.workflow(owner, self.workflow_id)
        fence = known.fences.get(step) if known else None
        if fence is None or fence.error is None:
            raise self._wrong(f"step {step!r} is {fence.status if fence else 'unknown'} and not parked", "it parked")
        return self

    def steps(self, **expected: str) -> Outcome:
        """Its steps have these statuses: `steps(hotel="done", pay="failed")`."""
        for step in expected:
            self._known(step)
        found = {step: str(status) for step, status in self.fleet.steps(self.workflow_id).items()}
        wrong = {step: found.get(step) for step, status in expected.items() if found.get(step) != status}
        if wrong:
            raise self._wrong(", ".join(f"{step!r} is {status}" for step, status in wrong.items()), f"{expected}")
        return self

    def story(self) -> str:
        """What was stated of it, in the order of the topics, and what waits."""
        lines = [f"  {step or 'the workflow'} {status}" for step, status in self._facts()]
        for name in self.fleet.stores:
            known = self.fleet.workflow(name, self.workflow_id)
            waiting = [f for f in known.fences.values() if f.error] if known else []
            lines += [f"  {name}: {fence.step} waits after {fence.attempt} tries: {fence.error}" for fence in waiting]
        absent = self.fleet.saga_of(self.workflow_id).participants - self.fleet.stores.keys()
        lines = lines or ["  nothing was ever stated of it"]
        return "\n".join(lines + [f"  {name} does not run here" for name in sorted(absent)])

    def _facts(self) -> list[tuple[str, FactStatus]]:
        told = [from_headers(dict(r.headers), r.value or b"") for log in self.fleet.facts() for r in log]
        mine = {message.id: message for message in told if message.workflow_id == self.workflow_id}
        ordered = sorted(mine.values(), key=lambda message: message.time)
        return [(message.kind.step, message.kind.status) for message in ordered]

    def _ended(self, status: WorkflowStatus) -> Outcome:
        concerned = self.fleet.stores.keys() & self.fleet.saga_of(self.workflow_id).participants
        found = {
            name: known.status if (known := self.fleet.workflow(name, self.workflow_id)) and known.closed else None
            for name in sorted(concerned)
        }
        if set(found.values()) != {status}:
            said = ", ".join(f"{name}: {end or 'open'}" for name, end in found.items())
            raise self._wrong(f"it ended as {said}", f"{status} everywhere")
        return self

    def _known(self, step: str) -> Step:
        saga = self.fleet.saga_of(self.workflow_id)
        if step not in saga:
            raise self._wrong(f"saga {saga.name!r} has no step {step!r}", f"one of {', '.join(s.name for s in saga.steps)}")
        return saga[step]

    def _wrong(self, found: str, expected: str) -> AssertionError:
        return AssertionError(f"workflow {self.workflow_id}: {found}; expected {expected}\n{self.story()}")


def seconds(span: str | float | timedelta) -> float:
    """A span of time in seconds; raises DefinitionError for what is none."""
    if isinstance(span, timedelta):
        return span.total_seconds()
    if isinstance(span, str):
        try:
            return span_of(span).total_seconds()
        except ValueError as error:
            raise DefinitionError(str(error)) from error
    return span
