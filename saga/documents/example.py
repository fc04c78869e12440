"""An example of a record, made of its schema alone: the same schema always gives the same example.

Values are those of Avro's JSON encoding without the tags of unions. What is marked `"sensitive": true` is masked, in its
own type, so that an example still fits its schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga.contracts.schema import Schema, full_name, resolve
from saga.contracts.sensitive import MASK, is_sensitive

_PRIMITIVE: Mapping[str, Any] = {"null": None, "boolean": True, "int": 1, "long": 100, "float": 0.5, "double": 0.5}
_LOGICAL: Mapping[str, Any] = {
    "date": 20_454,  # 2026-01-01
    "timestamp-millis": 1_767_225_600_000,
    "timestamp-micros": 1_767_225_600_000_000,
    "uuid": "0b9a2f4e-6d1c-4f3b-9a57-2c8e5d7f1a60",
}


def example(name: str, types: Mapping[str, Schema]) -> dict[str, Any]:
    """An example of the record `name`; every type that it names must be in `types`."""
    made = _value(types[name], "", "", types, masked=False)
    assert isinstance(made, dict)
    return made


def _value(schema: Any, field: str, namespace: str, types: Mapping[str, Schema], *, masked: bool) -> Any:
    match schema:
        case str() if (found := resolve(schema, namespace, types)) is not None:
            return _value(types[found], field, "", types, masked=masked)
        case str():
            return _primitive(schema, field, masked=masked)
        case list():
            branch = next((branch for branch in schema if branch != "null"), "null")
            return _value(branch, field, namespace, types, masked=masked)
        case {"logicalType": str(logical)} if logical in _LOGICAL and not masked:
            return _LOGICAL[logical]
        case {"type": "record", "fields": fields}:
            space = full_name(schema, namespace).rpartition(".")[0]
            return {f["name"]: _value(f["type"], f["name"], space, types, masked=masked or is_sensitive(f)) for f in fields}
        case {"type": "enum", "symbols": symbols}:
            return symbols[0]
        case {"type": "fixed", "size": size}:
            return "\0" * size
        case {"type": "array", "items": items}:
            return [_value(items, field, namespace, types, masked=masked)]
        case {"type": "map", "values": values}:
            return {"key": _value(values, field, namespace, types, masked=masked)}
    return _value(schema["type"], field, namespace, types, masked=masked)


def _primitive(name: str, field: str, *, masked: bool) -> Any:
    if name == "bytes":
        return ""
    if name == "string":
        return MASK if masked else f"{field.removesuffix('_id').replace('_', '-')}-1"
    return type(_PRIMITIVE[name])() if masked and name != "null" else _PRIMITIVE[name]
