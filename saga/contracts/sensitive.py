"""What must not be shown: fields whose contract says `"sensitive": true`, wherever an event is printed, logged or told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from saga.contracts.schema import Schema, outline

MASK = "***"
SHORTEST = 3
"""Shorter values are not looked for in a text: they would be found where they are not meant."""


def is_sensitive(field: Mapping[str, Any]) -> bool:
    """Whether the field's author has marked it."""
    return field.get("sensitive") is True


def has_sensitive(schema: Schema) -> bool:
    """Whether a self-contained schema marks any field, however deep."""
    return any(is_sensitive(field) for type_ in outline(schema).values() for field in type_.get("fields", []))


def redact(schema: Schema, datum: Any) -> Any:
    """A copy of the datum that may be shown: what is marked, if it is there, is `MASK`. The schema is self-contained."""
    return _Masking(outline(schema)).shown(schema, datum)


def sensitive_values(schema: Schema, datum: Any) -> frozenset[str]:
    """The texts of all marked values, which must not stand in a message for people."""
    masking = _Masking(outline(schema))
    masking.shown(schema, datum)
    return frozenset(text for value in masking.hidden for text in _texts(value) if len(text) >= SHORTEST)


def scrub(text: str, secrets: frozenset[str]) -> str:
    """The text with `MASK` where one of the secrets stood."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


class _Masking:
    """Walks a datum along its schema; `hidden` are the values that were masked."""

    def __init__(self, types: Mapping[str, Schema]) -> None:
        self.types = types
        self.hidden: list[Any] = []

    def shown(self, schema: Any, datum: Any) -> Any:
        schema = self.types.get(schema, schema) if isinstance(schema, str) else schema
        match schema, datum:
            case list(), _:
                return self._branch(schema, datum)
            case {"type": "record"}, Mapping():
                fields = {field["name"]: field for field in self.types[_full(schema)]["fields"]}
                return {name: self._field(fields.get(name), value) for name, value in datum.items()}
            case {"type": "array"}, list() | tuple():
                return [self.shown(schema["items"], item) for item in datum]
            case {"type": "map"}, Mapping():
                return {key: self.shown(schema["values"], value) for key, value in datum.items()}
            case {"type": dict() | list() as inner}, _:
                return self.shown(inner, datum)
        return datum

    def _field(self, field: Schema | None, value: Any) -> Any:
        if field is None or value is None:
            return value
        if is_sensitive(field):
            self.hidden.append(value)
            return MASK
        return self.shown(field["type"], value)

    def _branch(self, union: list[Any], datum: Any) -> Any:
        """Along the branch with the most to hide: which one was written cannot be told from a plain datum."""
        marked = len(self.hidden)
        best, hidden = datum, self.hidden[:]
        for branch in union:
            del self.hidden[marked:]
            if (shown := self.shown(branch, datum)) != datum and len(self.hidden) > len(hidden):
                best, hidden = shown, self.hidden[:]
        self.hidden = hidden
        return best


def _full(schema: Schema) -> str:
    space = schema.get("namespace")
    return f"{space}.{schema['name']}" if space else str(schema["name"])


def _texts(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            for part in value.values():
                yield from _texts(part)
        case list() | tuple():
            for part in value:
                yield from _texts(part)
        case bool() | None:
            return
        case _:
            yield str(value)
