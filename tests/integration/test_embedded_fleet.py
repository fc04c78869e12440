"""Workers on SQLite and the embedded broker: the same client path as on a real Kafka, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from saga import Worker
from saga.contracts.topics import saga_topics
from saga.engine import loop
from saga.handling import handling
from saga.protocol.facts import WorkflowStatus
from saga.store.sqlite import SqliteStore
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

TRIPS = 60


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(saga_topics("travel")) as running:
        yield running


@pytest.mark.parametrize("lanes", ["group", pytest.param("all", marks=pytest.mark.slow)])
def test_every_workflow_of_a_fleet_of_workers_ends(broker: EmbeddedBroker, tmp_path: Path, lanes: str) -> None:
    every_workflow_ends(broker, tmp_path, lanes)


@pytest.mark.slow
def test_so_it_does_where_each_turn_leaves_records_to_be_read_again(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "PATIENCE", -1.0)
    monkeypatch.setattr(loop, "TURN", -1.0)

    every_workflow_ends(broker, tmp_path, "group")


def every_workflow_ends(broker: EmbeddedBroker, tmp_path: Path, lanes: str) -> None:
    failing = {("pay", f"trip {number}") for number in range(0, TRIPS, 5)}
    agency, *others = fleet(Script(failing=failing), external=True)
    settings = broker.settings(lanes="all" if lanes == "all" else "group")

    with ExitStack() as stack:
        stores = {p.name: SqliteStore(tmp_path / f"{p.name}.db", migrate=True) for p in (agency, *others)}
        for store in stores.values():
            stack.callback(store.close)
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
        workers = [Worker(p, store=stores[p.name], broker=KafkaBroker(settings)) for p in (agency, *others)]
        for worker in workers:
            stack.enter_context(worker.running())
        until(lambda: all(len(worker.standing().lanes) == 4 for worker in workers), what="all lanes to be owned")
        for number in range(TRIPS):
            with stores["agency"].transaction() as tx:
                agency.start(TripBooked(trip=f"trip {number}"), tx, workflow_id=f"w{number}")

        def ended() -> list[WorkflowStatus]:
            found = [stores["agency"].find(f"w{number}")[0][1] for number in range(TRIPS)]
            return [workflow.status for workflow in found if workflow.closed]

        until(lambda: len(ended()) == TRIPS, what="all workflows to end")

        assert ended().count(WorkflowStatus.COMPENSATED) == len(failing)
        assert not any(worker.standing().stopped for worker in workers)
