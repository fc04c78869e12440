"""What contracts call sensitive leaves no trace in a recording, and equal values stay equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from saga.contracts.avro import AvroCodec
from saga.contracts.saga import Saga
from saga.replay.mask import Masking
from tests.travel import saga as travel


def masking(fields: list[dict[str, Any]], **options: Any) -> tuple[AvroCodec, Masking]:
    saga = contract(fields)
    codec = AvroCodec(saga)
    return codec, Masking(saga, codec, **options)


def contract(fields: list[dict[str, Any]]) -> Saga:
    plain = travel()
    own = [schema for name, schema in plain.types.items() if not name.startswith("saga.") and name != "travel.TripBooked"]
    return Saga.of({"type": "record", "name": "TripBooked", "namespace": "travel", "fields": fields}, *own, dict(plain.own))


def masked(type_: Any, value: Any, **options: Any) -> Any:
    codec, mask = masking([{"name": "it", "type": type_, "sensitive": True}], **options)
    payload = mask.payload("travel.TripBooked", codec.encode("travel.TripBooked", {"it": value}))
    return codec.decode("travel.TripBooked", payload)["it"]


PERSON = {"type": "record", "name": "Person", "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "int"}]}


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("string", "Ada"),
        ("int", 36),
        ("long", 2**40),
        ("double", 0.5),
        ("bytes", b"Ada"),
        (["null", "string"], "Ada"),
        ({"type": "array", "items": "string"}, ["Ada", "Bob"]),
        ({"type": "map", "values": "string"}, {"a": "Ada"}),
        ({"type": "map", "values": "int"}, {"Ada": 36, "Bob": 36}),
        (PERSON, {"name": "Ada", "age": 36}),
        ({"type": "long", "logicalType": "timestamp-millis"}, datetime(1815, 12, 10, tzinfo=UTC)),
        ({"type": "fixed", "name": "Hash", "size": 3}, b"Ada"),
        ({"type": "enum", "name": "Sex", "symbols": ["unknown", "female"]}, "female"),
    ],
)
def test_a_tagged_field_of_any_type_is_hidden_and_still_fits_the_contract(type_: Any, value: Any) -> None:
    hidden = masked(type_, value)

    assert hidden != value
    assert "Ada" not in repr(hidden)
    assert masked(type_, value) == hidden


def test_equal_values_stay_equal_and_a_salt_makes_them_others() -> None:
    assert masked("string", "Ada") == masked("string", "Ada")
    assert masked("string", "Ada") != masked("string", "Bob")
    assert masked("string", "Ada") != masked("string", "Ada", salt="a secret")


def test_what_is_not_tagged_stays_as_it_was_byte_by_byte() -> None:
    codec, mask = masking([{"name": "it", "type": "string"}])
    payload = codec.encode("travel.TripBooked", {"it": "Ada"})

    assert mask.payload("travel.TripBooked", payload) is payload


def test_a_tag_inside_a_nested_record_is_found() -> None:
    person = {**PERSON, "fields": [{"name": "name", "type": "string", "sensitive": True}, {"name": "age", "type": "int"}]}
    codec, mask = masking([{"name": "who", "type": {"type": "array", "items": person}}])
    payload = codec.encode("travel.TripBooked", {"who": [{"name": "Ada", "age": 36}]})

    [hidden] = codec.decode("travel.TripBooked", mask.payload("travel.TripBooked", payload))["who"]

    assert hidden["age"] == 36
    assert hidden["name"].startswith("masked-")


def test_what_cannot_be_read_and_so_not_be_masked_is_not_kept() -> None:
    _, mask = masking([{"name": "it", "type": "string", "sensitive": True}])

    assert mask.payload("travel.TripBooked", b"\0\0\0\0\1Ada") == b""
    assert mask.payload("travel.Unheard", b"Ada") == b""


def test_what_an_earlier_contract_called_sensitive_and_the_one_at_hand_no_longer_has_is_not_kept() -> None:
    trip = {"name": "trip", "type": "string"}
    before, now = contract([trip, {"name": "mail", "type": "string", "sensitive": True}]), contract([trip])
    payload = AvroCodec(before).encode("travel.TripBooked", {"trip": "rome", "mail": "ada@example.org"})
    codec = AvroCodec(now, others=[before])

    kept = Masking(now, codec).payload("travel.TripBooked", payload)

    assert b"ada@example.org" not in kept
    assert codec.decode("travel.TripBooked", kept) == {"trip": "rome"}
