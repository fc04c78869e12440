"""The codec: what goes in comes out, and what does not fit is refused before it can be committed or believed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import Saga
from saga.contracts.avro import MAX_EVENT_BYTES, AvroCodec
from saga.contracts.schema import Schema, computed_id
from saga.errors import DecodeError, EncodeError, EventTooLarge, SchemaNotFound, UnknownSchema
from saga.transport.kafka_settings import MIN_RECORD_BYTES

FIELDS: Mapping[str, tuple[Any, Any]] = {
    "text": ("string", "Grüße"),
    "flag": ("boolean", True),
    "small": ("int", -(2**31)),
    "large": ("long", 2**63 - 1),
    "ratio": ("double", 0.1),
    "raw": ("bytes", b"\0\xff"),
    "maybe": (["null", "string"], None),
    "many": ({"type": "array", "items": "long"}, [1, 2, 3]),
    "named": ({"type": "map", "values": "int"}, {"a": 1}),
    "colour": ({"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}, "BLUE"),
    "key": ({"type": "string", "logicalType": "uuid"}, UUID("0b6e9a5e-3c43-5a0a-8d5b-0d8f4c1f9a11")),
    "token": ({"type": "fixed", "name": "Token", "size": 16, "logicalType": "uuid"}, UUID(int=7)),
    "price": ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, Decimal("1234567890.12")),
    "day": ({"type": "int", "logicalType": "date"}, date(2026, 2, 28)),
    "clock": ({"type": "long", "logicalType": "time-micros"}, time(23, 59, 59, 999_999)),
    "moment": ({"type": "long", "logicalType": "timestamp-micros"}, datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)),
    "instant": ({"type": "long", "logicalType": "timestamp-millis"}, datetime(2026, 3, 1, 12, 0, 0, 1000, tzinfo=UTC)),
}
VALUES = {name: value for name, (_, value) in FIELDS.items()}
NAME = "shop.Everything"


DEFAULTS: Mapping[str, tuple[Any, Any, Any]] = {
    "raw": ("bytes", "\u00ff", b"\xff"),
    "code": ({"type": "fixed", "name": "Code", "size": 2}, "\u0000\u00ff", b"\0\xff"),
    "price": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "0", Decimal("0.48")),
    "day": ({"type": "int", "logicalType": "date"}, 18_262, date(2020, 1, 1)),
    "clock": ({"type": "int", "logicalType": "time-millis"}, 60_000, time(0, 1)),
    "moment": ({"type": "long", "logicalType": "timestamp-micros"}, 60_000_000, datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
    "key": ({"type": "string", "logicalType": "uuid"}, str(UUID(int=1)), UUID(int=1)),
    "maybe": (["bytes", "null"], "\u00fe", b"\xfe"),
    "many": ({"type": "array", "items": "bytes"}, ["\u00fd"], [b"\xfd"]),
    "named": ({"type": "map", "values": "bytes"}, {"a": "\u00fc"}, {"a": b"\xfc"}),
    "inside": (
        {"type": "record", "name": "Inside", "fields": [
            {"name": "given", "type": "bytes"}, {"name": "own", "type": "bytes", "default": "\u00fa"}]},
        {"given": "\u00fb"}, {"given": b"\xfb", "own": b"\xfa"},
    ),
}  # fmt: skip
"""Fields with a default: their type, the default as a contract has it, and what it stands for."""


def saga(fields: Mapping[str, Any], **defaults: Any) -> Saga:
    event: Schema = {
        "type": "record",
        "name": "Everything",
        "namespace": "shop",
        "fields": [
            {"name": name, "type": type_, **({"default": defaults[name]} if name in defaults else {})}
            for name, type_ in fields.items()
        ],
    }
    step = {"by": "shop", "emits": ["Everything"]}
    field = {"name": "sell", "type": ["null", "Everything"], "default": None, "step": step}
    attributes = {"name": "sale", "version": 1, "owner": "shop"}
    return Saga.of(event, {"type": "record", "name": "Sale", "namespace": "shop", "saga": attributes, "fields": [field]})


SALE = saga({name: type_ for name, (type_, _) in FIELDS.items()})
TEXT = saga({"text": "string"})


@pytest.fixture
def codec() -> AvroCodec:
    return AvroCodec(SALE)


def test_every_type_and_logical_type_survives(codec: AvroCodec) -> None:
    assert codec.decode(NAME, codec.encode(NAME, VALUES)) == VALUES


def test_bytes_begin_with_the_id_of_their_schema_as_confluents_do(codec: AvroCodec) -> None:
    written = codec.encode(NAME, VALUES)

    assert written[0] == 0
    assert int.from_bytes(written[1:5], "big") == codec.schema_id(NAME) == computed_id(SALE.contract(NAME))


def test_the_body_is_plain_avro(codec: AvroCodec) -> None:
    body = BytesIO(codec.encode(NAME, VALUES)[5:])

    assert fastavro.schemaless_reader(body, SALE.contract(NAME), None) == VALUES


def test_two_processes_with_the_same_folder_agree_on_ids() -> None:
    one, other = AvroCodec(saga({"text": "string"})), AvroCodec(saga({"text": "string"}))

    assert other.decode(NAME, one.encode(NAME, {"text": "a"})) == {"text": "a"}


def test_without_a_registry_a_contract_that_was_described_otherwise_reads_the_same_bytes() -> None:
    before, after = saga({"text": "string"}), saga({"text": {"type": "string", "doc": "What was said."}}, text="nothing")
    assert before.contract(NAME) != after.contract(NAME)
    written = AvroCodec(before).encode(NAME, {"text": "a"})

    assert AvroCodec(after).decode(NAME, written) == {"text": "a"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 1},
        {"small": 2**31},
        {"small": -(2**31) - 1},
        {"named": {"a": 2**31}},
        {"large": 2**63},
        {"colour": "GREEN"},
        {"many": None},
        {"price": Decimal("0.001")},
        {"day": "today"},
    ],
)
def test_a_value_that_the_contract_does_not_allow_is_not_written(codec: AvroCodec, wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match=r"event shop\.Everything does not fit its contract"):
        codec.encode(NAME, {**VALUES, **wrong})


@pytest.mark.parametrize(
    ("branches", "value"),
    [
        (["int", "long"], 2**31),
        (["null", "int", "double"], -(2**31) - 1),
        ([{"type": "array", "items": "int"}, {"type": "array", "items": "long"}], [1, 2**40]),
        (["int", "long"], 2**31 - 1),
    ],
)
def test_a_number_beyond_an_int_is_written_as_the_next_type_that_takes_it(branches: list[Any], value: Any) -> None:
    codec = AvroCodec(saga({"number": branches}))

    assert codec.decode(NAME, codec.encode(NAME, {"number": value})) == {"number": value}


def test_a_field_that_is_missing_is_not_written(codec: AvroCodec) -> None:
    with pytest.raises(EncodeError, match="does not fit its contract"):
        codec.encode(NAME, {"text": "alone"})


def test_an_event_too_large_is_refused_with_its_size_and_what_to_do() -> None:
    with pytest.raises(EventTooLarge, match=r"is 900\d\d\d bytes encoded, the limit is 900000: .*send a reference") as refused:
        AvroCodec(TEXT).encode(NAME, {"text": "x" * MAX_EVENT_BYTES})

    assert refused.value.size > refused.value.limit == MAX_EVENT_BYTES


def test_the_largest_event_still_fits_into_a_record() -> None:
    text = "x" * (MAX_EVENT_BYTES - 5 - 3)

    assert len(AvroCodec(TEXT).encode(NAME, {"text": text})) == MAX_EVENT_BYTES < MIN_RECORD_BYTES


def test_bytes_beyond_the_limit_are_not_decoded() -> None:
    written = AvroCodec(TEXT).encode(NAME, {"text": "x" * 200})

    with pytest.raises(DecodeError, match="is 207 bytes; at most 100 are decoded"):
        AvroCodec(TEXT, max_bytes=100).decode(NAME, written)


@pytest.mark.parametrize(
    ("payload", "found"), [(b"", "nothing"), (b"{}", "7b7d"), (b"\0\0\0\0\1", "0000000001"), (b"\1" * 9, "0101010101")]
)
def test_bytes_of_another_contract_are_refused_with_both_ids(codec: AvroCodec, payload: bytes, found: str) -> None:
    expected = codec.schema_id(NAME).to_bytes(4, "big").hex()

    with pytest.raises(DecodeError, match=f"begins with {found}; expected 00 and the schema id {expected}"):
        codec.decode(NAME, payload)


def test_bytes_that_end_too_early_or_lie_about_a_length_are_refused() -> None:
    codec = AvroCodec(TEXT)
    written = codec.encode(NAME, {"text": "hello"})

    for broken in (written[:-1], written[:5], written[:5] + b"\xff" * 9 + b"\x01", written[:5] + b"\x04\xff\xfe"):
        with pytest.raises(DecodeError, match=r"event shop\.Everything cannot be read"):
            codec.decode(NAME, broken)


class Registered:
    """A registry that knows one schema, and nothing else."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def id_of(self, subject: str, schema: Schema) -> int:
        return 7

    def schema_of(self, id: int) -> Schema:
        if id != 8:
            raise SchemaNotFound(f"no schema {id}")
        return self.schema


