"""Records that end the process of whoever handles them, with real processes that really end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from saga import Worker
from saga.contracts.topics import saga_topics
from saga.handling.quarantine import DEATHS
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from tests.crash.dying import DIED
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(saga_topics("travel")) as running:
        yield running


def database(path: Path) -> SqliteStore:
    store = SqliteStore(path, migrate=True)
    with store.transaction() as tx:
        tx.execute(CREATE_EFFECTS)
    return store


def fences(path: Path, ids: list[str]) -> dict[str, Fence]:
    """What the hotels' database says of their step."""
    with closing(SqliteStore(path)) as store, store.unit() as unit:
        found = unit.load("travel", ids)
    return {id: workflow.fences["hotel"] for id, workflow in found.items() if "hotel" in workflow.fences}


@pytest.mark.slow
@pytest.mark.parametrize("killer", ["deadly", "unreadable"])
def test_the_workflow_that_kills_is_in_quarantine_and_all_others_of_its_lane_go_on(
    broker: EmbeddedBroker, tmp_path: Path, killer: str
) -> None:
    agency, books, hotels = fleet(Script())[0], tmp_path / "agency.db", tmp_path / "hotels.db"
    database(hotels).close()
    ids = [f"w{number}" for number in range(24)]
    deaths = 0
    with closing(database(books)) as store:
        worker = Worker(agency, store=store, broker=KafkaBroker(broker.settings(lanes="all")))
        with worker.running():
            until(lambda: len(worker.standing().lanes) == 4, what="all lanes")
            with store.transaction() as tx:
                for id in ids:
                    agency.start(TripBooked(trip=killer if id == "w7" else "rome"), tx, workflow_id=id)
            until(lambda: not any(store.pending("travel", lane, 1) for lane in range(4)), what="all to be published")

            while True:
                command = [sys.executable, "-m", "tests.crash.dying", broker.servers, str(hotels)]
                with subprocess.Popen(command, cwd=ROOT) as process:
                    until(lambda process=process: process.poll() is not None or is_over(hotels, ids))  # type: ignore[misc]
                    if process.poll() is None:
                        process.terminate()
                        assert process.wait(60) == 0
                        break
                assert process.returncode == DIED
                deaths += 1
                assert deaths <= DEATHS + 1

    found = fences(hotels, ids)
    assert deaths == DEATHS + 1  # the first was in ordinary running, and not counted
    assert "in quarantine: the process died 3 times" in (found["w7"].error or "")
    assert {id for id, fence in found.items() if fence.status == "done"} == {*ids} - {"w7"}


def is_over(path: Path, ids: list[str]) -> bool:
    found = fences(path, ids)
    return len(found) == len(ids) and all(fence.status == "done" or fence.error for fence in found.values())
