"""What is said of a change to an event, and the verdict on it; the real registry is held to the same table elsewhere."""

from __future__ import annotations

from typing import Any

import fastavro
import pytest

from saga import DefinitionError
from saga.evolution.change import Change, Verdict, heaviest
from saga.evolution.compatibility import incompatible
from saga.evolution.events import event_changes
from tests.changes import CASES, SOLD, edited
from tests.optional import needs

pytestmark = needs("avro")


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_told_in_one_sentence_with_its_verdict(name: str) -> None:
    case = CASES[name]

    [change] = event_changes(SOLD, edited(case))

    assert str(change) == case.told
    assert change.verdict is (Verdict.COMPATIBLE if case.compatible else Verdict.REFUSED)


@pytest.mark.parametrize("name", CASES)
def test_every_change_in_the_table_makes_a_schema_that_is_avro(name: str) -> None:
    assert fastavro.parse_schema(edited(CASES[name]))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.registry])
def test_the_verdict_on_the_parts_is_that_on_the_whole(name: str) -> None:
    case = CASES[name]

    assert (not incompatible(SOLD, edited(case))) is case.compatible


def test_nothing_changed_is_nothing_said() -> None:
    assert event_changes(SOLD, SOLD) == []


def test_several_changes_are_told_one_by_one() -> None:
    new = edited(CASES["an enum gets a symbol"])
    new["fields"][0]["type"] = "long"

    assert [change.place for change in event_changes(SOLD, new)] == ["Sold.id", "Size"]


def test_what_only_the_checker_sees_is_told_as_it_tells_it() -> None:
    """Of branches that people call by one name only the last is walked; so the whole is judged too."""

    def event(inner: Any) -> Any:
        named = {"type": "record", "name": "shop.Inner", "fields": [inner]}
        other = {"type": "record", "name": "other.Inner", "fields": [{"name": "b", "type": "int"}]}
        return {"type": "record", "name": "Sold", "namespace": "shop", "fields": [{"name": "any", "type": [named, other]}]}

    [change] = event_changes(event({"name": "a", "type": "int"}), event({"name": "a", "type": "string"}))

    assert change.verdict is Verdict.REFUSED
    assert change.text.startswith("old and new do not read each other: missing union branch")


def amount(scale: int | None, **field: Any) -> Any:
    """An event of one decimal."""
    scaled = {} if scale is None else {"scale": scale}
    type_ = {"type": "bytes", "logicalType": "decimal", "precision": 9, **scaled}
    return {"type": "record", "name": "Sold", "fields": [{"name": "price", "type": type_, "default": "", **field}]}


def test_a_scale_of_zero_is_what_a_decimal_has_that_says_none() -> None:
    assert event_changes(amount(None), amount(0)) == []


def test_another_meaning_is_seen_behind_another_name() -> None:
    renamed, changed = event_changes(amount(2), amount(3, name="net", aliases=["price"]))

    assert str(renamed) == "Sold.price: it is called net now; old and new read each other"
    assert str(changed) == (
        "Sold.net: the type changed from decimal(9, 2) to decimal(9, 3): the same bytes would mean something else"
    )


def test_types_of_one_name_in_two_namespaces_are_both_looked_at() -> None:
    def event(scale: int) -> Any:
        one = {**amount(2), "name": "one.Sum"}
        two = {**amount(scale), "name": "two.Sum"}
        return {"type": "record", "name": "Sold", "fields": [{"name": "one", "type": one}, {"name": "two", "type": two}]}

    [change] = event_changes(event(2), event(3))

    assert str(change).startswith("Sum.price: the type changed from decimal(9, 2) to decimal(9, 3)")


def test_what_is_no_avro_is_refused_by_name() -> None:
    with pytest.raises(DefinitionError, match=r"Sold: this is no Avro schema: .* Correct it\."):
        incompatible({"type": "record", "name": "Sold", "fields": [{"name": "a", "type": "nothing"}]}, SOLD)


def test_the_heaviest_verdict_counts() -> None:
    changes = [Change("a", "b", verdict) for verdict in Verdict]

    assert heaviest(changes) is Verdict.REFUSED
    assert heaviest(changes[:2]) is Verdict.NEW_VERSION
    assert heaviest([]) is Verdict.COMPATIBLE
