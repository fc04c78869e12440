"""What `docs/rebuild.md` shows is what the command takes and what the services declare."""

from __future__ import annotations

import shlex
from pathlib import Path

from drills.blocks import blocks
from tests.commands import SAGA

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rebuild.md"


def test_the_commands_on_the_page_are_understood() -> None:
    command = SAGA.commands["rebuild"]  # type: ignore[attr-defined]
    shown = [line for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()]

    assert len(shown) > 2
    for line in shown:
        saga, name, *arguments = shlex.split(line)
        assert (saga, name) == ("saga", "rebuild")
        assert command.make_context(name, arguments).params["to"]


def test_the_functions_on_the_page_are_those_of_the_service() -> None:
    [shown] = [block.text for block in blocks(PAGE) if block.language == "python"]
    written = (ROOT / "services" / "stock" / "app.py").read_text()

    for part in shown.split("\n\n\n"):
        assert part.strip() in written
