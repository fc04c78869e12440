"""What in contracts will hurt later, told while it can be changed. What could end a decoder is refused at loading already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, outline

MOST_BYTES = 64_000
DEEPEST = 12
_LOGICAL: Mapping[str, frozenset[str]] = {
    "date": frozenset({"int"}),
    "decimal": frozenset({"bytes", "fixed"}),
    "time-millis": frozenset({"int"}),
    "uuid": frozenset({"string", "fixed"}),
    **dict.fromkeys(("time-micros", "timestamp-millis", "timestamp-micros"), frozenset({"long"})),
    **dict.fromkeys(("local-timestamp-millis", "local-timestamp-micros"), frozenset({"long"})),
}
_WHOLE = {"int": 31, "long": 63}


@dataclass(frozen=True, slots=True)
class Remark:
    """Something at `place`; what is `grave` is no valid Avro to others, the rest is advice."""

    place: str
    text: str
    grave: bool = False


def lint(saga: Saga) -> list[Remark]:
    """Remarks on the saga's own types."""
    found: list[Remark] = []
    for name in saga.types:
        if not name.startswith("saga."):
            found += _event(name.rpartition(".")[2], saga.contract(name))
    return list(dict.fromkeys(found))


def _event(place: str, schema: Schema) -> Iterator[Remark]:
    types = outline(schema)
    if (size := len(orjson.dumps(schema))) > MOST_BYTES:
        yield Remark(place, f"its schema takes {size} bytes, every service holds it in memory; split the event")
    if (depth := _depth(schema, types)) > DEEPEST:
        yield Remark(place, f"it is {depth} types deep, and is decoded as deep as that; flatten it")
    for type_ in types.values():
        yield from _type(str(type_["name"]), type_, types)


def _type(name: str, schema: Schema, types: Mapping[str, Schema]) -> Iterator[Remark]:
    if schema["type"] == "enum" and "default" not in schema:
        yield Remark(name, 'the enum has no "default": a symbol can never be added, since old readers would not know it')
    seen: dict[str, str] = {}
    for field in schema.get("fields", []):
        place = f"{name}.{field['name']}"
        if (other := seen.setdefault(field["name"].lower(), field["name"])) != field["name"]:
            yield Remark(place, f"it differs from {other} in capitals only, which tables and other languages mix up; rename it")
        if "default" in field and not _fits(field["default"], field["type"], types):
            text = f"the default {orjson.dumps(field['default']).decode()} does not fit its type (of a union: the first)"
            yield Remark(place, f"{text}; correct it", grave=True)
        yield from _logical(place, field["type"])


def _logical(place: str, schema: Any) -> Iterator[Remark]:
    match schema:
        case list():
            for branch in schema:
                yield from _logical(place, branch)
        case {"type": kind, "logicalType": str(logical)}:
            if logical not in _LOGICAL:
                yield Remark(place, f"no library knows the logical type {logical}; all read a plain {kind}")
            elif kind not in _LOGICAL[logical]:
                text = f"{logical} is no logical type of {kind} but of {' or '.join(sorted(_LOGICAL[logical]))}"
                yield Remark(place, f"{text}; others ignore it", grave=True)
        case dict():
            for key in ("items", "values", "type"):
                yield from _logical(place, schema.get(key))


def _depth(schema: Any, types: Mapping[str, Schema]) -> int:
    """How many records and collections stand in one another."""
    schema = types.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return max((_depth(branch, types) for branch in schema), default=0)
    if not isinstance(schema, dict):
        return 0
    inner = [schema[key] for key in ("items", "values") if key in schema] + [f["type"] for f in schema.get("fields", [])]
    return max((_depth(part, types) for part in inner), default=-1) + 1


def _fits(value: Any, schema: Any, types: Mapping[str, Schema]) -> bool:
    """Whether a default, as JSON, is of this type. Source: Avro 1.12 specification, Complex Types, Records."""
    schema = types.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return _fits(value, schema[0], types)
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "int" | "long":
            return isinstance(value, int) and not isinstance(value, bool) and -(2 ** _WHOLE[kind]) <= value < 2 ** _WHOLE[kind]
        case "float" | "double":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "bytes" | "fixed":
            size = schema["size"] if kind == "fixed" else None
            return isinstance(value, str) and all(ord(sign) < 256 for sign in value) and size in (None, len(value))
        case "enum":
            return value in schema["symbols"]
        case "array":
            return isinstance(value, list) and all(_fits(item, schema["items"], types) for item in value)
        case "map":
            return isinstance(value, dict) and all(_fits(item, schema["values"], types) for item in value.values())
        case "record":
            return isinstance(value, dict) and all(
                _fits(value[field["name"]], field["type"], types) if field["name"] in value else "default" in field
                for field in schema["fields"]
            )
    return _fits(value, kind, types)
