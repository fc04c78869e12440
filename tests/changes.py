"""A table of changes to an event, with what is to be said of each: the offline checker and a real registry are held to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from saga.contracts.schema import Schema

SIZE = {"type": "enum", "name": "Size", "symbols": ["S", "M"]}
OPEN_SIZE = {**SIZE, "name": "Fit", "default": "S"}
LINE = {
    "type": "record",
    "name": "Line",
    "fields": [{"name": "sku", "type": "string"}, {"name": "price", "type": "long", "default": 0}],
}
SOLD: Schema = {
    "type": "record",
    "name": "Sold",
    "namespace": "shop",
    "doc": "Something was sold.",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "count", "type": "int"},
        {"name": "rating", "type": ["null", "int"]},
        {"name": "size", "type": SIZE},
        {"name": "fit", "type": OPEN_SIZE},
        {"name": "lines", "type": {"type": "array", "items": LINE}},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 16}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ],
}

REFUSED_FUTURE = "services that still read the old version could not read what is written from now on"
REFUSED_PAST = "events written before could not be read any more"
FINE = "old and new read each other"


@dataclass(frozen=True, slots=True)
class Case:
    """`edit` changes a copy of `SOLD`; `told` is the sentence; `registry` is false where only we notice."""

    edit: Callable[[Any], None]
    compatible: bool
    told: str
    registry: bool = True


def edited(case: Case) -> Schema:
    schema = deepcopy(SOLD)
    case.edit(schema)
    return schema


def _field(name: str, /, **changes: Any) -> Callable[[Any], None]:
    def edit(schema: Any) -> None:
        [field] = [field for field in schema["fields"] if field["name"] == name]
        field.update(changes)

    return edit


def _add(**field: Any) -> Callable[[Any], None]:
    return lambda schema: schema["fields"].append(field)


def _remove(name: str) -> Callable[[Any], None]:
    def edit(schema: Any) -> None:
        schema["fields"] = [field for field in schema["fields"] if field["name"] != name]

    return edit


def _without_default(schema: Any) -> None:
    del schema["fields"][1]["default"]


def _line(edit: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda schema: edit(schema["fields"][6]["type"]["items"])


CASES: Mapping[str, Case] = {
    "a field with a default is added": Case(
        _add(name="gift", type="boolean", default=False), True, f"Sold.gift: it was added with the default false; {FINE}"
    ),
    "a field without a default is added": Case(
        _add(name="gift", type="boolean"), False, f"Sold.gift: it was added with no default; {REFUSED_PAST}"
    ),
    "a field with a default is removed": Case(_remove("note"), True, f"Sold.note: it was removed and had its default; {FINE}"),
    "a field without a default is removed": Case(
        _remove("id"), False, f"Sold.id: it was removed and had no default; {REFUSED_FUTURE}"
    ),
    "a field is renamed": Case(
        _field("id", name="number", aliases=["id"]), False, f"Sold.id: it is called number now; {REFUSED_FUTURE}"
    ),
    "a field with a default is renamed": Case(
        _field("note", name="remark", aliases=["note"]), True, f"Sold.note: it is called remark now; {FINE}"
    ),
    "an int becomes a long": Case(
        _field("count", type="long"), False, f"Sold.count: the type changed from int to long; {REFUSED_FUTURE}"
    ),
    "an int becomes a string": Case(
        _field("count", type="string"),
        False,
        "Sold.count: the type changed from int to string; neither version reads the other",
    ),
    "a value may be null": Case(
        _field("count", type=["null", "int"]), False, f"Sold.count: it may be null now; {REFUSED_FUTURE}"
    ),
    "a value may no longer be null": Case(
        _field("rating", type="int"), False, f"Sold.rating: it may no longer be null; {REFUSED_PAST}"
    ),
    "a union gets a branch": Case(
        _field("note", type=["null", "string", "long"]), False, f"Sold.note: it may be long now; {REFUSED_FUTURE}"
    ),
    "an enum gets a symbol": Case(
        _field("size", type={**SIZE, "symbols": ["S", "M", "L"]}), False, f"Size: the symbol L came; {REFUSED_FUTURE}"
    ),
    "an enum loses a symbol": Case(
        _field("size", type={**SIZE, "symbols": ["S"]}), False, f"Size: the symbol M went; {REFUSED_PAST}"
    ),
    "an enum with a default gets symbols": Case(
        _field("fit", type={**OPEN_SIZE, "symbols": ["S", "M", "L", "XL"]}), True, f"Fit: the symbols L, XL came; {FINE}"
    ),
    "an enum with a default loses a symbol": Case(
        _field("fit", type={**OPEN_SIZE, "symbols": ["S"]}), True, f"Fit: the symbol M went; {FINE}"
    ),
    "the default of an enum changes": Case(
        _field("fit", type={**OPEN_SIZE, "default": "M"}),
        True,
        "Fit: the symbol for those that a reader does not know was S and is M",
    ),
    "the items of an array change": Case(
        _line(lambda line: line["fields"][0].update(type="long")),
        False,
        "Line.sku: the type changed from string to long; neither version reads the other",
    ),
    "a field with a default is added to a nested record": Case(
        _line(lambda line: line["fields"].append({"name": "unit", "type": "string", "default": "piece"})),
        True,
        f'Line.unit: it was added with the default "piece"; {FINE}',
    ),
    "a field without a default is removed from a nested record": Case(
        _line(lambda line: line["fields"].pop(0)), False, f"Line.sku: it was removed and had no default; {REFUSED_FUTURE}"
    ),
    "the values of a map change": Case(
        _field("tags", type={"type": "map", "values": "long"}),
        False,
        "Sold.tags{}: the type changed from string to long; neither version reads the other",
    ),
    "an array becomes a map": Case(
        _field("tags", type={"type": "array", "items": "string"}),
        False,
        "Sold.tags: the type changed from map of string to array of string; neither version reads the other",
    ),
    "a fixed gets longer": Case(
        _field("digest", type={"type": "fixed", "name": "Digest", "size": 32}),
        False,
        "Sold.digest: the type changed from Digest of 16 bytes to Digest of 32 bytes; neither version reads the other",
    ),
    "a nested type gets another name": Case(
        _field("size", type={**SIZE, "name": "Extent"}),
        False,
        "Sold.size: the type changed from Size to Extent; neither version reads the other",
    ),
    "milliseconds become microseconds": Case(
        _field("at", type={"type": "long", "logicalType": "timestamp-micros"}),
        False,
        "Sold.at: the type changed from long (timestamp-millis) to long (timestamp-micros): "
        "the same bytes would mean something else",
        registry=False,
    ),
    "a text becomes bytes": Case(
        _field("id", type="bytes"),
        False,
        f"Sold.id: the type changed from string to bytes; {REFUSED_FUTURE}",
        registry=False,
    ),
    "an amount becomes a text": Case(
        _field("price", type="string"),
        False,
        f"Sold.price: the type changed from bytes to string; {REFUSED_PAST}",
        registry=False,
    ),
    "an optional text may be bytes": Case(
        _field("note", type=["null", "string", "bytes"]),
        False,
        f"Sold.note: it may be bytes now; {REFUSED_FUTURE}",
        registry=False,
    ),
    "a decimal gets another scale": Case(
        _field("price", type={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}),
        False,
        "Sold.price: the type changed from decimal(9, 2) to decimal(9, 3): the same bytes would mean something else",
        registry=False,
    ),
    "a default changes": Case(
        _field("note", type=["string", "null"], default=""),
        True,
        'Sold.note: its default changed from null to "", for events written before the field was there',
    ),
    "a default goes": Case(_without_default, True, "Sold.note: its default is gone, so it can never be removed"),
    "a default comes": Case(
        _field("count", default=1), True, "Sold.count: it has the default 1 now, and may be removed one day"
    ),
    "fields change their order": Case(
        lambda schema: schema["fields"].reverse(),
        True,
        "Sold: its fields stand in another order, which Avro does not mind",
    ),
    "a description changes": Case(
        lambda schema: schema.update(doc="Sold."),
        True,
        "Sold: its description changed, which nobody reads but people",
    ),
    "a field becomes sensitive": Case(_field("id", sensitive=True), True, "Sold.id: it is sensitive from now on"),
}
"""What changes, and what is said of it."""
