"""Avro schemas as JSON: names, self-contained copies, fingerprints, and what would let few bytes kill a decoder."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest

from saga import DefinitionError, Saga
from saga.contracts.schema import Schema, computed_id, fingerprint, full_name, hazards, inline, outline, resolve
from tests.commands import schemas

LINE: Schema = {"type": "record", "name": "Line", "namespace": "shop", "fields": [{"name": "sku", "type": "string"}]}
ORDER: Schema = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "lines", "type": {"type": "array", "items": "Line"}},
        {"name": "gift", "type": ["null", "shop.Line"], "default": None},
        {"name": "notes", "type": {"type": "map", "values": "string"}},
    ],
}
TYPES = {"shop.Line": LINE, "shop.Order": ORDER}


def record(name: str, *types: Any) -> Schema:
    fields = [{"name": f"field{number}", "type": type_} for number, type_ in enumerate(types)]
    return {"type": "record", "name": name, "namespace": "shop", "fields": fields}


@pytest.mark.parametrize(
    ("schema", "enclosing", "expected"),
    [
        ({"name": "Line", "namespace": "shop"}, "", "shop.Line"),
        ({"name": "Line"}, "shop", "shop.Line"),
        ({"name": "other.Line", "namespace": "shop"}, "shop", "other.Line"),
        ({"name": "Line", "namespace": ""}, "shop", "Line"),
        ({"name": "Line"}, "", "Line"),
    ],
)
def test_a_full_name_follows_the_specification(schema: Schema, enclosing: str, expected: str) -> None:
    assert full_name(schema, enclosing) == expected


def test_a_reference_is_found_by_its_full_name_or_in_its_namespace() -> None:
    assert resolve("shop.Line", "", TYPES) == "shop.Line"
    assert resolve("Line", "shop", TYPES) == "shop.Line"
    assert resolve("Line", "elsewhere", TYPES) is None
    assert resolve("string", "shop", TYPES) is None


def test_a_type_is_written_out_at_its_first_use_and_named_after_that() -> None:
    copied = inline(ORDER, TYPES)

    assert copied["fields"][0]["type"]["items"] == LINE
    assert copied["fields"][1]["type"] == ["null", "shop.Line"]
    assert ORDER["fields"][0]["type"]["items"] == "Line", "the original is left alone"


def test_a_self_contained_schema_is_one_that_the_avro_library_takes() -> None:
    assert fastavro.parse_schema(inline(ORDER, TYPES))


def test_attributes_of_our_own_survive() -> None:
    described = {**ORDER, "saga": {"name": "checkout"}, "fields": [{**ORDER["fields"][0], "step": {"by": "orders"}}]}

    copied = inline(described, TYPES)

    assert copied["saga"] == {"name": "checkout"}
    assert copied["fields"][0]["step"] == {"by": "orders"}


def test_a_self_contained_schema_unfolds_into_its_types_again() -> None:
    types = outline(inline(ORDER, TYPES))

    assert set(types) == {"shop.Order", "shop.Line"}
    assert types["shop.Line"] == LINE
    assert inline(types["shop.Order"], types) == inline(ORDER, TYPES)


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    turned = dict(reversed(LINE.items()))

    assert list(turned) != list(LINE)
    assert fingerprint(turned) == fingerprint(LINE)


def test_a_fingerprint_changes_with_anything_in_the_schema() -> None:
    changed = [LINE, {**LINE, "doc": "One line."}, {**LINE, "namespace": "stock"}, {**LINE, "fields": []}]

    assert len({fingerprint(schema) for schema in changed}) == len(changed)


STATUS = {"type": "enum", "name": "Status", "symbols": ["new", "sent"]}
AMOUNT = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}


def sale(*fields: Any, **more: Any) -> Schema:
    """An event with fields of these types, called a, b, c."""
    named = [each if "name" in each else {"name": name, **each} for name, each in zip("abc", fields, strict=False)]
    return {"type": "record", "name": "Sale", "namespace": "shop", "fields": named, **more}


@pytest.mark.parametrize(
    "same",
    [
        sale({"type": "string"}, {"type": STATUS}, {"type": AMOUNT}, doc="What was sold.", owner="shop"),
        sale({"type": "string", "doc": "Whose."}, {"type": {**STATUS, "doc": "How."}}, {"type": {**AMOUNT, "doc": "Sum."}}),
        sale({"type": "string", "sensitive": True, "aliases": ["z"], "order": "ignore"}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": "string", "default": ""}, {"type": {**STATUS, "default": "new"}}, {"type": AMOUNT}, aliases=["Bargain"]),
        sale({"type": {"type": "string"}}, {"type": {**STATUS, "namespace": "shop"}}, {"type": AMOUNT}),
        {**sale({"type": "string"}, {"type": STATUS}, {"type": AMOUNT}, name="shop.Sale"), "namespace": "elsewhere"},
    ],
    ids=["the event's text", "texts", "for readers of ours", "for readers of other bytes", "in other words", "one full name"],
)
def test_a_computed_id_stays_where_bytes_mean_the_same_and_either_reads_the_other(same: Schema) -> None:
    plain, fields = sale({"type": "string"}, {"type": STATUS}, {"type": AMOUNT}), {"a": "x", "b": "sent", "c": Decimal("1.50")}
    written = BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(same), fields)

    assert computed_id(same) == computed_id(plain)
    assert fastavro.schemaless_reader(BytesIO(written.getvalue()), fastavro.parse_schema(plain), None) == fields


def test_a_computed_id_is_another_one_where_bytes_mean_something_else() -> None:
    others = [
        sale({"type": "string"}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": "string"}, {"type": STATUS}, {"type": AMOUNT}, name="Bargain"),
        sale({"type": "string"}, {"type": STATUS}, {"type": AMOUNT}, namespace="stock"),
        sale({"type": "string"}, {"type": STATUS}),
        sale({"type": "bytes"}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": {"type": "string", "logicalType": "uuid"}}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": "string"}, {"type": {**STATUS, "symbols": ["sent", "new"]}}, {"type": AMOUNT}),
        sale({"type": "string"}, {"type": {**STATUS, "name": "State"}}, {"type": AMOUNT}),
        sale({"type": "string"}, {"type": STATUS}, {"type": {**AMOUNT, "scale": 3}}),
        sale({"type": "string"}, {"type": STATUS}, {"type": {"type": "fixed", "name": "F", "size": 4}}),
        sale({"type": "string"}, {"type": STATUS}, {"type": {"type": "fixed", "name": "F", "size": 5}}),
        sale({"type": ["null", "string"]}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": ["string", "null"]}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": {"type": "array", "items": "string"}}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"type": {"type": "map", "values": "string"}}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"name": "z", "type": "string"}, {"type": STATUS}, {"type": AMOUNT}),
        sale({"name": "b", "type": "string"}, {"name": "a", "type": STATUS}, {"type": AMOUNT}),
    ]
    ids = [computed_id(schema) for schema in others]

    assert len({*ids}) == len(others)
    assert all(0 <= id < 2**31 for id in ids)


@pytest.mark.parametrize(
    ("schema", "hazard"),
    [
        (record("Node", "string", ["null", "shop.Node"]), "type shop.Node contains itself"),
        (record("Outer", record("Inner", {"type": "array", "items": "shop.Outer"})), "type shop.Outer contains itself"),
        (record("Bomb", {"type": "array", "items": "null"}), "type shop.Bomb has an array of items that take no bytes"),
        (record("Bomb", {"type": "array", "items": record("Empty")}), "type shop.Bomb has an array of items"),
        (record("Bomb", {"type": "array", "items": record("Hollow", "null", record("Empty"))}), "type shop.Bomb has an array"),
        (record("Bomb", {"type": "map", "values": {"type": "array", "items": "null"}}), "type shop.Bomb has an array"),
        (record("Bomb", {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}), "type shop.Bomb has an array"),
    ],
)
def test_what_lets_few_bytes_kill_a_decoder_is_found(schema: Schema, hazard: str) -> None:
    assert any(found.startswith(hazard) for found in hazards(schema))


def nested(depth: int, inner: Any = "string") -> Any:
    """Lists of lists of ..."""
    for _ in range(depth):
        inner = {"type": "array", "items": inner}
    return inner


def doubling(steps: int) -> Schema:
    """Each type has the one before twice, so that a few bytes of schema come to 2^steps values without any byte."""
    first = record("T0", "null", "null")
    return record("Doubling", first, *(record(f"T{n}", f"shop.T{n - 1}", f"shop.T{n - 1}") for n in range(1, steps)))


def chain(length: int) -> Schema:
    """Each type has the one before, side by side in the schema."""
    return record("Chain", record("T0", "string"), *(record(f"T{n}", f"shop.T{n - 1}") for n in range(1, length)))


@pytest.mark.parametrize(
    ("schema", "hazard"),
    [
        (record("Deep", nested(5000)), "types are written more than 64 deep"),
        (chain(3000), "types contain each other more than 64 deep"),
        (doubling(40), "a type comes to more than 100000 parts"),
    ],
    ids=["deep", "chain", "doubling"],
)
def test_what_takes_a_decoder_too_long_or_too_deep_is_found_at_once(schema: Schema, hazard: str) -> None:
    assert [found[: len(hazard)] for found in hazards(schema)] == [hazard]


@pytest.mark.parametrize(
    "schema",
    [
        inline(ORDER, TYPES),
        record("Nested", nested(30)),
        chain(20),
        doubling(10),
        record("Empty"),
        record("Twice", LINE, "shop.Line"),
        record("Flags", {"type": "array", "items": ["null", "string"]}, {"type": "map", "values": "null"}),
        record("Dated", {"type": "array", "items": {"type": "int", "logicalType": "date"}}),
    ],
)
def test_types_of_bounded_size_are_harmless(schema: Schema) -> None:
    assert list(hazards(schema)) == []


def test_a_saga_with_a_dangerous_type_is_refused() -> None:
    *events, saga = schemas({"name": "place", "by": "orders", "emits": ["OrderPlaced"]})
    node = {"type": "record", "name": "Node", "namespace": "checkout", "fields": [{"name": "next", "type": ["null", "Node"]}]}

    with pytest.raises(DefinitionError, match=r"type checkout\.Node contains itself: a record of a few bytes could then end"):
        Saga.of(*events, node, saga)
