"""Whether a fleet kept its promises: the checker of all runs, and what only a simulation can see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from saga.contracts.saga import Saga
from saga.participant.handler import Act as Deed
from saga.protocol.facts import StepStatus
from saga.replay.contracts import Contracts
from saga.testing.checker.evidence import Call, Effect, Evidence
from saga.testing.checker.invariant import Invariant
from saga.testing.checker.judgement import judge as judged
from saga.testing.simulation.world import World


class Violation(NamedTuple):
    """A promise that was broken: which, for which workflow (empty: none), and what was found."""

    promise: str
    workflow: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {f'workflow {self.workflow}: ' if self.workflow else ''}{self.text}"


def judge(world: World) -> list[Violation]:
    """All violations; to be asked when the fleet has come to rest."""
    found = [violation for check in _CHECKS for violation in check(world)]
    return [*found, *_invariants(world)]


def _invariants(world: World) -> Iterator[Violation]:
    effects = [
        Effect(name, workflow, step, deed)
        for name in world.stores
        for _, workflow, step, deed in world.effects(name)
        if deed in _DEEDS
    ]
    calls = [Call("start", workflow, "ok") for workflow in world.workflows.values()]
    contracts = Contracts([*next(iter(world.participants.values())).versions])
    evidence = Evidence.gather(contracts, world.broker, world.stores, calls=calls, effects=effects)
    aside = {letter.workflow_id for letters in world.too_late().values() for letter in letters}
    for violation in judged(evidence).violations:
        if violation.invariant is Invariant.REPLAY and violation.workflow in aside:
            continue  # somebody has put a fact of it aside that is on the topics
        text = f"found {violation.found}; expected {violation.expected}"
        yield Violation(f"{violation.invariant} {violation.invariant.sentence}", violation.workflow, text)


def _alive(world: World) -> Iterator[Violation]:
    """No process ended by itself, no lane stopped."""
    for text in world.died:
        yield Violation("processes live", "", text)
    for name, stopped in world.stopped().items():
        for error in stopped:
            yield Violation("processes live", "", f"a lane of {name} stopped: {error}")


def _over(world: World) -> Iterator[Violation]:
    """Nothing is parked in the end, since everything was tried again; outboxes are empty, and nothing was taken for lost."""
    yield from _open(world)
    for name, store in world.stores.items():
        for row in (row for rows in store._tables.outbox.values() for row in rows.values()):
            level = "published and never acknowledged" if row.offset is not None else "never published"
            yield Violation("everything is handled", row.workflow_id, f"{row.type} of {name} is {level}")
    if lost := world.lost + sum(loop.unhandled.lost for loop in world.loops.values()):
        yield Violation("nothing is lost", "", f"{lost} events were taken for lost, and none was")


def _open(world: World) -> Iterator[Violation]:
    """What has not ended is told once, with the cause wherever that is."""
    at, parked = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name, store in world.stores.items():
        for workflow in (one for one in store._tables.workflows.values() if not one.closed):
            at[workflow.id].append(name)
            failed = (fence for fence in workflow.fences.values() if fence.error)
            parked[workflow.id] += [f"{fence.step!r} of {name} is parked: {fence.error}" for fence in failed]
    for id, names in at.items():
        yield Violation("everything ends", id, f"open at {', '.join(names)}; {'; '.join(parked[id]) or 'nothing is parked'}")


def _forgotten(world: World) -> Iterator[Violation]:
    """What was pruned had ended."""
    for name, gone in world.pruned.items():
        for workflow in gone.values():
            if not workflow.closed:
                yield Violation("only what has ended is forgotten", workflow.id, f"pruned by {name} while it was open")


def _effects(world: World) -> Iterator[Violation]:
    """What handlers did agrees with what is said of their steps."""
    done = {(w, step, deed): at for name in world.stores for at, w, step, deed in world.effects(name)}
    for workflow in world.workflows.values():
        saga = world.saga_of(workflow)
        for name, status in world.steps(workflow).items():
            if not saga[name].external and name != saga.root.name:
                yield from _agreeing(workflow, name, status, done)
        yield from _backwards(saga, workflow, done)


def _agreeing(workflow: str, step: str, status: StepStatus, done: dict[tuple[str, str, str], int]) -> Iterator[Violation]:
    promise, acted = "effects are what is said", (workflow, step, Deed.ACTION.value) in done
    undone = (workflow, step, Deed.COMPENSATION.value) in done
    if status in {StepStatus.DONE, StepStatus.COMPENSATED} and not acted:
        yield Violation(promise, workflow, f"{step!r} is {status}, and its handler never took effect")
    if status in {StepStatus.SKIPPED, StepStatus.IDLE} and acted:
        yield Violation(promise, workflow, f"{step!r} is {status}, and its handler took effect")
    if undone and status is not StepStatus.COMPENSATED:
        yield Violation(promise, workflow, f"{step!r} is {status}, and its compensation took effect")


def _backwards(saga: Saga, workflow: str, done: dict[tuple[str, str, str], int]) -> Iterator[Violation]:
    """The wave of compensations runs from the last step to the first."""
    for step in saga.steps:
        undone = done.get((workflow, step.name, Deed.COMPENSATION.value))
        after = {name for event in step.emits for name in saga.triggered_by.get(event, ())} if undone else ()
        for name in after:
            if (later := done.get((workflow, name, Deed.COMPENSATION.value))) is not None and undone and later > undone:
                yield Violation("undone in reverse", workflow, f"{step.name!r} was undone before {name!r}, which came after it")


def _called_with_one_key(world: World) -> Iterator[Violation]:
    for (workflow, step, deed), keys in world.mischief.calls.items():
        if len(keys) > 1:
            yield Violation("one idempotency key", workflow, f"the {deed.value} of {step!r} called with {len(keys)} keys")


_DEEDS = frozenset({Deed.ACTION.value, Deed.COMPENSATION.value})
_CHECKS: tuple[Callable[[World], Iterator[Violation]], ...] = (_alive, _over, _forgotten, _effects, _called_with_one_key)
