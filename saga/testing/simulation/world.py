"""A fleet to which acts happen: the engine of production over a simulated log, stores, clock and chance, in one thread."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, cast

from saga.contracts.event import Event
from saga.contracts.message import Message, from_headers
from saga.engine.loop import Loop
from saga.errors import Refused
from saga.failpoints import Failpoint, FailpointRaised, armed, interrupted
from saga.participant.participant import Participant
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Reason
from saga.store.memory import MemoryStore
from saga.store.port import Store, Transaction
from saga.store.workflow import Workflow
from saga.testing.harness import Harness
from saga.testing.simulation.act import (
    Abort,
    Act,
    Break,
    Crash,
    CrashAt,
    Cut,
    Deploy,
    Disturb,
    Duplicate,
    Fail,
    Heal,
    Hold,
    Join,
    Leave,
    Operate,
    Overtake,
    Prune,
    Raise,
    Refuse,
    Stall,
    Start,
    Turn,
    Wait,
)
from saga.testing.simulation.faulty import DepartingUnit, FaultyStore
from saga.testing.simulation.mischief import EFFECTS, Mischief
from saga.testing.simulation.network import Network
from saga.transport.memory import MemoryConsumer
from saga.transport.port import Partition, Record

Begin = Callable[[int], Event]
"""The event with which the workflow of this number begins."""
Prepare = Callable[[str, Transaction], None]
"""Makes the tables and rows that the handlers of this participant need."""

TAKEN_OVER = "a process was taken over and went on"
REFUSED = "an abort was refused at once"
PARKED = "a workflow is parked"
TAKEN_BACK = "a release is taken back"
WAITED = "a record waited for a release that knows its version"

KEEP = timedelta(days=30)
"""For so long workflows are kept that have ended."""
PATIENCE = 20
"""Rounds of five minutes and an operator's work, after which everything must have ended."""
_HEIRS_TURNS = 3
_LETTERS = 1_000