def test_what_another_version_wrote_is_read_as_this_one() -> None:
    older = {"type": "record", "name": "Everything", "namespace": "shop", "fields": [
        {"name": "gone", "type": "long"}, {"name": "text", "type": "string"},
    ]}  # fmt: skip
    codec = AvroCodec(TEXT, Registered(older))  # type: ignore[arg-type]

    assert codec.decode(NAME, b"\0\0\0\0\x08" + b"\x02" + b"\x04hi") == {"text": "hi"}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_is_read_and_written_as_the_value_that_it_stands_for(name: str) -> None:
    type_, default, value = DEFAULTS[name]
    later = saga({"text": "string", name: type_}, **{name: default})
    codec = AvroCodec(later, others=[TEXT])
    before = AvroCodec(TEXT).encode(NAME, {"text": "a"})

    assert codec.decode(NAME, before) == {"text": "a", name: value}
    assert codec.decode(NAME, codec.encode(NAME, {"text": "b"})) == {"text": "b", name: value}


def test_an_id_that_the_registry_does_not_know_is_no_event_of_ours() -> None:
    codec = AvroCodec(TEXT, Registered({}))  # type: ignore[arg-type]

    with pytest.raises(UnknownSchema, match="was written with schema 9, which the registry does not know"):
        codec.decode(NAME, b"\0\0\0\0\x09abc")


