"""The defaults of a schema's fields as the values that they stand for: JSON has no word for bytes, moments and amounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from saga.contracts.schema import full_name

Avro = TypeVar("Avro")
Readers = Mapping[str, Callable[..., Any]]
"""From what the bytes of a logical type are to its value, by `<type>-<logical type>`."""


def with_values(schema: Avro, readers: Readers) -> Avro:
    """The same parsed schema, each default in it replaced by its value. What does not fit its type is left as it is."""
    types: dict[str, Any] = {}
    fields = [*_fields(schema, types)]
    values = [_value(field["default"], field["type"], types, readers) for field in fields]
    for field, value in zip(fields, values, strict=True):
        field["default"] = value
    return schema


def _fields(schema: Any, types: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The fields that have a default; named types are put into `types`."""
    match schema:
        case list():
            for branch in schema:
                yield from _fields(branch, types)
        case dict():
            if "name" in schema:
                types[full_name(schema, "")] = schema
            for part in (schema[key] for key in ("items", "values", "type") if key in schema):
                yield from _fields(part, types)
            for field in schema.get("fields", []):
                yield from _fields(field["type"], types)
                if "default" in field:
                    yield field


def _value(default: Any, schema: Any, types: Mapping[str, Any], readers: Readers) -> Any:
    try:
        return _read(default, schema, types, readers)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        return default


def _read(default: Any, schema: Any, types: Mapping[str, Any], readers: Readers) -> Any:
    if isinstance(schema, str) and schema in types:
        return _read(default, types[schema], types, readers)
    if isinstance(schema, list):  # of a union it belongs to the first branch
        return _read(default, schema[0], types, readers)
    match schema:
        case "bytes" | {"type": "bytes" | "fixed"}:
            plain = default.encode("latin-1")
        case {"type": "array", "items": items}:
            plain = [_read(item, items, types, readers) for item in default]
        case {"type": "map", "values": values}:
            plain = {key: _read(item, values, types, readers) for key, item in default.items()}
        case {"type": "record", "fields": fields}:
            given = {field["name"]: default.get(field["name"], field.get("default")) for field in fields}
            plain = {field["name"]: _read(given[field["name"]], field["type"], types, readers) for field in fields}
        case {"type": dict() | list() as inner}:
            plain = _read(default, inner, types, readers)
        case _:
            plain = default
    logical = readers.get(f"{schema['type']}-{schema.get('logicalType')}") if isinstance(schema, dict) else None
    return logical(plain, schema, None) if logical else plain
