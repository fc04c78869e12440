"""A compensation that an operator had to state by hand, on Kafka and PostgreSQL: everybody's end says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from saga import Participant, Retry, Transaction, Worker
from saga.contracts.topics import saga_topics
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Workflow
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.travel import CREATE_EFFECTS, HotelBooked, HotelFreed, HotelFull, Script, TripBooked, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

FIVE = Retry(attempts=5, quick=2, first=0.1, longest=0.5)


class Fleet:
    """The trips' participants, each with a worker in a thread; the hotels, on PostgreSQL, can book and cannot free."""

    def __init__(self, kafka: str, database: str, folder: Path, stack: ExitStack) -> None:
        name = f"excepted-{uuid4().hex[:8]}"
        self.agency, _, airline, bank = fleet(Script(failing={("pay", "rome")}), name=name)
        self.hotels, self.tried = Participant("hotels", self.agency.saga), 0
        self._declare()
        self.rooms = PostgresStore(database, migrate=True)
        stack.callback(self.rooms.close)
        self.books: dict[str, SqliteStore] = {}
        settings = KafkaSettings(kafka, lanes="all")
        KafkaBroker(settings).create(saga_topics(name), 2, {})
        stack.enter_context(Worker(self.hotels, store=self.rooms, broker=KafkaBroker(settings)).running())
        for participant in (self.agency, airline, bank):
            store = self.books[participant.name] = SqliteStore(folder / f"{participant.name}.db", migrate=True)
            stack.callback(store.close)
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
            worker = stack.enter_context(Worker(participant, store=store, broker=KafkaBroker(settings)).running())
            until(lambda worker=worker: len(worker.standing().lanes) == 2, what="all lanes")  # type: ignore[misc]

    def _declare(self) -> None:
        @self.hotels.step
        def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
            return HotelBooked(trip=booked.trip)

        @self.hotels.compensation(of=hotel, retry=FIVE)
        def free_hotel(booked: HotelBooked, tx: Transaction) -> HotelFreed:
            self.tried += 1
            raise OSError("the hotel does not answer")

    def fence(self) -> Fence | None:
        found = self.rooms.find("w1")
        return found[0][1].fences.get("hotel") if found else None

    def ends(self) -> list[Workflow]:
        """Of those participants that know the workflow to have ended."""
        found = [self.rooms.find("w1"), *(store.find("w1") for store in self.books.values())]
        return [workflow for rows in found for _, workflow, _ in rows if workflow.closed]


@pytest.fixture
def travel(kafka: str, database: str, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(kafka, database, tmp_path, stack)


def test_a_compensation_that_is_resolved_by_hand_ends_compensated_with_exceptions_everywhere(travel: Fleet) -> None:
    with travel.books["agency"].transaction() as tx:
        travel.agency.start(TripBooked(trip="rome"), tx, workflow_id="w1")
    until(lambda: (fence := travel.fence()) and fence.status is StepStatus.STUCK, what="the hotel to be stuck")
    assert (travel.tried >= FIVE.attempts, travel.ends()) == (True, [])

    with travel.rooms.transaction() as tx:
        travel.hotels.resolve("w1", "hotel", HotelFreed(trip="rome"), tx, reason="called them", by="alice")
    until(lambda: len(travel.ends()) == 4, what="everybody to hear of the end")

    assert {(end.status, end.exceptions) for end in travel.ends()} == {(WorkflowStatus.COMPENSATED, frozenset({"hotel"}))}
