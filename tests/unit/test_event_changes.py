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
    """A type that is used twice is walked once; so the whole is judged too."""

    def event(inner: Any) -> Any:
        named = {"type": "record", "name": "shop.Inner", "fields": [inner]}
        other = {"type": "record", "name": "other.Inner", "fields": []}
        fields = [{"name": "one", "type": other}, {"name": "two", "type": named}]
        return {"type": "record", "name": "Sold", "namespace": "shop", "fields": fields}

    [change] = event_changes(event({"name": "a", "type": "int"}), event({"name": "a", "type": "string"}))

    assert change.verdict is Verdict.REFUSED
    assert change.text.startswith("old and new do not read each other: type mismatch")


def test_what_is_no_avro_is_refused_by_name() -> None:
    with pytest.raises(DefinitionError, match=r"Sold: this is no Avro schema: .* Correct it\."):
        incompatible({"type": "record", "name": "Sold", "fields": [{"name": "a", "type": "nothing"}]}, SOLD)


def test_the_heaviest_verdict_counts() -> None:
    changes = [Change("a", "b", verdict) for verdict in Verdict]

    assert heaviest(changes) is Verdict.REFUSED
    assert heaviest(changes[:2]) is Verdict.NEW_VERSION
    assert heaviest([]) is Verdict.COMPATIBLE
