"""Whole fleets in one process under seeded trouble: the same seed always gives the same run, to the letter."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import create_model

from saga.contracts.event import Event
from saga.contracts.message import from_headers
from saga.engine.retention import MARGIN
from saga.errors import DefinitionError
from saga.participant.participant import Participant
from saga.protocol.facts import FactStatus, StepStatus
from saga.store.workflow import Workflow
from saga.testing.harness import refuse_disagreement
from saga.testing.simulation.act import Schedule
from saga.testing.simulation.drawing import Drawing, Kind
from saga.testing.simulation.rare import met
from saga.testing.simulation.specimen import specimen
from saga.testing.simulation.verdict import Violation, judge
from saga.testing.simulation.world import KEEP, Begin, Prepare, World

Look = Callable[[World], Iterable[str]]
"""What else must hold when the fleet has come to rest: each text is something that does not."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was broken, which rare states were met how often, and (if it was traced) what happened."""

    seed: int
    schedule: Schedule
    violations: tuple[Violation, ...]
    seen: Counter[str]
    trace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is simulated: these participants of one saga, all of them, with `workflows` that `begin` says how to start.

    With `liveness`, a handler is broken for good in a third of the workflows, and all others have to end without anybody's help
    before it is repaired; not those that a timeout behind the pivot has stuck. By default a workflow begins with an event that
    is made of its contract. `prepare` makes the tables that the handlers need: they run on SQLite in memory. `look` is the
    users' own check.

    `releases` are others of the same participants, which know fewer versions of the saga: each is deployed and taken back at
    any time, while another process of it may run another one, and in the end all run as in `participants`.
    """

    participants: Sequence[Participant]
    workflows: int = 10
    acts: int = 120
    kinds: frozenset[Kind] = frozenset(Kind)
    liveness: bool = False
    begin: Begin | None = None
    prepare: Prepare | None = None
    look: Look | None = None
    releases: Sequence[Participant] = ()

    def __post_init__(self) -> None:
        saga, found = self.participants[0].saga, sorted(one.name for one in self.participants)
        expected = frozenset[str]().union(*(one.participants for one in self.participants[0].versions))
        if found != sorted(expected):
            raise DefinitionError(
                f"found the participants {', '.join(found)}; expected each of saga {saga.name!r} once, since no workflow ends "
                f"without all of them: {', '.join(sorted(expected))}"
            )
        for one in self.releases:
            self._refuse_unknown(one)
        refuse_disagreement([*self.participants, *self.releases])

    def _refuse_unknown(self, release: Participant) -> None:
        """In the end somebody must know what it began, or what it stated."""
        latest = next((one for one in self.participants if one.name == release.name), None)
        if latest is None or not {*release.versions.numbers} <= {*latest.versions.numbers}:
            known = "none of this name" if latest is None else f"one that knows {latest.versions.numbers}"
            raise DefinitionError(
                f"found a release of {release.name!r} that knows versions {release.versions.numbers}, and {known} to run in "
                f"the end; expected it to know all that its releases know"
            )

    @property
    def drawing(self) -> Drawing:
        """What schedules are drawn of."""
        # who dies of a record three times needs a person, and so does whoever is asked three times in vain, or forgot too much
        kinds = self.kinds - {Kind.CRASH, Kind.STALL, Kind.PRUNE} if self.liveness else self.kinds
        saga = self.participants[0].saga
        if not self.releases:
            kinds -= {Kind.DEPLOY}
        if any(one.deadline is None or one.deadline + MARGIN > KEEP for one in self.participants[0].versions):
            kinds -= {Kind.PRUNE}  # a worker would refuse to forget
        return Drawing(saga, self.participants, self.workflows, self.acts, kinds, liveness=self.liveness)

    def run(self, seed: int, schedule: Schedule | None = None, *, traced: bool = False) -> Run:
        """The run of this seed, or of a part of its schedule."""
        acts = self.drawing.draw(seed) if schedule is None else schedule
        fleet = World(self.participants, self.begin or self._begin, self.prepare, releases=self.releases, seed=seed)
        with _quiet(), fleet as world:
            trace = _Trace(world) if traced else None
            for act in acts:
                world.perform(act)
                if trace is not None:
                    trace.note(str(act))
            found = self._without_help(world) if self.liveness else []
            world.calm()
            if trace is not None:
                trace.note("no more trouble: everything comes to rest")
            world.recall()
            found += judge(world)
            if self.look is not None:
                found += [Violation("the user's own check", "", text) for text in self.look(world)]
            return Run(seed, acts, tuple(found), met(world), tuple(trace.lines) if trace else ())

    def _without_help(self, world: World) -> list[Violation]:
        """Workflows with nothing broken in them that have not ended, while nobody repairs the others."""
        broken = {workflow for workflow, _, _ in world.mischief.broken}
        world.calm(attended=False, beside=broken)
        left = [w for store in world.stores.values() for w in store._tables.workflows.values() if not w.closed]
        late = {workflow.id for workflow in left if _is_late(world, workflow)}
        world.mischief.repair()
        opened = sorted({workflow.id for workflow in left} - broken - late)
        return [Violation("one broken workflow holds up no other", id, "it did not end") for id in opened]

    def _begin(self, number: int) -> Event:
        """A first event that is made of its contract."""
        saga = self.drawing.saga
        name = saga.root.emits[0]
        fields = specimen(saga, name, number)
        types: dict[str, Any] = {field: (Any, ...) for field in fields}
        view = create_model(name.rpartition(".")[2], __base__=Event, **types)
        return view(**fields)


def _is_late(world: World, workflow: Workflow) -> bool:
    """Whether it waits for a person by its contract: a timeout that passes behind the pivot makes its step stuck."""
    saga = world.saga_of(workflow.id)
    stuck = (saga[fence.step] for fence in workflow.fences.values() if fence.status is StepStatus.STUCK)
    return any(step.timeout is not None and step.name in saga.after_pivot for step in stuck)


@contextmanager
def _quiet() -> Iterator[None]:
    """What the engine says of trouble that was made on purpose would hide what is looked for."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class _Trace:
    """What happened, as lines: each act, and below it the facts that were stated meanwhile."""

    def __init__(self, world: World) -> None:
        self.world, self.lines, self._acts = world, list[str](), 0
        self._read = Counter[int]()

    def note(self, act: str) -> None:
        self._acts += 1
        self.lines.append(f"{self._acts:4} {act}")
        notes = 0
        for number, log in enumerate(self.world.facts()):
            for record in log[self._read[number] :]:
                message = from_headers(dict(record.headers), record.value or b"")
                kind = message.kind
                if kind.status is FactStatus.NOTE:
                    notes += 1
                    continue
                said = f"{kind.source} states {kind.step or 'the workflow'} {kind.status} of {message.workflow_id}"
                place = f"{record.topic}/{record.partition}@{record.offset}"
                self.lines.append(f"       {said} ({kind.type}, number {message.sequence}, {place})")
            self._read[number] = len(log)
        if notes:
            self.lines.append(f"       {notes} {'note says' if notes == 1 else 'notes say'} what operators did")
