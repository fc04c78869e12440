"""A service's view of an event against the contract: what may be ignored, what must agree, in each direction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, create_model

from saga import DefinitionError, Event, Saga
from saga.contracts.avro import AvroCodec
from saga.contracts.view import check_view


class Size(StrEnum):
    LARGE = "LARGE"


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str


class Blank(BaseModel):
    pass


LINE = {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}]}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red"]}
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
    "text of an enum": ("string", Size),
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
    "an enum that is no text": (COLOUR, Colour),
    "text that is an enum and no text": ("string", Colour),
    "text for a uuid": ({"type": "string", "logicalType": "uuid"}, str),
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


VALUES: Mapping[str, Any] = {
    "text": "a",
    "flag": True,
    "int": 1,
    "long": 1,
    "double": 0.5,
    "bytes": b"a",
    "optional": None,
    "array": [1],
    "array as tuple": (1,),
    "map": {"a": "b"},
    "record": Line(sku="a"),
    "array of records": [Line(sku="a")],
    "enum": Size.LARGE,
    "enum as text": "LARGE",
    "enum as literals": "LARGE",
    "text of an enum": Size.LARGE,
    "uuid": UUID(int=1),
    "decimal": Decimal("0.10"),
    "date": date(2026, 3, 1),
    "moment": datetime(2026, 3, 1, tzinfo=UTC),
    "unknown logical type": "red",
    "constrained": "a",
    "anything": "a",
}


@pytest.mark.parametrize("case", AGREEING)
def test_what_is_accepted_survives_the_way_over_the_wire(case: str) -> None:
    schema, kind = AGREEING[case]
    codec, sold = AvroCodec(of(schema)), view(thing=kind)
    event = sold(thing=VALUES[case])

    read = sold.model_validate(codec.decode("shop.Sold", codec.encode("shop.Sold", event.model_dump())))

    assert read == event


def test_an_enum_must_know_every_symbol_that_is_read_and_no_other_may_be_written() -> None:
    one, two = of(ENUM), of({**ENUM, "symbols": ["LARGE", "SMALL"]})

    with pytest.raises(DefinitionError, match=r"the contract says Size of LARGE, SMALL\."):
        check_view(view(thing=Size), two, "shop.Sold", writes=False)
    assert not refused(view(thing=Size), two, writes=True)
    assert refused(view(thing=Literal["LARGE", "HUGE"]), one, writes=True)
    assert not refused(view(thing=Literal["LARGE", "HUGE"]), one, writes=False)


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


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(DefinitionError) as refusal:
        check_view(view(thing=int, more=str), of("string"), "shop.Sold", writes=False)

    assert [line.partition(":")[0].rpartition(".")[2] for line in str(refusal.value).splitlines()] == ["thing", "more"]


def test_each_of_several_records_needs_one_view_that_fits() -> None:
    other = {"type": "record", "name": "Gift", "fields": [{"name": "card", "type": "string"}]}

    class Gift(BaseModel):
        card: str

    assert not refused(view(thing=Line | Gift), of([LINE, other]), writes=False)
    assert not refused(view(thing=Line | Gift), of([LINE, other]), writes=True)
    assert refused(view(thing=Line), of([LINE, other]), writes=False)


def test_a_view_may_name_fields_in_any_order_though_a_type_is_written_out_at_its_first_use() -> None:
    saga = of(LINE, note="")
    fields = [*saga.types["shop.Sold"]["fields"], {"name": "gift", "type": "shop.Line"}]
    twice = Saga.of({**saga.types["shop.Sold"], "fields": fields}, saga.own)

    assert not refused(view(gift=Line, thing=Line), twice, writes=True)
