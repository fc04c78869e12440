"""From plain values, as JSON and CSV have them, to what the codec writes: texts that stand for moments, amounts and ids.

Only what has one meaning is taken; anything else is refused with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from saga.contracts.schema import Schema, full_name, outline
from saga.errors import EncodeError

_LOGICAL: Mapping[str, Callable[[str], Any]] = {
    "uuid": UUID,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "time-millis": time.fromisoformat,
    "time-micros": time.fromisoformat,
    "timestamp-millis": datetime.fromisoformat,
    "timestamp-micros": datetime.fromisoformat,
    "local-timestamp-millis": datetime.fromisoformat,
    "local-timestamp-micros": datetime.fromisoformat,
}
_TRUTH = {"true": True, "false": False}
_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": _TRUTH.__getitem__,
    "bytes": bytes.fromhex,
}


def from_plain(schema: Schema, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record of this self-contained schema.

    Moments are in ISO 8601, amounts and uuids are texts, bytes are hexadecimal; numbers and booleans may be texts, as in CSV,
    and an empty text is null where null is allowed and text is not. Raises EncodeError that names the field.
    """
    named = outline(schema)
    return _Reader(named).record(named[full_name(schema, "")], fields, "")


class _Reader:
    def __init__(self, named: Mapping[str, Schema]) -> None:
        self.named = named  # in which every other type is a reference by its full name

    def record(self, schema: Schema, given: Any, place: str) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise _wrong(place, given, f"an object with the fields of {schema['name']}")
        known = {field["name"]: field for field in schema["fields"]}
        if unknown := sorted(given.keys() - known.keys()):
            raise _wrong(place, f"the fields {', '.join(unknown)}", f"only {', '.join(known)}")
        missing = [name for name, field in known.items() if name not in given and "default" not in field]
        if missing:
            raise _wrong(place, f"no {', '.join(missing)}", "a value for each field that has no default")
        return {name: self.value(known[name]["type"], value, _inside(place, name)) for name, value in given.items()}

    def value(self, schema: Any, given: Any, place: str) -> Any:
        match schema:
            case str():
                return (
                    self.value(self.named[schema], given, place) if schema in self.named else _primitive(schema, given, place)
                )
            case list():
                return self.union(schema, given, place)
            case {"logicalType": logical} if logical in _LOGICAL and isinstance(given, str):
                return _read(_LOGICAL[logical], given, place, f"a {logical}")
            case {"type": "record"}:
                return self.record(schema, given, place)
            case {"type": "array", "items": items} if isinstance(given, list):
                return [self.value(items, one, f"{place}[{number}]") for number, one in enumerate(given)]
            case {"type": "map", "values": values} if isinstance(given, Mapping):
                return {key: self.value(values, one, _inside(place, key)) for key, one in given.items()}
            case {"type": "array" | "map" as kind}:
                raise _wrong(place, given, f"an {kind}" if kind == "array" else "a map")
            case {"type": kind} if kind not in {"enum", "fixed"}:
                return self.value(kind, given, place)
        return given

    def union(self, branches: list[Any], given: Any, place: str) -> Any:
        if given is None or (given == "" and "null" in branches and "string" not in branches):
            return None
        refused: list[str] = []
        for branch in branches:
            if branch != "null":
                try:
                    return self.value(branch, given, place)
                except EncodeError as error:
                    refused.append(str(error))
        raise EncodeError("; ".join(refused) or f"{place}: found {given!r}; expected null")


def _primitive(kind: str, given: Any, place: str) -> Any:
    return _read(_FROM_TEXT[kind], given, place, kind) if isinstance(given, str) and kind in _FROM_TEXT else given


def _read(reader: Callable[[str], Any], given: str, place: str, expected: str) -> Any:
    try:
        return reader(given)
    except (ValueError, ArithmeticError, KeyError) as error:
        raise _wrong(place, repr(given), expected) from error


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(place: str, found: Any, expected: str) -> EncodeError:
    return EncodeError(f"{place or 'the record'}: found {found}; expected {expected}")
