"""An event made of its contract alone, in the values that the codec writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, full_name, outline

_PRIMITIVE: Mapping[str, Any] = {
    "null": None, "boolean": True, "int": 1, "long": 100, "float": 0.5, "double": 0.5, "bytes": b"",
}  # fmt: skip
_DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - local timestamps have no offset
_LOGICAL: Mapping[str, Any] = {
    "date": date(2026, 1, 1),
    "time-millis": time(12),
    "time-micros": time(12),
    "timestamp-millis": _DAY.replace(tzinfo=UTC),
    "timestamp-micros": _DAY.replace(tzinfo=UTC),
    "local-timestamp-millis": _DAY,
    "local-timestamp-micros": _DAY,
}


def specimen(saga: Saga, event: str, number: int = 1) -> dict[str, Any]:
    """The fields of such an event; texts and uuids differ with the number, so that what must be unique is."""
    schema = saga.contract(event)
    fields: dict[str, Any] = _Maker(outline(schema), number).value(full_name(schema, ""), "")
    return fields


class _Maker:
    def __init__(self, named: Mapping[str, Schema], number: int) -> None:
        self.named, self.number = named, number

    def value(self, schema: Any, field: str) -> Any:
        match schema:
            case "string":
                return f"{field.removesuffix('_id').replace('_', '-')}-{self.number}"
            case str():
                return self.value(self.named[schema], field) if schema in self.named else _PRIMITIVE[schema]
            case list():
                return self.value(next((branch for branch in schema if branch != "null"), "null"), field)
            case {"logicalType": str(logical)} if (made := self.logical(logical, schema)) is not None:
                return made
            case {"type": "record", "fields": fields}:
                return {one["name"]: self.value(one["type"], one["name"]) for one in fields}
            case {"type": "enum", "symbols": symbols}:
                return symbols[0]
            case {"type": "fixed", "size": size}:
                return bytes(size)
            case {"type": "array", "items": items}:
                return [self.value(items, field)]
            case {"type": "map", "values": values}:
                return {"key": self.value(values, field)}
        return self.value(schema["type"], field)

    def logical(self, logical: str, schema: Mapping[str, Any]) -> Any:
        made: Mapping[str, Callable[[], Any]] = {
            "uuid": lambda: UUID(int=self.number),
            "decimal": lambda: Decimal(1).scaleb(-schema.get("scale", 0)),
        }
        return made[logical]() if logical in made else _LOGICAL.get(logical)
