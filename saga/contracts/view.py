"""Whether a service's own view of an event fits the contract; services share contracts, never classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, NaiveDatetime

from saga.contracts.saga import Saga
from saga.contracts.schema import Schema, full_name, outline
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
    if problems := view_problems(view, saga, event, writes=writes):
        raise DefinitionError("\n".join(problems))


def view_problems(view: type[BaseModel], saga: Saga, event: str, *, writes: bool) -> list[str]:
    """All that `check_view` would refuse, each with its place and what to do."""
    types = outline(saga.contract(event))
    return list(dict.fromkeys(_Fit(types, writes).record(view, types[event], event)))


class _Fit:
    """Holds views to the types of one contract, by full name."""

    def __init__(self, types: Mapping[str, Schema], writes: bool) -> None:
        self.types, self.writes = types, writes

    def record(self, view: type[BaseModel], schema: Schema, event: str) -> Iterator[str]:
        fields = {f["name"]: f for f in schema["fields"]}
        for name, info in view.model_fields.items():
            place = f"{view.__module__}.{view.__qualname__}.{name}"
            if name not in fields and (self.writes or info.is_required()):
                yield (
                    f"{place}: the contract {event} has no such field; it has {', '.join(fields) or 'none'}. "
                    f"Rename the field{'' if self.writes else ', or give it a default'}."
                )
            if name in fields:
                yield from self.type(info.annotation, fields[name]["type"], place)
        missing = [n for n, f in fields.items() if "default" not in f and n not in view.model_fields]
        if self.writes and missing:
            yield (
                f"{view.__module__}.{view.__qualname__} is emitted as {event} but lacks {', '.join(missing)}, "
                f"which the contract requires. Add the field{'s' if len(missing) > 1 else ''}."
            )

    def type(self, annotation: Any, schema: Any, place: str) -> Iterator[str]:
        """Every branch of what is read must be accepted: the contract's when reading, the view's when writing."""
        given, contract = _branches(annotation), schema if isinstance(schema, list) else [schema]
        sources, accept = (given, contract) if self.writes else (contract, given)
        for source in sources:
            pairs = ((source, target) if self.writes else (target, source) for target in accept)
            tried = [found for kind, avro in pairs if (found := self._fits(kind, avro, place)) is not None]
            if not tried:
                yield f"{place}: found {annotation}; the contract says {self._spell(schema)}. Make them agree."
                return
            yield from min(tried, key=len)

    def _fits(self, kind: Any, schema: Any, place: str) -> list[str] | None:
        """What is wrong inside, None if the two are not of one kind at all."""
        if kind is Any:
            return []
        schema = self.types.get(schema, schema) if isinstance(schema, str) else schema
        name = schema if isinstance(schema, str) else schema.get("logicalType", schema["type"])
        origin, arguments = get_origin(kind), get_args(kind)
        match name:
            case "record":
                is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
                return [*self.record(kind, schema, full_name(schema, ""))] if is_model else None
            case "array":
                return [*self.type(arguments[0], schema["items"], f"{place}[]")] if origin in {list, tuple} else None
            case "map":
                return [*self.type(arguments[1], schema["values"], f"{place}[]")] if origin is dict else None
            case "enum":
                return [] if _names_symbols(kind, set(schema["symbols"]), self.writes) else None
            case "fixed":
                return [] if kind is bytes else None
            case _ if isinstance(schema, dict) and name not in _PYTHON:
                return self._fits(kind, schema["type"], place)
        return [] if _is_simple(kind, name) else None

    def _spell(self, schema: Any) -> str:
        schema = self.types.get(schema, schema) if isinstance(schema, str) else schema
        if isinstance(schema, list):
            return " | ".join(map(self._spell, schema))
        if isinstance(schema, dict) and schema["type"] == "enum":
            return f"{schema['name']} of {', '.join(schema['symbols'])}"
        if isinstance(schema, dict):
            return str(schema.get("logicalType") or schema.get("name") or schema["type"])
        return str(schema)


def _is_simple(kind: Any, name: str) -> bool:
    if get_origin(kind) is Literal:
        return name == "string"
    if kind in (AwareDatetime, NaiveDatetime):
        return datetime in _PYTHON[name] and (kind is NaiveDatetime) == name.startswith("local-")
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


def _branches(annotation: Any) -> list[Any]:
    if get_origin(annotation) in {Union, UnionType}:
        return [kind for branch in get_args(annotation) for kind in _branches(branch)]
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    return [annotation]
