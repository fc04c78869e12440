"""The participants of one workflow as plain values: every step they can take from here, with nothing left out.

An action that `decide` asks for may be carried out at once or after more facts have come in, as when its handler is parked; any
handler may fail where its step may, or return `Pending`; an external step commits its intent first and its outcome later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from saga.protocol.decide import Action, Close, Compensate, FenceView, Refuse, Run, Skip, Withdraw, answer, decide
from saga.protocol.definition import Definition, Step
from saga.protocol.facts import Fact, FactStatus, StepStatus, WorkflowStatus, audience

Decide = Callable[[Definition, str, Collection[Fact], Mapping[str, FenceView]], tuple[Action, ...]]
Audience = Callable[[Definition, Fact], frozenset[str]]

STANDING = frozenset({StepStatus.RUNNING, StepStatus.DONE, StepStatus.COMPENSATING})


def everyone(saga: Definition, fact: Fact) -> frozenset[str]:
    return saga.participants


class Fence(NamedTuple):
    status: StepStatus
    event: str | None = None
    pending: bool = False
    refused: bool = False


class Site(NamedTuple):
    """One participant: what it has heard, what became of its own steps, and how the workflow ended for it."""

    facts: frozenset[Fact] = frozenset()
    fences: frozenset[tuple[str, Fence]] = frozenset()
    outcome: WorkflowStatus | None = None


class World(NamedTuple):
    sites: tuple[Site, ...]
    published: frozenset[Fact]
    faults: frozenset[str] = frozenset()

    @property
    def fences(self) -> dict[str, Fence]:
        return {name: fence for site in self.sites for name, fence in site.fences}

    def status(self, step: str) -> StepStatus:
        fence = self.fences.get(step)
        return fence.status if fence else StepStatus.IDLE

    @property
    def outcomes(self) -> set[WorkflowStatus | None]:
        return {site.outcome for site in self.sites}


class Move(NamedTuple):
    kind: str
    participant: str
    subject: str
    after: World


@dataclass
class Laws:
    """How worlds follow each other for one saga; `decide` and `audience` can be exchanged for broken ones."""

    saga: Definition
    decide: Decide = decide
    audience: Audience = audience
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.names = tuple(sorted(self.saga.participants))

    def begin(self) -> list[World]:
        """The initiator has started the workflow: one world per event that the root may emit."""
        root = self.saga.root
        empty = World(tuple(Site() for _ in self.names), frozenset())
        return [
            self._put(empty, root.by, root.name, Fence(StepStatus.DONE, event), Fact(root.name, FactStatus.DONE, event))
            for event in root.emits
        ]

    def progress(self, world: World) -> list[Move]:
        """What can happen without anyone wishing to abort."""
        return [move for name in self.names for move in (*self.deliveries(world, name), *self.actions(world, name))]

    def moves(self, world: World) -> list[Move]:
        return [*self.progress(world), *self.aborts(world)]

    def aborts(self, world: World) -> list[Move]:
        fact = Fact(self.saga.root.name, FactStatus.ABORT)
        return [] if fact in world.published else [Move("abort", "", "", self._publish(world, fact))]

    def deliveries(self, world: World, name: str) -> Iterator[Move]:
        for fact in world.published - self._site(world, name).facts:
            if name in self.audience(self.saga, fact) and (after := self.deliver(world, name, fact)) != world:
                yield Move("deliver", name, f"{fact.status} {fact.step}", after)

    def deliver(self, world: World, name: str, fact: Fact) -> World:
        """A closed row keeps no facts, but may have an answer to one."""
        site = self._site(world, name)
        if site.outcome is None:
            return self._with(world, name, site._replace(facts=site.facts | {fact}))
        late = answer(self.saga, name, fact, dict(site.fences))
        return self._act(world, name, late)[0].after if late else world

    def actions(self, world: World, name: str) -> Iterator[Move]:
        site = self._site(world, name)
        if site.outcome is not None:
            return
        for step, fence in site.fences:
            yield from self._comes_back(world, self.saga[step], fence)
        for position, action in enumerate(self.decide(self.saga, name, site.facts, dict(site.fences))):
            if position == 0 or not isinstance(action, Close):
                yield from self._act(world, name, action)

    def _comes_back(self, world: World, step: Step, fence: Fence) -> Iterator[Move]:
        """An external call, or the world that a step waits for."""
        if fence.status is StepStatus.RUNNING:
            yield from self._ends(world, step, waits=not fence.pending)
        if fence.status is StepStatus.COMPENSATING and not fence.pending:
            yield self._move("undone", world, step, fence._replace(status=StepStatus.COMPENSATED), FactStatus.COMPENSATED)

    def _act(self, world: World, name: str, action: Action) -> list[Move]:
        if isinstance(action, Close):
            site = self._site(world, name)
            closed = site._replace(facts=frozenset(), outcome=action.outcome)
            return [Move("close", name, action.outcome, self._with(world, name, closed))]
        step, fence = self.saga[action.step], world.fences.get(action.step, Fence(StepStatus.IDLE))
        match action:
            case Run() if fence.status is not StepStatus.IDLE:
                return [self._fault("run", world, step, f"{step.name} runs although it is {fence.status}")]
            case Run() if step.external:
                return [self._move("begin", world, step, Fence(StepStatus.RUNNING))]
            case Run():
                return list(self._ends(world, step, waits=True))
            case Skip() if step.name in self.saga.after_pivot:
                return [self._fault("skip", world, step, f"{step.name} is skipped although it is after a pivot")]
            case Skip():
                return [self._move("skip", world, step, Fence(StepStatus.SKIPPED), FactStatus.SKIPPED)]
            case Withdraw():
                return [self._move("withdraw", world, step, Fence(StepStatus.COMPENSATING, pending=True))]
            case Compensate():
                return [self._undo(world, step, fence)]
            case Refuse():
                return [self._move("refuse", world, step, fence._replace(refused=True), FactStatus.REFUSED)]

    def _ends(self, world: World, step: Step, *, waits: bool) -> Iterator[Move]:
        for event in step.emits:
            yield self._move("done", world, step, Fence(StepStatus.DONE, event), FactStatus.DONE)
        if step.fails:
            yield self._move("failed", world, step, Fence(StepStatus.FAILED, step.fails), FactStatus.FAILED)
        if waits:
            yield self._move("pending", world, step, Fence(StepStatus.RUNNING, pending=True))

    def _undo(self, world: World, step: Step, fence: Fence) -> Move:
        standing = [after for after in self.saga.successors[step.name] if world.status(after) in STANDING]
        for wrong, text in (
            (step.compensated is None, "has no compensation"),
            (step.name in self.saga.pivots | self.saga.after_pivot, "is not before a pivot"),
            (fence.status not in (StepStatus.DONE, StepStatus.COMPENSATING), f"is {fence.status}"),
            (bool(standing), f"stands under {', '.join(standing)}"),
        ):
            if wrong:
                return self._fault("undo", world, step, f"{step.name} is undone although it {text}")
        begun = fence._replace(status=StepStatus.COMPENSATING, pending=False)
        if step.external:
            return self._move("undo", world, step, begun)
        return self._move("undone", world, step, begun._replace(status=StepStatus.COMPENSATED), FactStatus.COMPENSATED)

    def _move(self, kind: str, world: World, step: Step, fence: Fence, states: FactStatus | None = None) -> Move:
        fact = Fact(step.name, states, fence.event if states is FactStatus.DONE else None) if states else None
        return Move(kind, step.by, step.name, self._put(world, step.by, step.name, fence, fact))

    def _fault(self, kind: str, world: World, step: Step, text: str) -> Move:
        return Move(kind, step.by, step.name, world._replace(faults=world.faults | {text}))

    def _put(self, world: World, name: str, step: str, fence: Fence, fact: Fact | None) -> World:
        site = self._site(world, name)
        fences = frozenset((n, f) for n, f in site.fences if n != step) | {(step, fence)}
        changed = self._with(world, name, site._replace(fences=fences))
        return self._publish(changed, fact) if fact else changed

    def _publish(self, world: World, fact: Fact) -> World:
        return world._replace(published=world.published | {fact})

    def _site(self, world: World, name: str) -> Site:
        return world.sites[self.names.index(name)]

    def _with(self, world: World, name: str, site: Site) -> World:
        at = self.names.index(name)
        return world._replace(sites=(*world.sites[:at], site, *world.sites[at + 1 :]))


def faults(saga: Definition, world: World) -> set[str]:
    """What is wrong with the end of a workflow: a world in which nothing can happen any more."""
    found = set(world.faults)
    done = {f.event for f in world.published if f.status is FactStatus.DONE}
    if len(world.outcomes) > 1 or None in world.outcomes:
        found.add(f"participants disagree: {sorted(str(outcome) for outcome in world.outcomes)}")
    for step in saga.steps:
        status = world.status(step.name)
        triggered = not step.on or any(done.issuperset(join) for join in step.on)
        if WorkflowStatus.COMPLETED in world.outcomes:
            if triggered and status is not StepStatus.DONE:
                found.add(f"completed, but {step.name} was triggered and is {status}")
            if status in (StepStatus.COMPENSATED, StepStatus.COMPENSATING, StepStatus.FAILED):
                found.add(f"completed, but {step.name} is {status}")
        if WorkflowStatus.COMPENSATED in world.outcomes and status in STANDING:
            found.add(f"compensated, but {step.name} is {status}")
        if WorkflowStatus.COMPENSATED in world.outcomes and step.name in saga.pivots and any(e in done for e in step.emits):
            found.add(f"compensated, but the pivot {step.name} was done")
    return found