class Workflows(dict[tuple[str, str], Workflow]):
    """Those that a store knows, and as they were, those that were deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: dict[tuple[str, str], Workflow] = {}

    def __delitem__(self, key: tuple[str, str]) -> None:
        self.gone[key] = self[key]
        super().__delitem__(key)


class World(Harness):
    """The fleet of one run. `seen` counts rare states, `died` says what ended a process that nobody had killed, `pruned` are
    the workflows that were deleted, by participant.
    """

    def __init__(
        self,
        participants: Sequence[Participant],
        begin: Begin,
        prepare: Prepare | None,
        *,
        seed: int,
        partitions: int = 2,
        releases: Sequence[Participant] = (),
    ) -> None:
        self.begin, self.seen, self.mischief = begin, Counter[str](), Mischief()
        self.faulty: dict[str, FaultyStore] = {}
        self.second: dict[str, Loop] = {}
        self.workflows: dict[int, str] = {}
        self.died: list[str] = []
        self.lost = 0
        dice = random.Random(f"jitter {seed}")  # noqa: S311 - a seed is what is wanted
        self.releases = {one.name: [one] for one in map(self.mischief.in_, participants)}
        for one in map(self.mischief.in_, releases):
            self.releases[one.name].append(one)
        super().__init__(
            *(releases[0] for releases in self.releases.values()),
            partitions=partitions,
            chance=dice.random,
            hold=(seed % 3) * 1.0,
            mark_after=(seed % 2) * 0.5,
            keep_workflows=KEEP,
        )
        self.network = Network(self.saga.name, self.stores, self._consumers, self.seen)
        self.broker.fault = self.network.refuses
        for name in self.participants:
            with self.transaction(name) as tx:
                tx.execute(EFFECTS)
                if prepare is not None:
                    prepare(name, tx)

    def new_store(self) -> MemoryStore:
        store = MemoryStore(self.clock, kind=DepartingUnit)
        store._tables.workflows = Workflows()
        return store

    @property
    def pruned(self) -> dict[str, dict[tuple[str, str], Workflow]]:
        return {name: cast(Workflows, store._tables.workflows).gone for name, store in self.stores.items()}

    def store(self, participant: str) -> Store:
        if participant not in self.faulty:
            self.faulty[participant] = FaultyStore(self.stores[participant], self.seen)
        return cast(Store, self.faulty[participant])

    def perform(self, act: Act) -> None:
        """Let one act happen; one that makes no sense now is passed over."""
        match act:
            case Start(number):
                self.workflows[number] = self.start(self.begin(number), workflow_id=f"w{number}")
            case Turn(name, process):
                self._turn(name, self.second.get(name) if process else None)
            case Wait(seconds):
                self.clock.advance(seconds)
            case Raise(number, step, deed, times):
                self.mischief.raising[f"w{number}", step, deed] = times
            case Break(number, step, deed):
                self.mischief.broken.add((f"w{number}", step, deed))
            case Fail(number, step):
                self.mischief.failing.add((f"w{number}", step))
            case Crash(name):
                self._crash(name)
            case CrashAt(name, place, nth):
                self._crash_at(name, place, nth)
            case Stall(name, place):
                self._stall(name, place)
            case Join(name):
                if name not in self.second:
                    self.second[name] = self._joined(name)
            case Leave(name):
                if (loop := self.second.pop(name, None)) is not None:
                    self._guarded(name, loop.leave)
            case Duplicate(place):
                self._duplicate(place)
            case Hold(name, topic):
                self.network.hold(name, self.loops[name].lanes.topics[topic])
            case Refuse(name):
                self.network.refused.add(name)
            case Overtake():
                self.network.overtakes = True
            case Cut(name):
                self.network.cut(name)
            case Heal(name):
                self.network.heal(name)
            case Disturb(name, fault):
                self.faulty[name].next = fault
            case Abort(name, number):
                self._abort(name, number)
            case Operate(name):
                self.operate(name)
            case Deploy(name, place):
                self._deploy(name, self.releases[name][int(place * len(self.releases[name]))])
            case Prune(name):
                self._guarded(name, self.loops[name].agenda.prune)
        self._look()

    def calm(self, *, attended: bool = True, beside: Container[str] = ()) -> None:
        """No more trouble from outside: everything is there again until all has ended, but for workflows `beside` it.

        Whatever waits for a person is tried again, if anybody attends.
        """
        self.network.overtakes = False
        self.network.refused.clear()
        for name in self.participants:
            self.faulty[name].next = None
            self.network.heal(name)
            if (loop := self.second.pop(name, None)) is not None:
                self._guarded(name, loop.leave)
            if self.participants[name] is not self.releases[name][0]:
                self._deploy(name, self.releases[name][0])
        for _ in range(PATIENCE):
            self.settle()
            if self.died or self.is_over(beside):
                return
            for name in self.participants if attended else ():
                self.operate(name)
            self.clock.advance(301)
        self.settle()

    def is_over(self, beside: Container[str] = ()) -> bool:
        """Whether all others that were begun have ended for everybody, and everybody knows that everybody knows."""
        for store in self.stores.values():
            if any(w.closed is None and w.id not in beside for w in store._tables.workflows.values()):
                return False
            if any(rows and workflow not in beside for (_, workflow), rows in store._tables.outbox.items()):
                return False
        return not any(self.never_ran(name) or self._recalled(one) for name, one in self.participants.items())

    def recall(self) -> None:
        """Put back what was deleted, to be judged as it was then, unless it is there again."""
        for name, store in self.stores.items():
            for key, workflow in self.pruned[name].items():
                store._tables.workflows.setdefault(key, workflow)

    def too_late(self) -> dict[str, list[DeadLetter]]:
        """What each participant has put aside since its workflow may have been pruned, and nobody has taken up again."""
        wanted = LetterSearch(reason=Reason.PRUNED, state=LetterState.WAITING)
        found = {}
        for name, store in self.stores.items():
            with store.unit() as unit:
                found[name] = unit.letters(wanted, _LETTERS)
        return found

    def never_ran(self, name: str) -> list[DeadLetter]:
        """What the participant has put aside though its workflow was never here."""
        return [one for one in self.too_late()[name] if (self.saga.name, one.workflow_id) not in self.pruned[name]]

    def operate(self, name: str) -> None:
        """Have all that is parked in this store tried again, and what was put aside though its workflow was never here."""
        new = self.never_ran(name)
        with self.stores[name].unit() as unit:
            unit.settle(new, LetterState.REQUEUED, self.clock.now(), by="simulation", note="it never ran")
        for workflow_id in self.workflows.values():
            known = self.workflow(name, workflow_id)
            if known is not None and known.is_parked:
                with self.transaction(name) as tx, suppress(Refused):  # this release may not know its version
                    self.participants[name].retry(workflow_id, tx)

    def settle(self, rounds: int = 300) -> None:
        """Turn all until nothing moves; a process that dies is started again, and those that rest are given time."""
        for number in range(rounds):
            if not any([self._turn(name, loop) for name, loop in self._running()]) or self.died:
                return
            if number % 20 == 19:
                self.clock.advance(1)
        self.died.append(f"after {rounds} rounds the fleet is still busy")

    def messages(self) -> Iterator[tuple[Record, Message]]:
        """All facts that were stated, partition by partition."""
        for log in self.facts():
            for record in log:
                yield record, from_headers(dict(record.headers), record.value or b"")

    def effects(self, name: str) -> list[tuple[int, str, str, str]]:
        """What this participant's handlers did and committed: (moment, workflow, step, deed), in order."""
        with self.transaction(name) as tx:
            found = tx.execute("SELECT moment, workflow, step, deed FROM simulated_effects ORDER BY moment").fetchall()
        return [(int(row[0]), str(row[1]), str(row[2]), str(row[3])) for row in found]

    def close(self) -> None:
        for loop in self.second.values():
            loop.abandon()
        super().close()

    def _running(self) -> list[tuple[str, Loop]]:
        return [*self.loops.items(), *self.second.items()]

    def _turn(self, name: str, loop: Loop | None = None) -> bool:
        return bool(self._guarded(name, (loop or self.loops[name]).turn))

    def _guarded(self, name: str, work: Callable[[], Any]) -> Any:
        """Whatever ends a process that nobody killed is a finding."""
        try:
            return work()
        except FailpointRaised:
            raise
        except Exception as error:
            self.died.append(f"{name} died of {type(error).__name__}: {error}")
            self._crash(name)
            return True

    def _crash(self, name: str) -> None:
        self.lost += self.loops[name].unhandled.lost
        if (second := self.second.pop(name, None)) is not None:
            assert isinstance(second.consumer, MemoryConsumer)
            self.broker.evict(second.consumer)
            second.abandon()
        self.crash(name)
        self.network.admit(name)

    def _deploy(self, name: str, release: Participant) -> None:
        self.seen[WAITED] += len(self._recalled(release))
        self.seen[TAKEN_BACK] += not {*self.participants[name].versions.numbers} <= {*release.versions.numbers}
        self.lost += self.loops[name].unhandled.lost
        self._guarded(name, lambda: self.deploy(release))
        self.network.admit(name)

    def _recalled(self, release: Participant) -> list[DeadLetter]:
        """What of the letters in its store this release is to take in again."""
        with self.stores[release.name].unit() as unit:
            return unit.recalled(self.saga.name, range(self.partitions), release.versions.numbers, _LETTERS)

    def _crash_at(self, name: str, place: Failpoint, nth: int) -> None:
        try:
            with armed(f"{place}:raise:{nth}"):
                self._turn(name)
        except FailpointRaised:
            self.seen[died_at(place)] += 1
            self._crash(name)

    def _stall(self, name: str, place: Failpoint | None) -> None:
        """The first process is declared dead in the middle of its turn, and is not."""
        if (heir := self.second.get(name)) is None:
            return
        stalled = self.loops[name]

        def take_over() -> None:
            if self.stores[name]._open:
                return  # another lane's transaction, and in one thread nobody else can turn in the midst of it
            assert isinstance(stalled.consumer, MemoryConsumer)
            self.broker.evict(stalled.consumer)
            self.seen[TAKEN_OVER] += 1
            for _ in range(_HEIRS_TURNS):
                self._turn(name, heir)

        if place is not None:
            with interrupted(place, take_over):
                self._turn(name)
            return
        with _after_poll(stalled, take_over):
            self._turn(name)

    def _duplicate(self, place: float) -> None:
        records = [record for log in self.broker.logs.values() for record in log]
        if records:
            again = records[int(place * len(records))]
            log = self.broker.logs[Partition(again.topic, again.partition)]
            log.append(again._replace(offset=len(log)))

    def _abort(self, name: str, number: int) -> None:
        if number not in self.workflows:
            return
        try:
            self.abort(self.workflows[number], by=name)
        except Refused:
            self.seen[REFUSED] += 1

    def _consumers(self, name: str) -> list[MemoryConsumer]:
        loops = [self.loops[name], *([self.second[name]] if name in self.second else [])]
        return [loop.consumer for loop in loops if isinstance(loop.consumer, MemoryConsumer)]

    def _look(self) -> None:
        """Count the rare states that the stores show now."""
        for store in self.stores.values():
            if any(workflow.is_parked for workflow in store._tables.workflows.values()):
                self.seen[PARKED] += 1


def died_at(place: Failpoint) -> str:
    """The state that a process died at this place."""
    return f"a process died at {place}"


@contextmanager
def _after_poll(loop: Loop, act: Callable[[], None]) -> Iterator[None]:
    poll = loop.consumer.poll

    def polled(limit: int, timeout: float) -> list[Record]:
        found = poll(limit, timeout)
        act()
        return found

    loop.consumer.poll = polled  # type: ignore[method-assign]
    try:
        yield
    finally:
        del loop.consumer.poll
