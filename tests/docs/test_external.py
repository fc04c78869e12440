"""What `docs/external.md` shows works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drills.blocks import blocks
from tests.docs.test_tutorial import TUTORIAL, reading

PAGE = TUTORIAL.with_name("external.md")
EVENTS = {"Filed": True, "Withdrawn": False, "Approved": True, "Rejected": False, "Paid": True, "Refused": False}
"""The events of the page, and whether they name an amount."""


@pytest.mark.slow
def test_a_gateway_that_answers_too_late_and_a_person_who_does_are_as_the_page_says(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for block in blocks(PAGE):
            reader.do(block)
            if block.language == "json":
                _events(tmp_path / "contracts")


def _events(folder: Path) -> None:
    for name, is_of_an_amount in EVENTS.items():
        fields = [{"name": "expense_id", "type": "string"}, *([{"name": "amount", "type": "int"}] if is_of_an_amount else [])]
        record = {"type": "record", "name": name, "namespace": "expenses", "fields": fields}
        (folder / f"{name}.avsc").write_text(json.dumps(record))
