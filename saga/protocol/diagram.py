"""A saga as a picture: steps, owners, events, pivots, and the arrows along which it unwinds. Pure text, read by Mermaid."""

from __future__ import annotations

from collections.abc import Iterator

from saga.protocol.definition import Definition, Step
from saga.protocol.story import short


def mermaid(saga: Definition) -> str:
    """The flow chart of a saga in Mermaid's language: what leads on is solid, failures end in a circle.

    What unwinds is dotted and runs back, as its ↩ says: Mermaid would take an arrow for an order, and draw steps before those
    that lead to them. A pivot is a hexagon. Joins meet in a small circle; alternatives arrive by arrows of their own.
    """
    return "\n".join(("flowchart LR", *(f"  {line}" for line in _lines(saga))))


def _lines(saga: Definition) -> Iterator[str]:
    for participant in sorted(saga.participants):
        yield f'subgraph {_id("by", participant)}["{participant}"]'
        yield from (f"  {_box(saga, step)}" for step in saga.owned(participant))
        yield "end"
    for step in saga.steps:
        yield from _arrivals(saga, step)
        if step.fails:
            yield f"{_id('step', step.name)} -- {short(step.fails)} --x {_id('fail', step.name)}((abort))"
    for step in saga.steps:
        yield from _unwinding(saga, step)
    yield "classDef pivot stroke-width:4px"
    yield f"class {','.join(_id('step', name) for name in sorted(saga.pivots))} pivot"


def _box(saga: Definition, step: Step) -> str:
    said = [*(["external"] if step.external else []), *([f"gate {step.gate}"] if step.gate else [])]
    label = f"{step.name} ({', '.join(said)})" if said else step.name
    return f'{_id("step", step.name)}{{{{"{label}"}}}}' if step.name in saga.pivots else f'{_id("step", step.name)}["{label}"]'


def _arrivals(saga: Definition, step: Step) -> Iterator[str]:
    for number, join in enumerate(step.on):
        target = _id("step", step.name)
        if len(join) > 1:
            meeting = f"{_id('join', step.name)}_{number}"
            yield f'{meeting}(("and")) --> {target}'
            target = meeting
        for event in sorted(join):
            yield f"{_id('step', saga.emitter[event])} -- {short(event)} --> {target}"


def _unwinding(saga: Definition, step: Step) -> Iterator[str]:
    """A step reports to those before it that nothing of it is left."""
    if step.name in saga.after_pivot:
        return
    for before in saga.predecessors[step.name]:
        report = short(step.compensated) if isinstance(step.compensated, str) else "skipped"
        yield f"{_id('step', before)} -. ↩ {report} .- {_id('step', step.name)}"


def _id(kind: str, name: str) -> str:
    """An identifier that Mermaid cannot mistake for one of its own words, such as `end`."""
    return f"{kind}_{identifier(name)}"


def identifier(name: str) -> str:
    """A name in letters that Mermaid takes for one word: another one for each name."""
    return "".join(letter if letter.isalnum() or letter == "_" else f"_{ord(letter):x}_" for letter in name)
