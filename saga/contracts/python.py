"""Event classes written from contracts: Python source that a service may own from then on, or generate again.

The same contracts give the same text. What Python cannot name is refused, never renamed: a view's fields bear the contract's
names, since those are what is written.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterator

from saga.contracts.event import Event
from saga.contracts.python_types import Names, TypeSource, members
from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, outline
from saga.contracts.sensitive import is_sensitive
from saga.errors import DefinitionError

_WIDTH = 88


def python(saga: Saga, participant: str | None = None, *, command: str) -> str:
    """A module with a class for each event of the saga, or of those that one participant reads and writes.

    `command` is named in its head as the way to make it again. Raises DefinitionError for a participant that the saga does not
    have, two types of one name, and names that a class cannot have.
    """
    events = _events(saga, participant)
    types: dict[str, Schema] = {}
    for name in events:
        for full, schema in outline(saga.contract(name)).items():
            types.setdefault(full, schema)
    _refuse_names(types)
    taken = {str(field["name"]) for schema in types.values() for field in schema.get("fields", [])}
    source = TypeSource(types, names := Names(taken | {str(schema["name"]) for schema in types.values()}))
    classes = [_class(types[name], source, event=name in events) for name in _ordered(types) if "size" not in types[name]]
    whose = f", as {participant} reads and writes them" if participant else ""
    head = f'"""Events of saga {saga.name} v{saga.version}{whose}. Generated: do not edit.\n\nMade by: {command}\n"""'
    imports = "\n".join(names.imports())  # known once everything is written
    return "\n\n".join([head, "from __future__ import annotations", imports]) + "\n\n\n" + "\n\n\n".join(classes) + "\n"


def _events(saga: Saga, participant: str | None) -> list[str]:
    if participant is not None and not saga.owned(participant):
        raise DefinitionError(
            f"saga {saga.name!r} has no participant {participant!r}; its steps are by {', '.join(sorted(saga.participants))}"
        )
    steps = saga.steps if participant is None else saga.owned(participant)
    found = {event for step in steps for event in (*step.consumes, *step.outcomes, step.compensated) if isinstance(event, str)}
    return [name for name in saga.published if name in found]


def _ordered(types: dict[str, Schema]) -> list[str]:
    """Each type behind those that it holds; else by name."""
    ordered: list[str] = []

    def place(name: str) -> None:
        if name not in ordered:
            for held in sorted(_held(types[name], types)):
                place(held)
            ordered.append(name)

    for name in sorted(types):
        place(name)
    return ordered


def _held(schema: object, types: dict[str, Schema]) -> Iterator[str]:
    match schema:
        case str() if schema in types:
            yield schema
        case list():
            for branch in schema:
                yield from _held(branch, types)
        case dict():
            for part in (
                *(schema.get(key) for key in ("type", "items", "values")),
                *(f["type"] for f in schema.get("fields", [])),
            ):
                yield from _held(part, types)


def _class(schema: Schema, source: TypeSource, *, event: bool) -> str:
    if schema["type"] == "enum":
        symbols = [f'    {member} = "{symbol}"' for symbol, member in members(schema).items()]
        doc = _doc(schema, f"One of {', '.join(schema['symbols'])}.")
        return "\n".join([f"class {schema['name']}({source.names('StrEnum')}):", *doc, "", *symbols])
    base = source.names("Event") if event else f"{source.names('BaseModel')}, frozen=True"
    doc = _doc(schema, f"{'The event' if event else 'A part of an event,'} {schema['name']}.")
    fields = [line for field in schema["fields"] for line in _field(field, source)]
    return "\n".join([f"class {schema['name']}({base}):", *doc, *([""] if fields else []), *fields])


def _field(field: Schema, source: TypeSource) -> Iterator[str]:
    default = f" = {source.default(field)}" if "default" in field or is_sensitive(field) else ""
    yield f"    {field['name']}: {source.annotation(field['type'])}{default}"
    if field.get("doc"):
        yield from _doc(field, "")


def _doc(schema: Schema, otherwise: str) -> list[str]:
    text = " ".join(str(schema.get("doc") or otherwise).split()).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text += " "
    if len(text) <= _WIDTH - 10:
        return [f'    """{text}"""']
    first, *rest = textwrap.wrap(text, _WIDTH - 7, break_long_words=False)
    return [f'    """{first}', *(f"    {line}" for line in rest), '    """']


def _refuse_names(types: dict[str, Schema]) -> None:
    short: dict[str, str] = {}
    for full, schema in types.items():
        name = str(schema["name"])
        if (other := short.setdefault(name, full)) != full:
            raise DefinitionError(
                f"types {other} and {full} would both be class {name}; rename one, or write the views by hand"
            )
        if keyword.iskeyword(name):
            raise DefinitionError(f"type {full}: {name!r} is a word of Python; rename it, or write the views by hand")
        for field in schema.get("fields", []):
            _refuse_field(full, str(field["name"]))


def _refuse_field(full: str, name: str) -> None:
    why = ""
    if keyword.iskeyword(name):
        why = "a word of Python"
    elif name.startswith(("_", "model_")) or hasattr(Event, name):
        why = "a name that pydantic keeps for itself"
    if why:
        raise DefinitionError(
            f"{full}.{name}: {name!r} is {why}, and a class can have no such field; call it otherwise before the contract "
            f"is in use (then a rename is refused), or write a view that leaves it out"
        )