def test_another_version_that_could_kill_the_decoder_is_not_decoded() -> None:
    node = {"type": "record", "name": "Everything", "namespace": "shop", "fields": [
        {"name": "next", "type": ["null", "shop.Everything"]},
    ]}  # fmt: skip
    codec = AvroCodec(TEXT, Registered(node))  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match=r"in which type shop\.Everything contains itself: it is not decoded"):
        codec.decode(NAME, b"\0\0\0\0\x08" + b"\x02" * 100_000)


def of(*types: Any) -> Schema:
    """What some other version of the event looked like."""
    fields = [{"name": f"f{number}", "type": type} for number, type in enumerate(types)]
    return {"type": "record", "name": "Everything", "namespace": "shop", "fields": fields}


COUNT_OF_MANY = b"\x80\x80\x80\x80\x80\x80\x80\x80\x40"  # 2^61, as Avro writes it


@pytest.mark.parametrize("items", ["boolean", "float", "double", {"type": "fixed", "name": "F", "size": 4}, "string", "int"])
@pytest.mark.parametrize("kind", ["array", "map"])
def test_a_collection_that_claims_more_than_its_bytes_can_hold_is_refused_at_once(items: Any, kind: str) -> None:
    other = of({"type": kind, "items": items, "values": items})
    codec = AvroCodec(TEXT, Registered(other))  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match="cannot be read: EOFError"):
        codec.decode(NAME, b"\0\0\0\0\x08" + COUNT_OF_MANY + b"\x02")


def test_a_number_that_would_take_minutes_is_refused_at_once() -> None:
    other = of({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2})
    codec = AvroCodec(TEXT, Registered(other))  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match="found a decimal of 800000 bytes; at most 1024 are read"):
        codec.decode(NAME, b"\0\0\0\0\x08" + b"\x80\xd4\x61" + b"\x7f" * 800_000)


def test_bytes_behind_the_event_are_refused() -> None:
    codec = AvroCodec(TEXT)

    with pytest.raises(DecodeError, match="cannot be read: 3 bytes are left over"):
        codec.decode(NAME, codec.encode(NAME, {"text": "hello"}) + b"\0\0\0")


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("string", "cannot be read|makes no sense"),
        (None, "makes no sense"),
        ({"type": "record"}, "makes no sense"),
        ({"type": "enum", "name": "E", "symbols": ["a"]}, "it is a str, expected a record"),
        (of("shop.Missing"), "makes no sense: UnknownType"),
        (of({"type": "array"}), "makes no sense"),
        (of("long"), "SchemaResolutionError"),
    ],
)
def test_a_schema_of_the_registry_that_makes_no_sense_here_is_no_reason_to_stop(schema: Any, why: str) -> None:
    codec = AvroCodec(TEXT, Registered(schema))  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match=why):
        codec.decode(NAME, b"\0\0\0\0\x08\0")


def test_an_id_that_no_registry_gives_out_is_not_asked_for() -> None:
    codec = AvroCodec(TEXT, Registered({}))  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match="beyond all that a registry gives out"):
        codec.decode(NAME, b"\0\xff\xff\xff\xff\0")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_say_they_are_read_or_refused(body: bytes) -> None:
    codec = AvroCodec(TEXT)
    prefix = codec.encode(NAME, {"text": ""})[:5]

    with suppress(DecodeError):
        assert isinstance(codec.decode(NAME, prefix + body)["text"], str)
