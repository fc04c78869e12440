"""Plain values, as files have them, become what the codec writes, or are refused with their place."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from saga.contracts.plain import from_plain
from saga.errors import EncodeError

LINE = {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "string"}, {"name": "units", "type": "int"}]}
ORDER: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "due", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "first", "type": LINE},
        {"name": "lines", "type": {"type": "array", "items": "Line"}},
        {"name": "express", "type": "boolean"},
        {"name": "tags", "type": {"type": "map", "values": "long"}, "default": {}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "opens", "type": ["null", {"type": "int", "logicalType": "time-millis"}], "default": None},
        {"name": "local", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}], "default": None},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "OLD"]}, "default": "NEW"},
    ],
}
ID = "6f1a53c5-7b0c-5f2e-9a4e-2d1f3b6c8e90"
LINES = [{"sku": "A", "units": 1}, {"sku": "B", "units": "2"}]


def order(**fields: Any) -> dict[str, Any]:
    whole = {
        "id": ID,
        "placed": "2026-03-01T12:00:00+00:00",
        "amount": "12.50",
        "first": LINES[0],
        "lines": LINES,
        "express": True,
    }
    return {**whole, **fields}


def test_texts_become_what_they_stand_for() -> None:
    read = from_plain(ORDER, order(due="2026-03-02", express="true", tags={"a": "7"}, note="", kind="OLD"))

    assert read == {
        "id": UUID(ID),
        "placed": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "due": date(2026, 3, 2),
        "amount": Decimal("12.50"),
        "first": {"sku": "A", "units": 1},
        "lines": [{"sku": "A", "units": 1}, {"sku": "B", "units": 2}],
        "express": True,
        "tags": {"a": 7},
        "note": "",
        "kind": "OLD",
    }


def test_a_number_is_a_moment_as_avro_counts_it() -> None:
    assert from_plain(ORDER, order(due=20_454, placed=0)) == from_plain(ORDER, order()) | {"due": 20_454, "placed": 0}


def test_an_empty_text_is_null_only_where_it_can_be_nothing_else() -> None:
    assert from_plain(ORDER, order(due=""))["due"] is None
    assert from_plain(ORDER, order(note=None))["note"] is None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"id": "no uuid"}, "^id: found 'no uuid'; expected a uuid$"),
        ({"placed": "yesterday"}, "^placed: found 'yesterday'; expected a timestamp-micros with its offset from UTC$"),
        ({"placed": "2026-03-01T12:00:00"}, "expected a timestamp-micros with its offset from UTC$"),
        ({"placed": 2**63 - 1}, "expected a timestamp-micros as microseconds from 1970, within the calendar$"),
        ({"due": 20260301}, "found 20260301; expected a date as days from 1970, within the calendar$"),
        ({"amount": "NaN"}, "^amount: found 'NaN'; expected a decimal$"),
        ({"tags": {"a": 1.5}}, "^tags.a: found 1.5; expected long$"),
        ({"tags": {"a": True}}, "^tags.a: found True; expected long$"),
        ({"express": 5}, "^express: found 5; expected boolean$"),
        ({"opens": "08:00:00+01:00"}, "^opens: found .*; expected a time-millis without an offset$"),
        ({"local": "2026-03-01T12:00:00Z"}, "^local: found .*; expected a local-timestamp-micros without an offset$"),
        ({"due": "soon"}, "^due: found 'soon'; expected a date$"),
        ({"amount": "much"}, "^amount: found 'much'; expected a decimal$"),
        ({"express": "perhaps"}, "^express: found 'perhaps'; expected boolean$"),
        ({"lines": [{"sku": "A", "units": "many"}]}, r"^lines\[0\].units: found 'many'; expected int$"),
        ({"lines": "A"}, "^lines: found A; expected an array$"),
        ({"tags": 7}, "^tags: found 7; expected a map$"),
        ({"first": 7}, "^first: found 7; expected an object with the fields of Line$"),
        ({"colour": "red"}, "^the record: found the fields colour; expected only id, placed"),
        ({"first": {"sku": "A"}}, "^first: found no units; expected a value for each field that has no default$"),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_place(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(EncodeError, match=text):
        from_plain(ORDER, order(**fields))
