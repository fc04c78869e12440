"""A client in another language, with none of our code: it reads what our participants write, and they read what it writes.

franz-go with its own registry client and Avro library; built once into a folder that git does not see.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from saga import Participant, Worker
from saga.contracts.message import event_id
from saga.contracts.registry import Registry
from saga.contracts.topics import compensations_topic, events_topic, saga_topics
from saga.evolution.plan import subjects
from saga.protocol.facts import FactStatus, StepStatus
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.optional import program
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Path(__file__).parent / "go"
LANES = 3


@pytest.fixture(scope="module")
def foreign() -> Path:
    """The program, built; its caches stay in a folder of its own so that the next build is quick.

    The first one compiles the libraries of Go too: without optimisation and without C, in two thirds of the time.
    """
    build = HERE / ".build"
    go = program("go", "see https://go.dev/doc/install")
    environment = {**os.environ, "GOCACHE": str(build / "cache"), "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    command = [go, "build", "-gcflags=all=-N -l", "-ldflags=-s -w", "-o", str(build / "foreign"), "."]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    return build / "foreign"


class Trip:
    """The travel saga under a name of its own: registered, its topics made."""

    def __init__(self, kafka: str, registry: str, folder: Path) -> None:
        self.name, self.kafka, self.url, self.folder = f"travel{uuid4().hex[:8]}", kafka, registry, folder
        self.broker = KafkaBroker(KafkaSettings(kafka, lanes="all"))
        self.broker.create(saga_topics(self.name), LANES, {})
        self.agency, self.hotels, _, _ = fleet(Script(), name=self.name)
        client = Registry(registry)
        for subject, schema in subjects(self.agency.saga):
            client.register(subject, schema)

    @contextmanager
    def at_work(self, participant: Participant) -> Iterator[SqliteStore]:
        """A worker of the participant on a store of its own."""
        with closing(SqliteStore(self.folder / f"{participant.name}.db", migrate=True)) as store:
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
            worker = Worker(participant, store=store, broker=self.broker, registry=Registry(self.url))
            with worker.running():
                until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
                yield store

    def read(self, foreign: Path, topic: str, count: int) -> list[dict[str, Any]]:
        """So many records of a topic, as the foreign client reads them."""
        command = [str(foreign), "read", self.kafka, self.url, topic, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def write(self, foreign: Path, event: str, *records: dict[str, Any]) -> None:
        """Have the foreign client write records of this type to the topic of events."""
        topic = events_topic(self.name)
        command = [str(foreign), "write", self.kafka, self.url, topic, self.agency.saga.subject(event)]
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def trip(kafka: str, registry: str, tmp_path: Path) -> Trip:
    return Trip(kafka, registry, tmp_path)


def test_a_foreign_client_reads_what_we_write_with_its_own_registry_deserializer(trip: Trip, foreign: Path) -> None:
    with trip.at_work(trip.agency) as store:
        with store.transaction() as tx:
            trip.agency.start(TripBooked(trip="Oslo"), tx, workflow_id="w1")

        [record] = trip.read(foreign, events_topic(trip.name), 1)

        with store.transaction() as tx:
            trip.agency.abort("w1", tx, reason="the customer has called")
        [control] = trip.read(foreign, compensations_topic(trip.name), 1)

    assert (record["key"], record["value"]) == ("w1", {"trip": "Oslo"})
    assert (
        record["headers"]
        | {
            "ce_specversion": "1.0",
            "ce_type": "travel.TripBooked",
            "ce_source": "agency",
            "ce_subject": "w1",
            "content-type": "application/avro",
            "ce_sequence": "1",
        }
        == record["headers"]
    )
    assert control["headers"]["ce_type"] == "saga.AbortRequested"
    assert control["value"]["reason"] == "the customer has called"


def test_we_act_on_what_a_foreign_producer_writes_and_it_reads_our_answer(trip: Trip, foreign: Path) -> None:
    """Another language plays the agency: the hotels cannot tell."""
    records = [{"key": id, "headers": envelope(trip.name, id), "value": {"trip": "Oslo"}} for id in ("w1", "w2", "w3", "w4")]

    with trip.at_work(trip.hotels) as store:
        trip.write(foreign, "travel.TripBooked", *records)
        read = trip.read(foreign, events_topic(trip.name), 8)
        answers = {record["key"]: record for record in read if record["headers"]["ce_source"] == "hotels"}

        with store.unit() as unit:
            known = unit.load(trip.name, list(answers))

    assert sorted(answers) == ["w1", "w2", "w3", "w4"]
    assert all(record["value"] == {"trip": "Oslo", "room": "12"} for record in answers.values())
    assert all(answers[id]["headers"]["ce_causationid"] == envelope(trip.name, id)["ce_id"] for id in answers)
    assert {workflow.fences["hotel"].status for workflow in known.values()} == {StepStatus.DONE}


def envelope(saga: str, workflow_id: str) -> dict[str, str]:
    """The headers that a participant in any language writes: CloudEvents in binary mode, and the saga's extensions."""
    return {
        "ce_specversion": "1.0",
        "ce_id": event_id(saga, workflow_id, "book", "done"),
        "ce_type": "travel.TripBooked",
        "ce_source": "agency",
        "ce_subject": workflow_id,
        "ce_time": datetime(2026, 3, 1, 12, tzinfo=UTC).isoformat(),
        "content-type": "application/avro",
        "ce_saga": saga,
        "ce_sagaversion": "1",
        "ce_step": "book",
        "ce_status": FactStatus.DONE.value,
        "ce_sequence": "1",
    }
