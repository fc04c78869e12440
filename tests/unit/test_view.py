"""A service's view of an event against the contract: what may be ignored, what must agree, in each direction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, create_model

from saga import DefinitionError, Event, Saga
from saga.contracts.view import check_view


class Size(StrEnum):
    LARGE = "LARGE"


class Line(BaseModel):
    sku: str


class Blank(BaseModel):
    pass


LINE = {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}]}
ENUM = {"type": "enum", "name": "Size", "symbols": ["LARGE"]}


def of(type_: Any, **more: Any) -> Saga:
    """A saga whose only event `Sold` has one field `thing` of this type, and `more` fields with defaults."""
    fields = [{"name": "thing", "type": type_}, *({"name": n, "type": "string", "default": d} for n, d in more.items())]
    sold = {"type": "record", "name": "Sold", "namespace": "shop", "fields": fields}
    step = {"by": "shop", "emits": ["Sold"]}
    field = {"name": "sell", "type": ["null", "Sold"], "default": None, "step": step}
    attributes = {"name": "sale", "version": 1, "owner": "shop"}
    return Saga.of(sold, {"type": "record", "name": "Sale", "namespace": "shop", "saga": attributes, "fields": [field]})


def view(**fields: Any) -> type[Event]:
    defined: dict[str, Any] = {name: kind if isinstance(kind, tuple) else (kind, ...) for name, kind in fields.items()}
    return create_model("Sold", __base__=Event, **defined)


def refused(view_: type[Event], saga: Saga, *, writes: bool) -> bool:
    try:
        check_view(view_, saga, "shop.Sold", writes=writes)
    except DefinitionError:
        return True
    return False


AGREEING: Mapping[str, tuple[Any, Any]] = {
    "text": ("string", str),
    "flag": ("boolean", bool),
    "int": ("int", int),
    "long": ("long", int),
    "double": ("double", float),
    "bytes": ("bytes", bytes),
    "optional": (["null", "string"], str | None),
    "array": ({"type": "array", "items": "long"}, list[int]),
    "array as tuple": ({"type": "array", "items": "long"}, tuple[int, ...]),
    "map": ({"type": "map", "values": "string"}, dict[str, str]),
    "record": (LINE, Line),
    "array of records": ({"type": "array", "items": LINE}, list[Line]),
    "enum": (ENUM, Size),
    "enum as text": (ENUM, str),
    "enum as literals": (ENUM, Literal["LARGE"]),
    "uuid": ({"type": "string", "logicalType": "uuid"}, UUID),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, Decimal),
    "date": ({"type": "int", "logicalType": "date"}, date),
    "moment": ({"type": "long", "logicalType": "timestamp-micros"}, datetime),
    "unknown logical type": ({"type": "string", "logicalType": "colour"}, str),
    "constrained": ("string", Annotated[str, Field(min_length=1)]),
    "anything": ("string", Any),
}

DISAGREEING: Mapping[str, tuple[Any, Any]] = {
    "text for a number": ("long", str),
    "a number for text": ("string", int),
    "a truth value for a number": ("long", bool),
    "a number for a truth value": ("boolean", int),
    "a date for a moment": ({"type": "long", "logicalType": "timestamp-micros"}, date),
    "one for many": ({"type": "array", "items": "long"}, int),
    "many of another type": ({"type": "array", "items": "long"}, list[str]),
    "another record": (LINE, str),
    "a binary fraction for a decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, float),
}


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
@pytest.mark.parametrize("case", AGREEING)
def test_types_that_agree_are_accepted_in_both_directions(case: str, writes: bool) -> None:
    schema, kind = AGREEING[case]

    check_view(view(thing=kind), of(schema), "shop.Sold", writes=writes)


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
@pytest.mark.parametrize("case", DISAGREEING)
def test_types_that_disagree_are_refused_in_both_directions(case: str, writes: bool) -> None:
    schema, kind = DISAGREEING[case]

    with pytest.raises(DefinitionError, match=r"Sold\.thing.*: found .*; the contract says .*\. Make them agree\."):
        check_view(view(thing=kind), of(schema), "shop.Sold", writes=writes)


def test_what_may_be_null_must_be_optional_where_it_is_read() -> None:
    assert refused(view(thing=str), of(["null", "string"]), writes=False)
    assert not refused(view(thing=str), of(["null", "string"]), writes=True)


def test_what_may_be_none_must_be_nullable_where_it_is_written() -> None:
    assert refused(view(thing=str | None), of("string"), writes=True)
    assert not refused(view(thing=str | None), of("string"), writes=False)


def test_a_reader_may_ignore_fields_and_a_writer_only_those_with_a_default() -> None:
    blank = view()

    assert not refused(blank, of("string"), writes=False)
    with pytest.raises(DefinitionError, match=r"Sold is emitted as shop\.Sold but lacks thing, which the contract requires"):
        check_view(blank, of("string"), "shop.Sold", writes=True)
    assert not refused(view(thing=str), of("string", note=""), writes=True)


def test_a_field_that_the_contract_does_not_have_needs_a_default_and_is_never_written() -> None:
    required, optional = view(thing=str, more=str), view(thing=str, more=(str, ""))

    with pytest.raises(DefinitionError, match=r"no such field; it has thing\. Rename the field, or give it a default\."):
        check_view(required, of("string"), "shop.Sold", writes=False)
    assert not refused(optional, of("string"), writes=False)
    assert refused(optional, of("string"), writes=True)


def test_a_nested_record_is_held_to_the_same_rules() -> None:
    assert not refused(view(thing=list[Blank]), of({"type": "array", "items": LINE}), writes=False)
    with pytest.raises(DefinitionError, match=r"Blank is emitted as shop\.Line but lacks sku"):
        check_view(view(thing=list[Blank]), of({"type": "array", "items": LINE}), "shop.Sold", writes=True)
