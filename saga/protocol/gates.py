"""Feature gates: a saga as one workflow runs it, with the steps behind gates that are shut for it taken out. Pure.

Which gates are open is decided once, where a workflow starts, and holds for all of it everywhere: whoever takes part in it uses
the same variant of the saga.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import TypeVar, cast

from saga.errors import DefinitionError
from saga.protocol.definition import Definition, Step

OPPOSITE = "!"
"""A step behind `!name` is there while the gate `name` is shut."""

MOST = 8
"""More gates than these have too many combinations for a proof of each."""

SomeSaga = TypeVar("SomeSaga", bound=Definition)


def gates(saga: Definition) -> frozenset[str]:
    """The names of all gates that steps are behind."""
    return frozenset(step.gate.removeprefix(OPPOSITE) for step in saga.steps if step.gate)


def variant(saga: SomeSaga, open_gates: frozenset[str]) -> SomeSaga:
    """The saga without the steps behind shut gates: nobody waits for their events.

    A join is left with its other events; what is left of an alternative is none if it is nothing, or part of another one.
    Raises DefinitionError for a gate that the saga does not have, for a step that only waits for what is taken out, and where
    the rest is no saga.
    """
    if unknown := sorted(open_gates - gates(saga)):
        raise DefinitionError(
            f"saga {saga.name!r} of version {saga.version} has no gate {', '.join(map(repr, unknown))}; its gates are "
            f"{', '.join(sorted(gates(saga))) or 'none'}"
        )
    return cast(SomeSaga, _variant(saga, open_gates))


@lru_cache(maxsize=1024)
def _variant(saga: Definition, open_gates: frozenset[str]) -> Definition:
    """One object for each variant, since much is remembered by it."""
    kept = [step for step in saga.steps if _is_there(step, open_gates)]
    if len(kept) == len(saga.steps):
        return saga
    emitted = frozenset(event for step in kept for event in step.emits)
    return replace(saga, steps=tuple(_without(saga, step, emitted) for step in kept))


def variants(saga: SomeSaga) -> Iterator[tuple[frozenset[str], SomeSaga | DefinitionError]]:
    """Every combination of open gates with the saga that it gives, or with what keeps it from being one."""
    names = sorted(gates(saga))
    if len(names) > MOST:
        raise DefinitionError(
            f"saga {saga.name!r} has {len(names)} gates; expected at most {MOST}, since each combination is proved"
        )
    for opened in product((True, False), repeat=len(names)):
        open_gates = frozenset(name for name, is_open in zip(names, opened, strict=True) if is_open)
        try:
            yield open_gates, variant(saga, open_gates)
        except DefinitionError as error:
            yield open_gates, error


def joins(saga: Definition, step: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Each combination of open gates in which the step is there, with each of its triggers then."""
    for open_gates, one in variants(saga):
        if isinstance(one, Definition) and step in one:
            yield from ((open_gates, join) for join in one[step].on)


def _is_there(step: Step, open_gates: frozenset[str]) -> bool:
    if step.gate is None:
        return True
    return (step.gate.removeprefix(OPPOSITE) in open_gates) is not step.gate.startswith(OPPOSITE)


def _without(saga: Definition, step: Step, emitted: frozenset[str]) -> Step:
    whole = {join for join in step.on if join <= emitted}
    left = {join & emitted for join in step.on}
    joins = tuple(dict.fromkeys(j for join in step.on if (j := join & emitted) and (j in whole or not _within(j, left))))
    if step.on and not joins:
        raise DefinitionError(
            f"saga {saga.name!r}: step {step.name!r} waits only for events of steps behind gates; put it behind the same gate, "
            f"or let it be triggered by another event as well"
        )
    return replace(step, on=joins)


def _within(join: frozenset[str], others: Iterable[frozenset[str]]) -> bool:
    return any(join < other for other in others)
