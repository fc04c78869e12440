"""Participants of any saga whatever: contracts and handlers that are made of its definition alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from inspect import Parameter, Signature
from operator import or_
from random import Random
from typing import Any, cast

from pydantic import create_model

from saga import Event, ExternalCall, Participant, Retry, Saga, Transaction
from saga.protocol.definition import Definition, Step, Undo
from tests.commands import schemas

Handler = Callable[..., Any]
LIKELY = 0.3


class Order(Event):
    """What every event of such a saga is about."""

    order_id: str


Views = Mapping[str, type[Order]]


def crew(saga: Definition, seed: int, retry: Retry | None = None) -> list[Participant]:
    """Everybody that the saga needs; which event a step ends with is by chance, but always the same for a workflow."""
    chance = Random(f"crew {seed}")
    contracts = Saga.of(*schemas(*(_attributes(step, chance) for step in saga.steps), owner=saga.initiator))
    events = {event for step in contracts.steps for event in (*step.outcomes, step.compensated) if isinstance(event, str)}
    views = {event: _view(event) for event in events}
    found = {name: Participant(name, contracts) for name in sorted(contracts.participants)}
    for step in contracts.steps:
        owner: Any = found[step.by]
        if step.on:
            batch = not step.external and chance.random() < LIKELY
            owner.step(step=step.name, retry=retry, batch=batch)(_action(step, views, batch=batch))
        if isinstance(undone := step.compensated, str):
            batch = not step.external and chance.random() < LIKELY
            owner.compensation(of=step.name, retry=retry, batch=batch)(_undoing(step, views[undone], views, batch=batch))
    return [*found.values()]


def _attributes(step: Step, chance: Random) -> dict[str, Any]:
    """The step as its schema has it, with what else may be said of it at random."""
    found: dict[str, Any] = {"name": step.name, "by": step.by, "emits": [*step.emits]}
    if step.on:
        found["on"] = [sorted(join) for join in step.on]
    if step.fails:
        found["fails"] = step.fails
        if chance.random() < LIKELY:
            found["on_error"] = "fail"
    if step.compensated is not None:
        found["compensated"] = None if step.compensated is Undo.NOTHING else step.compensated
        if isinstance(step.compensated, str) and chance.random() < LIKELY:
            found["on_stuck"] = "continue"
    if step.pivot:
        found["pivot"] = True
    if step.timeout or (step.on and chance.random() < LIKELY):
        found["timeout"] = "PT1M"
    if step.external and step.on:
        found["external"] = True
    return found


def _view(name: str) -> type[Order]:
    return create_model(name.rpartition(".")[2], __base__=Order)


def _action(step: Step, views: Views, *, batch: bool) -> Handler:
    """Takes each event of its triggers in a parameter of its own, and ends with any of its events."""
    outcomes, always = [views[name] for name in step.outcomes], frozenset.intersection(*step.on)

    def end(*given: Order | None) -> Order:
        order_id = next(event.order_id for event in given if event is not None)
        return Random(f"{order_id} {step.name}").choice(outcomes)(order_id=order_id)

    kinds = [views[name] if name in always else views[name] | None for name in sorted(step.consumes)]
    return _handler(step, kinds, _any_of(outcomes), end, batch=batch)


def _undoing(step: Step, undone: type[Order], views: Views, *, batch: bool) -> Handler:
    done = _any_of(views[name] for name in step.emits)
    return _handler(step, [done], undone, lambda event: undone(order_id=event.order_id), batch=batch)


def _any_of(kinds: Iterable[Any]) -> Any:
    return reduce(or_, kinds)


def _handler(step: Step, kinds: list[Any], returned: Any, end: Callable[..., Order], *, batch: bool) -> Handler:
    """A function with a parameter of each kind, as if somebody had written it."""

    def one(*given: Any) -> Order:
        return end(*given[:-1])

    def many(*given: Any) -> list[Order]:
        return [end(*each) for each in zip(*given[:-1], strict=True)]

    handler: Any = many if batch else one
    hints = {f"event{n}": kind for n, kind in enumerate(kinds)} | {"return": returned}
    hints = {name: list[kind] if batch else kind for name, kind in hints.items()}  # type: ignore[valid-type]
    hints["last"] = ExternalCall if step.external else Transaction
    names = [*(name for name in hints if name.startswith("event")), "last"]
    handler.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])
    handler.__annotations__, handler.__name__ = hints, step.name
    return cast("Handler", handler)
