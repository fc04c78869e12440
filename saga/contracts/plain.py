"""From plain values, as JSON and CSV have them, to what the codec writes: texts that stand for moments, amounts and ids.

Only what has one meaning is taken; anything else is refused with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from saga.contracts.schema import Schema, full_name, outline
from saga.errors import EncodeError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _amount(text: str) -> Decimal:
    if not (amount := Decimal(text)).is_finite():
        raise ValueError(text)
    return amount


def _moment(text: str) -> datetime:
    if (moment := datetime.fromisoformat(text)).tzinfo is None:
        raise ValueError(text)
    return moment


def _local(text: str) -> datetime:
    if (moment := datetime.fromisoformat(text)).tzinfo is not None:
        raise ValueError(text)
    return moment


def _clock(text: str) -> time:
    if (clock := time.fromisoformat(text)).tzinfo is not None:
        raise ValueError(text)
    return clock


_LOGICAL: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "uuid": (UUID, "a uuid"),
    "decimal": (_amount, "a decimal"),
    "date": (date.fromisoformat, "a date"),
    "time-millis": (_clock, "a time-millis without an offset"),
    "time-micros": (_clock, "a time-micros without an offset"),
    "timestamp-millis": (_moment, "a timestamp-millis with its offset from UTC"),
    "timestamp-micros": (_moment, "a timestamp-micros with its offset from UTC"),
    "local-timestamp-millis": (_local, "a local-timestamp-millis without an offset"),
    "local-timestamp-micros": (_local, "a local-timestamp-micros without an offset"),
}
_NUMBERS: Mapping[str, str] = {"date": "days", "timestamp-millis": "milliseconds", "timestamp-micros": "microseconds"}
"""What Avro counts from 1970, where a number stands for a moment."""
_TRUTH = {"true": True, "false": False}
_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": _TRUTH.__getitem__,
    "bytes": bytes.fromhex,
}
_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def from_plain(schema: Schema, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record of this self-contained schema.

    Moments are in ISO 8601, or numbers as Avro has them; amounts and uuids are texts, bytes are hexadecimal; numbers and
    booleans may be texts, as in CSV, and an empty text is null where null is allowed and text is not. Raises EncodeError that
    names the field.
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
                return _read(*_LOGICAL[logical], given, place)
            case {"logicalType": logical} if logical in _NUMBERS and type(given) is int:
                return _counted(logical, given, place)
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
    if isinstance(given, str) and kind in _FROM_TEXT:
        return _read(_FROM_TEXT[kind], kind, given, place)
    if kind in _KINDS and type(given) not in _KINDS[kind]:
        raise _wrong(place, repr(given), kind)
    return given


def _read(reader: Callable[[str], Any], expected: str, given: str, place: str) -> Any:
    try:
        return reader(given)
    except (ValueError, ArithmeticError, KeyError) as error:
        raise _wrong(place, repr(given), expected) from error


def _counted(logical: str, given: int, place: str) -> int:
    """The number as it is, if it is that of a moment: nobody could read another."""
    try:
        _EPOCH + timedelta(**{_NUMBERS[logical]: given})
    except OverflowError as error:
        raise _wrong(place, given, f"a {logical} as {_NUMBERS[logical]} from 1970, within the calendar") from error
    return given


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(place: str, found: Any, expected: str) -> EncodeError:
    return EncodeError(f"{place or 'the record'}: found {found}; expected {expected}")
