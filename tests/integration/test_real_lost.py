"""Records that Kafka does not have any more: noticed by the lane that wanted them, skipped on, and sent again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from saga import Worker
from saga.contracts.topics import events_topic, group, saga_topics
from saga.protocol.facts import WorkflowStatus
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from tests.commands import Commands
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

LANES = 1
SOON = timedelta(seconds=1)


class Trips:
    """The fleet on one broker, each participant with a database of its own and a worker that can be stopped."""

    def __init__(self, name: str, kafka: str, folder: Path, lanes: Literal["all", "group"]) -> None:
        self.name, self.kafka, self.folder = name, kafka, folder
        self.broker = KafkaBroker(KafkaSettings(kafka, lanes=lanes))
        self.broker.create(saga_topics(name), LANES, {})
        self.participants = {participant.name: participant for participant in fleet(Script(), name=name)}
        for participant in self.participants:
            with closing(self.store(participant)) as store, store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
        self.running: dict[str, tuple[Worker, object, SqliteStore]] = {}

    def store(self, participant: str) -> SqliteStore:
        return SqliteStore(self.folder / f"{participant}.db", migrate=True)

    def work(self, *names: str) -> None:
        for name in names:
            store = self.store(name)
            worker = Worker(self.participants[name], store=store, broker=self.broker, overdue=SOON)
            running = worker.running()
            running.__enter__()
            self.running[name] = worker, running, store
            until(lambda worker=worker: worker.standing().lanes == (0,), what="the lane")  # type: ignore[misc]

    def rest(self, *names: str) -> None:
        for name in names or [*self.running]:
            _, running, store = self.running.pop(name)
            running.__exit__(None, None, None)  # type: ignore[attr-defined]
            store.close()

    def book(self, workflow: str) -> None:
        with closing(self.store("agency")) as store, store.transaction() as tx:
            self.participants["agency"].start(TripBooked(trip=workflow), tx, workflow_id=workflow)

    def status(self, workflow: str) -> WorkflowStatus | None:
        with closing(self.store("agency")) as store:
            found = store.find(workflow)
        return found[0][1].status if found else None

    def kept(self) -> int:
        found = 0
        for name in self.participants:
            with closing(self.store(name)) as store:
                found += len(store.outstanding(datetime.now(UTC) + timedelta(days=1), 99))
        return found

    def reason(self, name: str) -> str:
        """Why its lane has stopped, if so."""
        return str(self.running[name][0].standing().stopped.get(0, ""))

    def effects(self, name: str) -> list[str]:
        """The trips for which it has done something, once for each time."""
        with closing(self.store(name)) as store, store.transaction() as tx:
            return [trip for (trip, *_) in tx.execute("SELECT * FROM effects").fetchall()]

    def saga(self, *words: str, of: str = "hotels") -> tuple[int, str]:
        said = Commands(self.folder)(*words, SAGA_DATABASE=f"sqlite:///{of}.db", SAGA_BROKER=self.kafka)
        return said.code, said.out + said.err

    def told(self, participant: str) -> int:
        partition = Partition(events_topic(self.name), 0)
        return self.broker.committed(group(self.name, participant), [partition]).get(partition, 0)


@pytest.fixture
def trips(kafka: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trips]:
    running = Trips(f"lost{abs(hash(request.node.name)) % 10**8}", kafka, tmp_path, getattr(request, "param", "all"))
    yield running
    running.rest()


def test_records_deleted_under_a_stopped_participant_are_noticed_skipped_and_sent_again(
    trips: Trips, kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    trips.work("agency", "hotels", "airline", "bank")
    trips.book("w1")
    until(lambda: trips.status("w1") is WorkflowStatus.COMPLETED, what="the first trip to complete")
    until(lambda: trips.kept() == 0, what="everything to be handled")
    trips.rest("hotels")
    trips.book("w2")
    end = trips.told("hotels")
    until(lambda: trips.told("airline") > end, what="the airline to take the second trip in")

    admin, topic = AdminClient({"bootstrap.servers": kafka}), events_topic(trips.name)
    first = trips.broker.spans([Partition(topic, 0)])[Partition(topic, 0)].stop
    for name in ("agency", "airline", "bank"):
        until(lambda name=name: trips.told(name) >= first, what=f"{name} to take in what is to be deleted")  # type: ignore[misc]
    admin.delete_records([TopicPartition(topic, 0, first)])[TopicPartition(topic, 0, first)].result(30)
    trips.work("hotels")
    until(lambda: 0 in trips.running["hotels"][0].standing().stopped, what="the lane to stop")
    reason = str(trips.running["hotels"][0].standing().stopped[0])
    trips.rest("hotels")
    listed = trips.saga("lanes", "list")
    skipped = trips.saga("lanes", "skip", trips.name, "0", "--reason", "the records were deleted")
    trips.work("hotels")

    until(lambda: trips.status("w2") is WorkflowStatus.COMPLETED, seconds=90, what="the second trip to complete")
    until(lambda: trips.kept() == 0, what="every outbox to be empty")
    assert "saga lanes skip" in reason
    assert f"is gone, the first is {first}" in listed[1]
    assert skipped[0] == 0
    assert "lost: travel.TripBooked of workflow w2" in caplog.text
    assert not trips.running["hotels"][0].standing().stopped
    assert trips.running["agency"][0].standing().lost >= 1


@pytest.mark.parametrize("trips", ["all", "group"], indirect=True)
@pytest.mark.parametrize("kind", ["events", "compensations"])
def test_a_topic_deleted_and_made_again_under_a_running_fleet_is_noticed_reported_and_repaired(
    trips: Trips, kafka: str, kind: str
) -> None:
    everybody, topic = ("agency", "hotels", "airline", "bank"), f"{trips.name}.{kind}"
    trips.work(*everybody)
    trips.book("w1")
    until(lambda: trips.status("w1") is WorkflowStatus.COMPLETED, what="the first trip to complete")
    until(lambda: trips.kept() == 0, what="everything to be handled")
    trips.rest("bank")
    trips.book("w2")
    until(lambda: trips.kept() == 2, what="hotel and flight to wait for the bank")

    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(30)
    until(lambda: trips.broker.partitions([topic])[topic] is None, what="the topic to be gone")
    until(lambda: _made(trips, topic), what="the topic to be there again")
    trips.work("bank")
    for name in everybody:
        until(lambda name=name: "made again" in trips.reason(name), seconds=120, what=f"{name} to notice")  # type: ignore[misc]
    trips.book("w3")
    listed = trips.saga("lanes", "list")
    trips.rest()
    for name in everybody:
        said = trips.saga("lanes", "reset", trips.name, "--reason", "somebody cleaned up", of=name)
        assert said[0] == 0, said
    trips.work(*everybody)

    until(lambda: trips.status("w2") is WorkflowStatus.COMPLETED, seconds=120, what="the second trip to complete")
    until(lambda: trips.status("w3") is WorkflowStatus.COMPLETED, seconds=120, what="the third trip to complete")
    until(lambda: trips.kept() == 0, seconds=120, what="every outbox to be empty")
    assert f"{topic} was made again: saga lanes reset" in listed[1]
    assert sorted(trips.effects("bank")) == ["w1", "w2", "w3"]
    assert not any(trips.reason(name) for name in everybody)


def _made(trips: Trips, topic: str) -> bool:
    """Create the topic; while the one before it is still being deleted that does not hold."""
    trips.broker.create([topic], LANES, {})
    return trips.broker.partitions([topic])[topic] == LANES and trips.broker.spans([Partition(topic, 0)]) != {}
