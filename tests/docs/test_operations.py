"""The page for whoever is on call: every command on it does what it says, on databases in which things have gone wrong."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drills.blocks import blocks, matches
from saga.protocol.facts import StepStatus
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Workflow
from services.stock.app import stock
from tests.commands import Commands, Said

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "verbs.md"
LONG_AGO = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
PAYMENTS = (Path(__file__).parents[2] / "services" / "payments" / "tables.sql").read_text()
RESERVED = stock.codec.encode("checkout.StockReserved", {"order_id": "order-106", "units": 2, "country": "Spain"})


def parked(number: int, error: str, step: str = "reserve", status: StepStatus = StepStatus.IDLE, **more: Any) -> Changes:
    """A workflow `order-<number>`, that long after the first."""
    opened = LONG_AGO + timedelta(seconds=number)
    workflow = Workflow(id=f"order-{number}", version=1, lane=0, opened=opened)
    fence = Fence(step=step, status=status, attempt=12, error=error, changed=opened, **more)
    return Changes(workflows=[workflow], fences=[(workflow.id, fence)])


def database(file: Path, *workflows: Changes) -> None:
    with closing(SqliteStore(file, migrate=True)) as store:
        store.claim("checkout", 0, 4, file.stem)
        with store.unit() as unit:
            for changes in workflows:
                unit.save("checkout", changes)


@pytest.fixture
def trouble(tmp_path: Path) -> Path:
    """A folder with the databases that the page speaks of."""
    database(
        tmp_path / "stock.db",
        parked(101, "OSError: shelf 7 is away"),
        parked(102, "OSError: shelf 7 is away"),
        parked(103, "OSError: shelf 12 is away", due=datetime(2099, 1, 1, tzinfo=UTC)),
        parked(104, "KeyError: 'size'"),
        parked(105, "KeyError: 'size'"),
        parked(106, "OSError: no forklift", status=StepStatus.STUCK, event="checkout.StockReserved", result=RESERVED),
    )
    database(tmp_path / "payments.db", parked(107, "TimeoutError: no answer", "authorise", StepStatus.RUNNING))
    with closing(sqlite3.connect(tmp_path / "payments.db")) as connection:
        connection.executescript(PAYMENTS)
    return tmp_path


def test_every_command_on_the_page_does_what_it_says_and_each_workflow_ends_or_goes_on(trouble: Path) -> None:
    follow(Commands(trouble))

    again = dict.fromkeys(("order-102", "order-103"), (StepStatus.IDLE, True, 1))
    assert ends(trouble) == again | {
        "order-101": (StepStatus.IDLE, True, 2),
        "order-104": (StepStatus.SKIPPED, False, 2),
        "order-105": (StepStatus.IDLE, False, 1),
        "order-106": (StepStatus.COMPENSATED, True, 2),
        "order-107": (StepStatus.FAILED, True, 2),
    }


def follow(commands: Commands) -> None:
    """Do what the page says, and find on the screen what it shows."""
    environment: dict[str, str] = {}
    said = Said(0, "", "")
    for block in blocks(PAGE):
        if block.language == "text":
            assert matches(block.text, said.out), f"line {block.line}: expected\n{block.text}\nbut found\n{said.out}"
            continue
        program, *arguments = shlex.split(block.text)
        if program == "export":
            environment |= dict(argument.split("=", 1) for argument in arguments)
            continue
        assert program == "saga"
        said = commands(*arguments, **environment)
        assert said.code == 0, f"line {block.line}: {said.err}"


def ends(folder: Path) -> dict[str, tuple[StepStatus, bool, int]]:
    """Of each workflow: where its step is, whether a worker is to look at it, how many facts were stated."""
    found = {}
    for name in ("stock", "payments"):
        with closing(SqliteStore(folder / f"{name}.db")) as store, store.unit() as unit:
            for workflow in unit.load("checkout", [f"order-{number}" for number in range(101, 108)]).values():
                [fence] = workflow.fences.values()
                found[workflow.id] = (fence.status, fence.due is not None, workflow.sequence)
    return found


def test_no_command_is_named_that_is_not_shown_or_known() -> None:
    shown = {shlex.split(block.text)[1] for block in blocks(PAGE) if block.text.startswith("saga ")}
    named = set(re.findall(r"`saga ([a-z]+)", PAGE.read_text()))

    assert named - shown <= {"run", "doctor", "dead"}  # those of dead-letters are tried in tests of their own
    assert shown == {"parked", "list", "show", "retry", "skip", "abort", "resolve"}
