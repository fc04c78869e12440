"""An operator's commands on PostgreSQL, where a worker may hold the workflow at that very moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from saga.protocol.facts import StepStatus
from saga.store.port import Changes
from saga.store.postgres import PostgresStore
from saga.store.workflow import Fence, Workflow
from tests.commands import Commands

pytestmark = pytest.mark.slow

OPENED = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
PARKED = Fence(step="reserve", status=StepStatus.IDLE, attempt=12, error="OSError: shelf 7 is away")


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    """A store that knows one parked workflow `w1`."""
    with closing(PostgresStore(database, migrate=True)) as store:
        workflow = Workflow(id="w1", version=1, lane=0, opened=OPENED)
        with store.unit() as unit:
            unit.save("checkout", Changes(workflows=[workflow], fences=[("w1", PARKED)]))
        yield store


def fence(store: PostgresStore) -> Fence:
    with store.unit() as unit:
        return unit.load("checkout", ["w1"])["w1"].fences["reserve"]


def test_what_is_parked_is_found_tried_again_and_given_up(store: PostgresStore, database: str, tmp_path: Path) -> None:
    saga = Commands(tmp_path)

    (group,) = saga("parked", "--json", SAGA_DATABASE=database).json["groups"]
    retried = saga("retry", "--all-matching", group["error"], SAGA_DATABASE=database)
    due = fence(store).due
    listed = saga("list", "--parked", "--stuck-for", "PT1H", "--json", SAGA_DATABASE=database).json["workflows"]
    skipped = saga("skip", "services.stock.app:stock", "w1", "reserve", "--reason", "burnt", SAGA_DATABASE=database)

    assert (group["error"], retried.out) == ("OSError: shelf # is away", "checkout w1 is tried again now\n")
    assert due is not None
    assert [one["id"] for one in listed] == ["w1"]
    assert (skipped.code, fence(store).status) == (0, StepStatus.SKIPPED)


def test_a_workflow_that_somebody_holds_is_left_alone(store: PostgresStore, database: str, tmp_path: Path) -> None:
    saga = Commands(tmp_path)

    with closing(PostgresStore(database)) as other, other.unit() as unit:
        unit.load("checkout", ["w1"])
        seen = saga("parked", SAGA_DATABASE=database)
        said = saga("retry", "w1", SAGA_DATABASE=database)

    assert seen.code == 0
    assert said.code == 1
    assert "another transaction was in the way" in said.err
    assert fence(store) == PARKED
