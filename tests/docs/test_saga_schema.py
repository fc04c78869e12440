"""The reference of the saga schema against what is read: no attribute more, none less, and the examples are sound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from drills.blocks import blocks
from saga import Saga
from saga.contracts.saga import _SagaAttributes, _StepAttributes
from saga.protocol.check import check

REFERENCE = Path(__file__).parents[2] / "docs" / "saga-schema.md"


def documented(heading: str) -> dict[str, str]:
    """Attribute to the default that its row tells."""
    section = REFERENCE.read_text().split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, re.MULTILINE))


@pytest.mark.parametrize(("heading", "attributes"), [("`saga`", _SagaAttributes), ("`step`", _StepAttributes)])
def test_every_attribute_is_documented_with_its_default(heading: str, attributes: type[BaseModel]) -> None:
    told = documented(heading)

    assert set(told) == set(attributes.model_fields)
    for name, field in attributes.model_fields.items():
        expected = "required" if field.is_required() else "none" if field.default in (None, []) else f"`{_json(field.default)}`"
        assert told[name].partition(":")[0] == expected, name


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def test_the_example_of_a_branch_holds() -> None:
    [branch] = [schema for block in blocks(REFERENCE) if "saga" in (schema := orjson.loads(block.text))]
    events = {event for field in branch["fields"] for event in field["type"][1:]}

    report = check(Saga.of(*({"type": "record", "name": e, "namespace": "returns", "fields": []} for e in events), branch))

    assert report.verdict == "holds", report.problems


def test_the_example_of_a_join_is_the_checkouts() -> None:
    shown = orjson.loads(blocks(REFERENCE)[0].text)["step"]
    dispatch = Saga.load(REFERENCE.parents[1] / "schemas" / "checkout")["dispatch"]

    assert dispatch.on == (frozenset(f"checkout.{event}" for event in shown["on"]),)
    assert (dispatch.by, dispatch.pivot, dispatch.fails) == (shown["by"], shown["pivot"], f"checkout.{shown['fails']}")
