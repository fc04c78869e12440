"""What `docs/failures.md` shows is so."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from saga import Failure, TerminalError
from saga.participant.failure import failure_of
from tests.docs.blocks import blocks
from tests.sources import ROOT

PAGE = ROOT / "docs" / "failures.md"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names that the page's code leaves."""
    monkeypatch.chdir(ROOT)
    file = tmp_path / "shown.py"
    file.write_text("\n".join(block.text for block in blocks(PAGE) if block.language == "python"))
    return runpy.run_path(str(file))


def test_the_hook_that_is_shown_says_what_the_page_says(shown: dict[str, object]) -> None:
    hook, moved = shown["stock"].classifier, shown["ShelfMoved"]  # type: ignore[attr-defined]

    said = [failure_of(error, hook) for error in (moved(), KeyError("size"), OSError(), TerminalError())]  # type: ignore[operator]

    assert said == [Failure.TRANSIENT, Failure.PERMANENT, Failure.TRANSIENT, Failure.PERMANENT]
