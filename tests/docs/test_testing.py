"""What `docs/testing.md` shows works, on the services of the tutorial."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.blocks import blocks
from tests.docs.test_tutorial import TUTORIAL, reading

TESTING = TUTORIAL.with_name("testing.md")


@pytest.mark.slow
def test_the_tests_that_are_shown_pass(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for block in (block for block in blocks(TUTORIAL) if block.language in {"json", "python"}):
            reader.do(block)
        for block in blocks(TESTING):
            reader.do(block)


def test_the_test_of_a_handler_has_ten_lines() -> None:
    shown = next(block for block in blocks(TESTING) if block.words == "test_kitchen.py")

    assert len([line for line in shown.text.splitlines() if line.strip()]) <= 10
