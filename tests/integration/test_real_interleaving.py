"""Transactions of several processes that cross each other: nothing is lost, and a workflow's events go out in commit order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from saga import Participant, Transaction, Worker
from saga.contracts.message import Message
from saga.contracts.topics import fact_topics, saga_topics
from saga.store.memory import MemoryStore
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition, Record
from tests.integration.stage import first_published_in_order, message_of
from tests.travel import CREATE_EFFECTS, Script, TripBooked, TripCancelled, TripConfirmed, TripPaid, fleet, saga
from tests.waiting import until

pytestmark = pytest.mark.slow

LANES = 4


@dataclass
class Agency:
    """The agency on PostgreSQL, its topics on Kafka, and a way in for web processes of its service."""

    participant: Participant
    store: PostgresStore
    broker: KafkaBroker
    database: str

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with Worker(self.participant, store=self.store, broker=self.broker).running() as worker:
            until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
            yield

    @contextmanager
    def web(self) -> Iterator[psycopg.Connection]:
        """The connection of a web process, in a transaction."""
        with closing(psycopg.connect(self.database)) as connection:
            connection.execute("SELECT 1")
            yield connection

    def start(self, connection: psycopg.Connection, *ids: str) -> None:
        for id in ids:
            self.participant.start(TripBooked(trip=id), self.store.join(connection), workflow_id=id)

    def abort(self, connection: psycopg.Connection, *ids: str) -> None:
        for id in ids:
            self.participant.abort(id, self.store.join(connection), reason="the customer has called")

    def records(self) -> list[Record]:
        topics = fact_topics(self.participant.saga.name)
        return [*self.broker.read({Partition(topic, n): None for topic in topics for n in range(LANES)})]

    def published(self) -> list[Message]:
        return [message_of(record) for record in self.records()]


@contextmanager
def opened(name: str, kafka: str, database: str) -> Iterator[Agency]:
    agency, broker = Participant("agency", saga(name=name)), KafkaBroker(KafkaSettings(kafka))
    broker.create(saga_topics(name), LANES, {})

    @agency.compensation(of="book")
    def cancel(booked: TripBooked, tx: Transaction) -> TripCancelled:
        return TripCancelled(trip=booked.trip)

    @agency.step
    def confirm(paid: TripPaid, tx: Transaction) -> TripConfirmed:
        return TripConfirmed(trip=paid.trip)

    with closing(PostgresStore(database, migrate=True)) as store:
        yield Agency(agency, store, broker, database)


@contextmanager
def others_at_work(agency: Agency, script: Script) -> Iterator[None]:
    """Hotels, airline and bank, which need no memory beyond this block."""
    settings = KafkaSettings(agency.broker.settings.servers, lanes="all")
    with ExitStack() as stack:
        for participant in fleet(script, name=agency.participant.saga.name)[1:]:
            store = MemoryStore()
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
            stack.enter_context(Worker(participant, store=store, broker=KafkaBroker(settings)).running())
        yield


def test_two_transactions_that_commit_in_reverse_order_are_both_published(kafka: str, database: str) -> None:
    first, second = [f"first {n}" for n in range(20)], [f"second {n}" for n in range(20)]
    with opened("reverse", kafka, database) as agency, agency.at_work():
        with agency.web() as slow, agency.web() as quick:
            agency.start(slow, *first)
            agency.start(quick, *second)
            quick.commit()
            until(lambda: len(agency.published()) == len(second), what="what was committed first")
            assert {message.workflow_id for message in agency.published()} == {*second}
            slow.commit()
            until(lambda: len(agency.published()) == len(first + second), what="what was begun first")

        assert Counter(message.workflow_id for message in agency.published()) == Counter(first + second)


def test_what_a_web_process_began_and_nobody_published_goes_out_before_what_follows_from_it(kafka: str, database: str) -> None:
    ids = [f"w{n}" for n in range(12)]
    with opened("follows", kafka, database) as agency:
        with agency.at_work(), agency.web() as web:
            agency.start(web, *ids)
            web.commit()
            until(lambda: len(agency.published()) == len(ids), what="the beginnings")
        with others_at_work(agency, Script(failing={("hotel", id) for id in ids})):
            until(lambda: _unwound(agency) == {*ids}, what="the others to have undone theirs")

        with agency.web() as web:
            agency.abort(web, *ids)  # sequence 2, and the rows stay locked
            with agency.at_work():
                until(lambda: _waits_for_a_lock(agency), what="the lane to wait for the web process")
                web.commit()
                until(lambda: _cancelled(agency) == {*ids}, what="the lane's own sequence 3")

        orders = first_published_in_order(agency.records())
        assert {id: found for (source, id), found in orders.items() if source == "agency"} == {id: [1, 2, 3] for id in ids}


def _unwound(agency: Agency) -> set[str]:
    return {
        m.workflow_id for m in agency.published() if m.kind.step == "flight" and m.kind.status in {"compensated", "skipped"}
    }


def _cancelled(agency: Agency) -> set[str]:
    return {m.workflow_id for m in agency.published() if m.kind.step == "book" and m.kind.status == "compensated"}


def _waits_for_a_lock(agency: Agency) -> bool:
    with psycopg.connect(agency.database) as connection:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return connection.execute(waiting).fetchone() is not None
