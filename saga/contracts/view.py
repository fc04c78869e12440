"""Whether a service's own view of an event fits the contract; services share contracts, never classes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, NaiveDatetime

from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, full_name
from saga.errors import DefinitionError

_PYTHON: Mapping[str, tuple[type, ...]] = {
    "null": (NoneType,),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (float,),
    "double": (float,),
    "bytes": (bytes,),
    "string": (str,),
    "uuid": (UUID,),
    "decimal": (Decimal,),
    "date": (date,),
    "time-millis": (time,),
    "time-micros": (time,),
    "timestamp-millis": (datetime,),
    "timestamp-micros": (datetime,),
    "local-timestamp-millis": (datetime,),
    "local-timestamp-micros": (datetime,),
}


def check_view(view: type[BaseModel], saga: Saga, event: str, *, writes: bool) -> None:
    """Refuse (`DefinitionError`) a view that could not read the event, or, with `writes`, could not be written as one.

    A reader may ignore fields of the contract; a writer must name every field that has no default there.
    """
    _check_record(view, saga.contract(event), event, writes, {})


def _check_record(view: type[BaseModel], schema: Schema, event: str, writes: bool, named: dict[str, Schema]) -> None:
    named[full_name(schema, "")] = schema
    fields = {f["name"]: f for f in schema["fields"]}
    for name, info in view.model_fields.items():
        place = f"{view.__module__}.{view.__qualname__}.{name}"
        if name not in fields and (writes or info.is_required()):
            raise DefinitionError(
                f"{place}: the contract {event} has no such field; it has {', '.join(fields) or 'none'}. "
                f"Rename the field{'' if writes else ', or give it a default'}."
            )
        if name in fields:
            _check_type(info.annotation, fields[name]["type"], place, writes, named)
    missing = [n for n, f in fields.items() if "default" not in f and n not in view.model_fields]
    if writes and missing:
        raise DefinitionError(
            f"{view.__module__}.{view.__qualname__} is emitted as {event} but lacks {', '.join(missing)}, "
            f"which the contract requires. Add the field{'s' if len(missing) > 1 else ''}."
        )


def _check_type(annotation: Any, schema: Any, place: str, writes: bool, named: dict[str, Schema]) -> None:
    """Every branch of what is read must be accepted: the contract's when reading, the view's when writing."""
    given, contract = _branches(annotation), schema if isinstance(schema, list) else [schema]
    sources, accept = (given, contract) if writes else (contract, given)
    for source in sources:
        pairs = ((source, target) if writes else (target, source) for target in accept)
        if not any(_fits(kind, avro, place, writes, named) for kind, avro in pairs):
            raise DefinitionError(f"{place}: found {annotation}; the contract says {_spell(schema)}. Make them agree.")


def _fits(kind: Any, schema: Any, place: str, writes: bool, named: dict[str, Schema]) -> bool:
    if kind is Any:
        return True
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    name = schema if isinstance(schema, str) else schema.get("logicalType", schema["type"])
    origin, arguments = get_origin(kind), get_args(kind)
    match name:
        case "record":
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
                return False
            if full_name(schema, "") not in named:
                _check_record(kind, schema, full_name(schema, ""), writes, named)
            return True
        case "array":
            return origin in {list, tuple} and _nested(arguments[0], schema["items"], place, writes, named)
        case "map":
            return origin is dict and _nested(arguments[1], schema["values"], place, writes, named)
        case "enum":
            named[full_name(schema, "")] = schema
            return _names_symbols(kind, set(schema["symbols"]), writes)
        case "fixed":
            return kind is bytes
        case _ if isinstance(schema, dict) and name not in _PYTHON:
            return _fits(kind, schema["type"], place, writes, named)
    if origin is Literal:
        return name == "string"
    if kind in (AwareDatetime, NaiveDatetime):
        kind = datetime if (kind is NaiveDatetime) == name.startswith("local-") else None
    return isinstance(kind, type) and issubclass(kind, _PYTHON[name]) and not (kind is bool and name != "boolean")


def _names_symbols(kind: Any, symbols: set[str], writes: bool) -> bool:
    """Any text will do, else what is read must be among the view's values, and what is written among the contract's."""
    if get_origin(kind) is Literal:
        values = set(get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, str):
        values = {member.value for member in kind} if issubclass(kind, Enum) else symbols
    else:
        return False
    return values <= symbols if writes else symbols <= values


def _nested(annotation: Any, schema: Any, place: str, writes: bool, named: dict[str, Schema]) -> bool:
    _check_type(annotation, schema, f"{place}[]", writes, named)
    return True


def _branches(annotation: Any) -> list[Any]:
    if get_origin(annotation) in {Union, UnionType}:
        return [kind for branch in get_args(annotation) for kind in _branches(branch)]
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    return [annotation]


def _spell(schema: Any) -> str:
    if isinstance(schema, list):
        return " | ".join(_spell(branch) for branch in schema)
    if isinstance(schema, dict) and schema["type"] == "enum":
        return f"{schema['name']} of {', '.join(schema['symbols'])}"
    if isinstance(schema, dict):
        return str(schema.get("logicalType") or schema.get("name") or schema["type"])
    return str(schema)
