"""Replay on real servers: records that an administrator deleted, tables and read models in PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from saga.contracts.topics import saga_topics
from saga.errors import SagaError
from saga.replay import tables
from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.holes import holes
from saga.replay.projector import Projector
from saga.replay.rebuild import Rebuild
from saga.replay.source import TopicSource
from saga.replay.state import State, state
from saga.store.postgres import PostgresStore
from saga.testing.clock import ManualClock
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from tests.brokers import copy
from tests.histories import lived, records
from tests.travel import Script, fleet, saga
from tests.unit.test_projection import WHOLE, trips

pytestmark = pytest.mark.slow

NAME = "past"


@pytest.fixture(scope="module")
def published(kafka: str) -> KafkaBroker:
    """A broker with the topics of saga `past`, two partitions each, and what has happened on them."""
    broker = KafkaBroker(KafkaSettings(kafka))
    broker.create(saga_topics(NAME), 2, {})
    with lived(name=NAME) as past:
        copy(records(past.broker), broker)
    return broker


def contracts() -> Contracts:
    return Contracts([saga(name=NAME)])


def states(broker: KafkaBroker) -> list[State]:
    found = (state(contracts(), one) for one in histories(TopicSource(broker, NAME), contracts()))
    return [one for one in found if one is not None]


def test_kafka_tells_the_same_as_the_log_in_memory(published: KafkaBroker) -> None:
    with lived(name=NAME) as past:
        told = {h.workflow: state(contracts(), h) for h in histories(TopicSource(past.broker, NAME), contracts())}

    assert {one.id: (one.status, one.steps, one.events, one.holes) for one in states(published)} == {
        id_: (one.status, one.steps, one.events, one.holes) for id_, one in told.items() if one is not None
    }
    assert TopicSource(published, NAME).aged == []


def test_a_table_of_postgres_holds_each_workflow_with_its_events_as_json(published: KafkaBroker, database: str) -> None:
    travel = contracts().latest
    for _ in range(2):
        name = tables.write(database, travel, states(published), replace=True)

    with psycopg.connect(database) as connection:
        rows = connection.execute(
            f"SELECT id, status, pay ->> 'trip', opened < now() + interval '9 years' FROM {name} ORDER BY id"
        )
        assert rows.fetchall() == [
            ("full", "compensated", None, True),
            ("open", "in_progress", None, True),
            ("poor", "compensated", "poor", True),
            ("smooth", "completed", "smooth", True),
        ]


def test_a_read_model_on_postgres_is_filled_once_and_rebuilt_beside_itself(published: KafkaBroker, database: str) -> None:
    with closing(PostgresStore(database, migrate=True)) as store:
        for _ in range(2):
            projector = Projector(trips(name=NAME), store, published)
            projector.start()
            projector.catch_up()
        for _ in range(2):
            Projector(trips(name=NAME), store, published).rebuild()

        with store.transaction() as tx:
            assert tx.execute("SELECT * FROM trips ORDER BY trip").fetchall() == WHOLE


@pytest.fixture
def truncated(published: KafkaBroker, kafka: str) -> KafkaBroker:
    """Its first three events are gone; for the last tests of this module, since the others read them."""
    client = AdminClient({"bootstrap.servers": kafka})
    [done] = client.delete_records([TopicPartition(f"{NAME}.events", 0, 3)]).values()
    done.result(30)
    return published


def test_records_that_were_deleted_are_missed_workflow_by_workflow(truncated: KafkaBroker, database: str) -> None:
    source = TopicSource(truncated, NAME)

    found = {h.workflow: [hole.kind for hole in holes(h, contracts())] for h in histories(source, contracts())}

    assert source.aged == [f"{NAME}.events/0 begins at offset 3"]
    assert any(found.values())
    assert not all(found.values())
    assert all("sequence" in kinds for kinds in found.values() if kinds)
    with (
        closing(PostgresStore(database, migrate=True)) as store,
        pytest.raises(SagaError, match="is not whole, and maybe others"),
    ):
        Projector(trips(name=NAME), store, truncated).start()


def test_a_lane_that_is_rebuilt_of_what_is_left_remembers_up_to_when_it_may_lack_workflows(
    truncated: KafkaBroker, database: str
) -> None:
    hotels = next(one for one in fleet(Script(), name=NAME) if one.name == "hotels")
    first = next(truncated.read({Partition(f"{NAME}.events", 0): None}))
    stated = datetime.fromisoformat((dict(first.headers)["ce_time"] or b"").decode())
    with closing(PostgresStore(database, migrate=True)) as store:
        rebuild = Rebuild(hotels, store, truncated, evolve=False, partial=True, clock=ManualClock(stated + timedelta(days=9)))
        rebuild.prepare()
        rebuild.start()
        rebuild.catch_up()

        assert {lane.number: lane.pruned for lane in store.lanes()} == {0: stated, 1: None}
