"""Whether a service's handlers fit a contract that it did not load itself: for services that meet only in Kafka."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saga.contracts.saga import Saga
from saga.contracts.upcast import Upcasters
from saga.contracts.view import view_problems
from saga.errors import DefinitionError
from saga.participant import handler
from saga.participant.declarations import Declarations
from saga.participant.handler import Act, Handler
from saga.protocol.definition import Step


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing that does not fit, where it is written, and what to do."""

    place: str
    text: str


def misfits(participant: Declarations, saga: Saga) -> list[Misfit]:
    """Everything in which the participant's handlers and views do not fit this saga; nothing is changed.

    Handlers of the saga's version are looked at; where the participant does not know that version, those of its latest. Who has
    handlers for other versions alone fits one in which it has no step.
    """
    found = []
    version = saga.version
    if version not in participant.versions:
        known = ", ".join(str(own.version) for own in participant.versions)
        text = f"it knows version {known}, the contract is of {version}; load that one too: Participant(name, [old, new])"
        found.append(Misfit(f"participant {participant.name}", text))
        version = participant.saga.version
    steps = {step.name: step for step in saga.owned(participant.name)}
    handlers = [one for one in participant.handlers.values() if one.version == version]
    if not steps and (handlers or not participant.handlers):
        known = ", ".join(sorted(saga.participants))
        return [*found, Misfit(f"participant {participant.name}", f"saga {saga.name!r} has no such participant, but {known}")]
    for one in handlers:
        found += [Misfit(_place(one.function), text) for text in _problems(one, saga, steps, participant.upcasters)]
    declared = {(one.step, one.act) for one in handlers}
    return [*found, *(Misfit(f"participant {participant.name}", text) for text in _lacking(steps.values(), declared))]


def _problems(one: Handler, saga: Saga, steps: Mapping[str, Step], upcasters: Upcasters) -> list[str]:
    """What is wrong with each view, then what the declaration would be refused for."""
    inputs = ((name, view, parameter) for parameter in one.inputs for name, view in parameter.views.items())
    reads = [(view, False) for name, view, parameter in inputs if name not in parameter.raised]
    writes = [(view, True) for view in one.results]
    texts = []
    for view, is_written in reads + writes:
        try:
            texts += view_problems(view, saga, saga.event(view.event_name), writes=is_written)
        except DefinitionError as error:
            texts.append(str(error))
    if (step := steps.get(one.step)) is None:
        owner = f"{saga[one.step].by!r} owns it" if one.step in saga else "nobody has it"
        return [f"{one.title}: the contract gives it no such step, {owner}; remove the handler, or keep it for older versions="]
    try:
        _bind(one, saga, step, upcasters)
    except DefinitionError as error:
        texts += str(error).splitlines()
    return list(dict.fromkeys(texts))


def _bind(one: Handler, saga: Saga, step: Step, upcasters: Upcasters) -> None:
    match one.act:
        case Act.ACTION:
            handler.action(saga, step, one.function, one.retry, one.needs, upcasters, batch=one.batch)
        case Act.COMPENSATION:
            handler.compensation(saga, step, one.function, one.retry, one.needs, upcasters, batch=one.batch)
        case Act.RECORDING:
            handler.recording(saga, step, one.function, upcasters)


def _lacking(steps: Iterable[Step], declared: Set[tuple[str, Act]]) -> Iterator[str]:
    for step in steps:
        if step.on and (step.name, Act.ACTION) not in declared:
            yield f"it has no handler for step {step.name!r}; write a function {step.name} and decorate it with .step"
        if isinstance(step.compensated, str) and (step.name, Act.COMPENSATION) not in declared:
            yield f"it cannot undo step {step.name!r}: no compensation emits {step.compensated}; decorate one"


def _place(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    path = Path(code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{code.co_firstlineno} {function.__name__}"
