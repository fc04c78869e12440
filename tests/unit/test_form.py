"""Contracts that are JSON and no Avro: refused in a line that names the place, whatever asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from saga import Saga
from saga.contracts.avro import AvroCodec
from saga.contracts.saga import control_schemas
from saga.errors import DefinitionError
from tests.commands import Commands, schemas, written

PLACE = {"name": "place", "by": "orders", "emits": ["Placed"], "compensated": "Cancelled"}
PAY = {"name": "pay", "by": "payments", "on": ["Placed"], "emits": ["Paid"], "pivot": True}


ENUM = {"type": "enum", "name": "E", "symbols": ["A"]}
DECIMAL = {"type": "bytes", "logicalType": "decimal"}


def contracts(**field: Any) -> list[dict[str, Any]]:
    """Contracts of which the first event's field is this one."""
    found = schemas(PLACE, PAY)
    found[0]["fields"] = [field]
    return found


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"name": "a"}, "Placed.a: found no type; expected the type of the field"),
        ({"type": "string"}, "Placed: found {'type': 'string'}; expected a field with a name"),
        ({"name": "a", "type": []}, "Placed.a: found []; expected a type"),
        ({"name": "a", "type": {"items": "string"}}, "Placed.a: found {'items': 'string'}; expected a type"),
        ({"name": "a", "type": {"type": "array"}}, 'Placed.a: found nothing; expected "items" of the array'),
        ({"name": "a", "type": {"type": "enum", "name": "E"}}, 'E: found nothing; expected "symbols" of the enum'),
        ({"name": "a", "type": {"type": "fixed", "size": 2}}, "Placed.a: found nothing; expected the name of the fixed"),
        ({"name": "a", "type": {"type": "record", "name": "R"}}, 'R: found nothing; expected "fields" of the record'),
        ({"name": "a", "type": "string", "doc": 1}, 'Placed.a: found 1; expected a text as "doc"'),
        ({"name": "a", "type": "string", "aliases": "b"}, "Placed.a: found 'b'; expected a list as \"aliases\""),
        ({"name": "a", "type": {**ENUM, "symbols": ["A", "A"]}}, "E: found 'A'; expected symbols of letters"),
        ({"name": "a", "type": {**ENUM, "symbols": ["a b"]}}, "E: found 'a b'; expected symbols of letters"),
        ({"name": "a", "type": {**ENUM, "default": "B"}}, "E: found 'B'; expected one of its symbols as \"default\": A"),
        ({"name": "a", "type": DECIMAL}, "Placed.a: found 'precision None and scale 0'; expected a precision from 1"),
        ({"name": "a", "type": {**DECIMAL, "precision": "9"}}, "expected a precision from 1, and a scale up to it"),
        ({"name": "a", "type": {**DECIMAL, "precision": 2, "scale": 3}}, "expected a precision from 1, and a scale up to it"),
        (
            {"name": "a", "type": {**DECIMAL, "type": "fixed", "name": "F", "size": 2, "precision": 5}},
            "F: found 'precision 5'; expected no more digits than 2 bytes hold",
        ),
        ({"name": "a", "type": ["null", "strng"]}, "type checkout.Placed: found 'checkout.strng', for which there is no .avsc"),
        ({"name": "a", "type": {"type": "map", "values": "other.T"}}, "found 'other.T', for which there is no .avsc"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_with_its_place(field: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Saga.of(*contracts(**field))

    assert told in str(refused.value)


def _without_fields(found: list[dict[str, Any]]) -> None:
    del found[-1]["fields"]


def _plain(found: list[dict[str, Any]]) -> None:
    found[0]["type"] = "string"


def _inside(found: list[dict[str, Any]]) -> None:
    found[-1]["fields"][0]["type"] = ["null", {"type": "record", "name": "Placed", "fields": []}, "Cancelled"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (_without_fields, '"fields" of the record'),
        (_plain, "found 'string'; expected a type of its own: a record, enum or fixed"),
        (_inside, "expected a union of null and the step's events"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(edit: Callable[[list[dict[str, Any]]], None], told: str) -> None:
    found = contracts(name="order_id", type="string")
    edit(found)

    with pytest.raises(DefinitionError) as refused:
        Saga.of(*found)

    assert told in str(refused.value)


@pytest.mark.parametrize("size", range(1, 18))
def test_a_decimal_that_just_fits_its_bytes_is_allowed_as_avro_does(size: int) -> None:
    digits = len(str(2 ** (8 * size - 1) - 1)) - 1
    fixed = {**DECIMAL, "type": "fixed", "name": "F", "size": size, "precision": digits}

    assert AvroCodec(Saga.of(*contracts(name="a", type=fixed))).encode("checkout.Placed", {"a": Decimal(10**digits - 1)})
    with pytest.raises(DefinitionError, match="no more digits"):
        Saga.of(*contracts(name="a", type={**fixed, "precision": digits + 1}))


def test_a_type_of_the_folder_and_one_that_stands_inside_are_known() -> None:
    inside = {
        "type": "record",
        "name": "Line",
        "doc": None,
        "fields": [{"name": "again", "type": "string"}],
    }
    found = contracts(name="a", type=inside)
    found[0]["fields"] += [{"name": "b", "type": "Line"}, {"name": "c", "type": ["null", "checkout.Paid"]}]

    assert Saga.of(*found).contract("checkout.Placed")
    assert control_schemas()


def test_the_command_says_so_in_a_line(tmp_path: Path) -> None:
    folder = written(tmp_path / "contracts", contracts(name="a"))

    said = Commands(tmp_path)("check", folder)

    assert said.code == 1
    assert "Placed.a: found no type; expected the type of the field" in said.out


@pytest.mark.parametrize(
    ("text", "twice", "told"),
    [
        ('"by": "orders"', '"by": "orders", "by": "stock"', "the key 'by' more than once"),
        ('"name": "pay"', '"name": "settle", "name": "pay"', "the key 'name' of 'pay' more than once"),
        ('"default": null', '"default": null, "default": null', "the key 'default' of 'place' more than once"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_file(tmp_path: Path, text: str, twice: str, told: str) -> None:
    file = written(tmp_path / "contracts", schemas(PLACE, PAY)) / "Checkout.avsc"
    file.write_text(json.dumps(json.loads(file.read_text())).replace(text, twice, 1))

    with pytest.raises(DefinitionError) as refused:
        Saga.load(file.parent)

    assert str(refused.value).startswith(f"{file}: found {told}; expected it once")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"default": ...}, 'found no default; expected "default": null'),
        ({"default": "Paid"}, "found default 'Paid'; expected \"default\": null"),
        ({"type": ["null", "Paid", "checkout.Paid"]}, "found type ['null', 'Paid', 'checkout.Paid']; expected a union of null"),
        ({"on": ["Placed", "checkout.Placed"]}, "an event twice; expected each event once: ['checkout.Placed']"),
        (
            {"on": [["Placed", "Placed"]]},
            "found on: ['Placed', 'Placed'], an event twice; expected each event once: ['Placed']",
        ),
    ],
)
def test_a_step_that_says_less_or_more_than_it_means_is_refused(field: dict[str, Any], told: str) -> None:
    *events, saga = schemas(PLACE, PAY)
    pay = saga["fields"][1]
    pay["step"] |= {"on": field.pop("on", pay["step"]["on"])}
    saga["fields"][1] = {key: value for key, value in (pay | field).items() if value is not ...}

    with pytest.raises(DefinitionError) as refused:
        Saga.of(*events, saga)

    assert "checkout.Checkout: pay: " in str(refused.value)
    assert told in str(refused.value)
