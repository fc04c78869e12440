"""What `docs/replay.md` shows works, on the topics that the tutorial leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.blocks import blocks
from tests.docs.test_tutorial import TUTORIAL, reading

REPLAY = TUTORIAL.with_name("replay.md")


@pytest.mark.slow
def test_the_commands_on_the_page_show_what_it_says(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for page in (TUTORIAL, REPLAY):
            for block in blocks(page):
                reader.do(block)
