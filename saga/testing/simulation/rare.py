"""States that a simulation is made for: one that was never met shows that nothing was proved about it.

As the *sometimes* assertions of Antithesis and FoundationDB's coverage of rare branches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from saga.contracts.saga import Saga
from saga.failpoints import Failpoint
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.testing.simulation.act import StoreFault
from saga.testing.simulation.drawing import Kind
from saga.testing.simulation.faulty import DEPARTED, FENCED
from saga.testing.simulation.network import FOLLOWED, NOT_DELIVERED
from saga.testing.simulation.world import PARKED, REFUSED, TAKEN_BACK, TAKEN_OVER, WAITED, World, died_at

TWICE = "a fact came twice"
PRUNED = "a workflow is pruned"
TOO_LATE = "a record comes of a workflow that may have been pruned"


class Rare(NamedTuple):
    """A state, and how many times it was met."""

    state: str
    times: int


def met(world: World) -> Counter[str]:
    """The states that a run went through."""
    seen = Counter(world.seen)
    for _, message in world.messages():
        seen[_stated(message.kind.status)] += 1
    for workflow in world.workflows.values():
        known = world.workflow(world.saga.initiator, workflow)
        if known is not None:
            seen[_ended(known.status)] += 1
        for status in world.steps(workflow).values():
            seen[_step_ended(status)] += 1
    seen[TWICE] += sum(loop.processor.intake.counts.duplicates for loop in world.loops.values())
    seen[PRUNED] += sum(map(len, world.pruned.values()))
    seen[TOO_LATE] += sum(map(len, world.too_late().values()))
    return +seen


def table(saga: Saga, kinds: frozenset[Kind], seen: Mapping[str, int]) -> list[Rare]:
    """All states that can be met in this saga with this trouble, those that never were first."""
    states = {state for kind in kinds for state in _BY_KIND.get(kind, ())}
    states |= {_ended(WorkflowStatus.COMPLETED), DEPARTED}
    if Kind.CRASH in kinds:
        external = any(step.external for step in saga.steps)
        states |= {died_at(place) for place in Failpoint if external or not place.value.startswith("external")}
    if Kind.FAIL in kinds and any(step.fails for step in saga.steps):
        states |= {_stated(FactStatus.FAILED), _ended(WorkflowStatus.COMPENSATED), _step_ended(StepStatus.COMPENSATED)}
    return sorted((Rare(state, seen.get(state, 0)) for state in states), key=lambda rare: (rare.times > 0, rare.state))


def _stated(status: FactStatus) -> str:
    return f"a fact is stated: {status}"


def _ended(status: WorkflowStatus) -> str:
    return f"a workflow ends {status}"


def _step_ended(status: StepStatus) -> str:
    return f"a step ends {status}"


_BY_KIND: Mapping[Kind, tuple[str, ...]] = {
    Kind.RAISE: (PARKED,),
    Kind.STALL: (TAKEN_OVER, FENCED),
    Kind.DUPLICATE: (TWICE,),
    Kind.PRUNE: (PRUNED, TOO_LATE),
    Kind.DELIVERY: (NOT_DELIVERED, FOLLOWED),
    Kind.DEPLOY: (TAKEN_BACK, WAITED),
    Kind.DATABASE: tuple(StoreFault),
    Kind.ABORT: (_stated(FactStatus.ABORT), _stated(FactStatus.REFUSED), _step_ended(StepStatus.SKIPPED), REFUSED),
}


def never(states: list[Rare]) -> Iterator[str]:
    """Those that were not met."""
    return (rare.state for rare in states if rare.times == 0)
