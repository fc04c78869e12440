"""What contracts are told before they hurt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from saga import Saga
from saga.evolution.lint import Remark, lint
from tests.sources import ROOT
from tests.unit.test_python import DEFAULTS, of


def deep(levels: int) -> Any:
    return {"type": "array", "items": deep(levels - 1)} if levels else "string"


CASES: Mapping[str, tuple[dict[str, Any], str]] = {
    "a default of another type": ({"name": "a", "type": "int", "default": "1"}, 'the default "1" does not fit'),
    "a default of the second branch": ({"name": "a", "type": ["null", "int"], "default": 1}, "the default 1 does not fit"),
    "an int beyond 32 bits": ({"name": "a", "type": "int", "default": 2**31}, "does not fit"),
    "a symbol that is none": ({"name": "a", "type": "shop.Size", "default": "XL"}, 'the default "XL" does not fit'),
    "a record that lacks a field": ({"name": "a", "type": "shop.Line", "default": {}}, "the default {} does not fit"),
    "an unknown logical type": (
        {"name": "a", "type": {"type": "string", "logicalType": "colour"}},
        "no library knows the logical type colour; all read a plain string",
    ),
    "a logical type of another type": (
        {"name": "a", "type": {"type": "string", "logicalType": "date"}},
        "date is no logical type of string but of int; others ignore it",
    ),
    "too deep": ({"name": "a", "type": deep(20)}, "it is 21 types deep, and is decoded as deep as that; flatten it"),
    "too large": ({"name": "a", "type": "string", "doc": "x" * 70_000}, "every service holds it in memory; split the event"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_is_told_with_what_to_do(name: str) -> None:
    field, told = CASES[name]

    remarks = [remark for remark in lint(of(field)) if remark.place.startswith("Sold")]

    assert len(remarks) == 1
    assert told in remarks[0].text


def test_names_that_differ_in_capitals_only_are_told() -> None:
    [remark] = [r for r in lint(of({"name": "id", "type": "int"}, {"name": "ID", "type": "int"})) if r.place == "Sold.ID"]

    assert remark.text.startswith("it differs from id in capitals only")


def test_an_enum_without_a_default_can_never_grow() -> None:
    [remark] = lint(of({"name": "a", "type": "shop.Size"}))

    assert remark == Remark(
        "Size", 'the enum has no "default": a symbol can never be added, since old readers would not know it'
    )


def test_defaults_that_fit_are_not_mentioned() -> None:
    fields = [{"name": f"f{n}", "type": type_, "default": value} for n, (type_, value, _) in enumerate(DEFAULTS)]

    assert [remark.place for remark in lint(of(*fields))] == ["Size"]


def test_the_contracts_of_the_checkout_need_no_remark() -> None:
    assert lint(Saga.load(ROOT / "schemas" / "checkout")) == []
