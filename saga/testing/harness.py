"""A whole fleet in one thread, for tests: every participant on a memory store and one memory broker, turned by hand.

The engine is the very one that runs in production; only time, the log and the databases are stand-ins, which pass the same
conformance suites as the real ones. Nothing happens between calls, so a test decides what comes when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Self, TypeVar

from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.contracts.topics import fact_topics, saga_topics
from saga.engine.loop import Loop
from saga.errors import DefinitionError, LaneStopped, LifecycleError
from saga.evolution.change import Verdict
from saga.evolution.diff import diff
from saga.handling.tracing import Tracer
from saga.participant.gates import EnvironmentGates
from saga.participant.participant import Participant
from saga.protocol.facts import StepStatus
from saga.store.memory import MemoryStore
from saga.store.port import Store, Transaction
from saga.store.workflow import Workflow
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryBroker, MemoryConsumer
from saga.transport.port import Record

_T = TypeVar("_T")


class _OfParticipants(dict[str, _T]):
    """Something of each participant, by name."""

    def __missing__(self, name: str) -> _T:
        raise DefinitionError(f"found the participant {name!r}; expected one of those that run here: {', '.join(self)}")


class Harness:
    """Runs participants of one saga; `chance` in [0, 1) stands for the jitter of retries, `hold` is in seconds: for how long
    a delivered event waits for its acknowledgments before its row is marked. So is `mark_after`: the pace of what can wait.
    Workflows are deleted `keep_workflows` after they were closed; without it never.

    The participants get the harness's clock, which stands still until told, and ask anew which gates `SAGA_GATES` opens.

    `broker`, `stores` (by participant) and `clock` may be looked into and tampered with.
    """

    def __init__(
        self,
        *participants: Participant,
        partitions: int = 2,
        chance: Callable[[], float] = lambda: 0.5,
        clock: ManualClock | None = None,
        hold: float = 0.0,
        mark_after: float = 0.0,
        tracer: Tracer | None = None,
        keep_workflows: timedelta | None = None,
    ) -> None:
        if not participants or not all(isinstance(one, Participant) for one in participants):
            found = ", ".join(type(one).__name__ for one in participants) or "nobody"
            raise DefinitionError(f"found {found}; expected the participants of one saga one by one, as in (orders, stock)")
        refuse_disagreement(participants)
        self.participants = {participant.name: participant for participant in participants}
        self.saga = participants[0].saga
        self.clock, self.partitions, self.chance, self.hold = clock or ManualClock(), partitions, chance, hold
        self.tracer, self.mark_after, self.keep_workflows = tracer, mark_after, keep_workflows
        self.broker = MemoryBroker(saga_topics(self.saga.name), partitions=partitions)
        self.stores = _OfParticipants({name: self.new_store() for name in self.participants})
        self.loops = _OfParticipants[Loop]()
        for name, participant in self.participants.items():
            self._prepare(participant)
            self.loops[name] = self._joined(name)
        self.settle()

    def start(self, event: Event, *, workflow_id: str | None = None) -> str:
        """Begin a workflow at its initiator; answers its id."""
        with self.transaction(self.saga.initiator) as tx:
            return self.participants[self.saga.initiator].start(event, tx, workflow_id=workflow_id)

    def abort(self, workflow_id: str, *, by: str, reason: str = "test") -> None:
        """Wish, in the store of `by`, that the workflow unwinds."""
        with self.transaction(by) as tx:
            self.participants[by].abort(workflow_id, tx, reason=reason)

    @contextmanager
    def transaction(self, participant: str) -> Iterator[Transaction]:
        """A transaction of this participant's store, as its web process would have."""
        with self.stores[participant].transaction() as tx:
            yield tx

    def turn(self, participant: str) -> bool:
        """One turn of one participant; answers whether anything moved."""
        return self.loops[participant].turn()

    def settle(self, rounds: int = 1000) -> None:
        """Turn all until nothing moves; raises LifecycleError if that does not come."""
        for _ in range(rounds):
            if not any([self.turn(name) for name in self.loops]):
                return
        raise LifecycleError(f"after {rounds} rounds the fleet is still busy")

    def advance(self, seconds: float) -> None:
        """Let time pass at once, then turn all until nothing moves."""
        self.clock.advance(seconds)
        self.settle()

    def crash(self, participant: str) -> None:
        """Let its process die where it stands and start another one on the same store."""
        died = self.loops[participant]
        assert isinstance(died.consumer, MemoryConsumer)
        self.broker.evict(died.consumer)
        died.abandon()
        self.loops[participant] = self._joined(participant)

    def deploy(self, participant: Participant) -> None:
        """Replace the participant of this name by another release: the old process ends in an orderly way, the store stays."""
        self._prepare(participant)
        self.loops[participant.name].leave()
        self.participants[participant.name] = participant
        self.loops[participant.name] = self._joined(participant.name)

    def close(self) -> None:
        """End all participants where they stand."""
        for loop in self.loops.values():
            loop.abandon()
        for store in self.stores.values():
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def workflow(self, participant: str, workflow_id: str) -> Workflow | None:
        """What this participant's store knows of the workflow."""
        found = self.stores[participant].find(workflow_id)
        return found[0][1] if found else None

    def saga_of(self, workflow_id: str) -> Saga:
        """The saga as this workflow runs it; the latest version if nobody knows the workflow, or its version any more."""
        for name, participant in self.participants.items():
            known = self.workflow(name, workflow_id)
            if known is not None and known.version in participant.versions and not participant.versions.lost(known):
                return participant.versions.of(known)
        return self.saga

    def steps(self, workflow_id: str) -> dict[str, StepStatus]:
        """Status of every step, as its owner's store says."""
        steps = self.saga_of(workflow_id).steps
        known = {step.name: self.workflow(step.by, workflow_id) for step in steps if step.by in self.stores}
        return {
            name: workflow.fences[name].status if workflow and name in workflow.fences else StepStatus.IDLE
            for name, workflow in known.items()
        }

    def facts(self) -> list[list[Record]]:
        """Everything that was stated so far: the log of each partition on which facts travel."""
        return [log for partition, log in self.broker.logs.items() if partition.topic in fact_topics(self.saga.name)]

    def stopped(self) -> dict[str, list[LaneStopped]]:
        """The lanes that stopped, by participant."""
        errors = {name: [o.stopped for o in loop.lanes.owned.values() if o.stopped] for name, loop in self.loops.items()}
        return {name: found for name, found in errors.items() if found}

    def new_store(self) -> MemoryStore:
        """An empty store of one participant."""
        return MemoryStore(self.clock)

    def store(self, participant: str) -> Store:
        """The store as this participant's processes see it."""
        return self.stores[participant]

    def _prepare(self, participant: Participant) -> None:
        participant.check()
        participant.clock = self.clock
        if isinstance(participant.gates, EnvironmentGates):  # an earlier fleet may have read what SAGA_GATES was then
            participant.gates = EnvironmentGates(participant.versions)

    def _joined(self, name: str) -> Loop:
        loop = Loop(
            self.participants[name],
            self.store(name),
            self.broker,
            self.partitions,
            batch=500,
            stopping=threading.Event(),
            chance=self.chance,
            tracer=self.tracer,
            clock=self.clock,
            idle_wait=0.0,
            mark_after=self.mark_after,
            hold=self.hold,
            due_every=0.0,
            keep_workflows=self.keep_workflows,
        )
        loop.unhandled.sweep_every = loop.unhandled.judge_every = 0.0
        loop.join()
        return loop


def refuse_disagreement(participants: Sequence[Participant]) -> None:
    """Who has other contracts for the same version would wait for what never comes, or could not read what does."""
    first: dict[int, tuple[Participant, Saga]] = {}
    for participant in participants:
        for saga in participant.versions:
            other, theirs = first.setdefault(saga.version, (participant, saga))
            if changes := _changes(theirs, saga, is_registered=participant.versions.codec(saga.version).registry is not None):
                raise DefinitionError(
                    f"{other.name!r} and {participant.name!r} have different contracts that claim to be saga {saga.name!r} of "
                    f"version {saga.version}: {'; '.join(changes)}. Give both the same, or the changed one another version"
                )


def _changes(old: Saga, new: Saga, *, is_registered: bool) -> list[str]:
    """What keeps them from going together; most are alike to the letter, which is seen at once."""
    if (old.own, old.types) == (new.own, new.types):
        return []
    found = diff(old, new)
    unread = () if is_registered else found.rewritten
    return [
        *(str(change) for change in found.changes if change.verdict is not Verdict.COMPATIBLE),
        *(f"{name}: without a registry neither reads what the other writes" for name in unread),
    ]
