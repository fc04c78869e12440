"""Ids and errors may come from anybody: on the screen and in the log they stay in their line, and give a terminal no orders."""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from saga.cli import output
from saga.cli.running.run import _TextLines
from saga.protocol.facts import StepStatus
from saga.store.dead_letter import DeadLetter, Place, Reason
from saga.store.port import Changes
from saga.store.workflow import Fence, Workflow
from tests.commands import Commands
from tests.laid import sqlite_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOREIGN = "a\x1b]0;mine\x07\x1b[2J\nerror: forged\r\x9b31m\u202etxt\u2028end"
TOLD = r"a\x1b]0;mine\x07\x1b[2J\nerror: forged\r\x9b31m\u202etxt\u2028end"
ORDERS = set(FOREIGN) - set(TOLD)


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    """Where a database holds foreign words wherever there may be some."""
    with closing(sqlite_store(tmp_path / "stock.db")) as store, store.unit() as unit:
        workflow = Workflow(id=FOREIGN, version=1, lane=0, opened=NOW, sequence=1, error=FOREIGN)
        stuck = Fence(step="reserve", status=StepStatus.STUCK, error=FOREIGN, changed=NOW, attempt=3)
        letter = DeadLetter(
            place=Place("checkout", "checkout.events", 0, 5),
            key=FOREIGN.encode(),
            value=FOREIGN.encode(),
            headers=((FOREIGN, FOREIGN.encode()),),
            reason=Reason.HEADERS,
            error=FOREIGN,
            recorded=NOW,
            workflow_id=FOREIGN,
        )
        unit.save("checkout", Changes(workflows=[workflow], fences=[(FOREIGN, stuck)]))
        unit.bury([letter])
    return Commands(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        ("parked",),
        ("list",),
        ("show", FOREIGN),
        ("show", f"another {FOREIGN}"),
        ("dead-letters", "list"),
        ("dead-letters", "show", "checkout.events/0@5"),
        ("skip", FOREIGN, "--step", "nothing", "--reason", FOREIGN),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("on_terminal", [False, True])
def test_commands_tell_them_as_they_are(
    saga: Commands, command: tuple[str, ...], on_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: on_terminal)
    monkeypatch.setenv("NO_COLOR", "1")

    said = saga(*command, SAGA_DATABASE="sqlite:///stock.db")

    letters = set(said.out + said.err) - {"\n"}
    assert letters & ORDERS == set()
    assert not [line for line in (said.out + said.err).splitlines() if line.startswith("error: forged")]


def test_a_text_of_several_lines_keeps_them_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    output.lines("one\n  two \x1b[2J")

    assert capsys.readouterr().out == "one\n  two \\x1b[2J\n"


def test_a_line_of_the_log_is_one_and_its_traceback_gives_no_orders() -> None:
    try:
        raise ValueError(FOREIGN)
    except ValueError:
        record = logging.LogRecord("saga.worker", logging.ERROR, "", 0, "parked %s", (FOREIGN,), sys.exc_info())

    first, *traceback = _TextLines().format(record).split("\n")

    assert first.endswith(f"saga.worker: parked {TOLD}")
    assert traceback[0] == "Traceback (most recent call last):"
    assert set("".join(traceback)) & ORDERS == set()
