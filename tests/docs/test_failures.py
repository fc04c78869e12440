"""What `docs/failures.md` shows is so."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from drills.blocks import blocks
from saga import Failure, Participant, TerminalError
from saga.participant.failure import failure_of
from saga.participant.handler import Act
from tests.sources import ROOT

PAGE = ROOT / "docs" / "failures.md"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's code leaves."""
    monkeypatch.chdir(ROOT)
    file = tmp_path / "shown.py"
    file.write_text("\n".join(block.text for block in blocks(PAGE) if block.language == "python"))
    return runpy.run_path(str(file))


def test_the_hook_and_the_dependency_that_are_shown_say_what_the_page_says(shown: dict[str, Any]) -> None:
    stock = shown["stock"]
    assert isinstance(stock, Participant)
    needs = stock.handlers[1, "reserve", Act.ACTION].needs
    raised = [shown["ShelfMoved"](), KeyError("size"), shown["ShelfRobotDown"](), OSError(), TerminalError()]

    said = [failure_of(error, stock.classifier, needs) for error in raised]

    assert said == [
        Failure.TRANSIENT, Failure.PERMANENT, Failure.of(shown["robot"]), Failure.TRANSIENT, Failure.PERMANENT,
    ]  # fmt: skip
