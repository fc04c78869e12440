"""Every kind of garbage on the topics of a fleet at work: good workflows end, each bad record is where it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from saga import Participant, Transaction, Worker
from saga.contracts.topics import lane_of, saga_topics
from saga.participant import operator
from saga.protocol.facts import WorkflowStatus
from saga.store.dead_letter import DeadLetter, LetterSearch, Reason
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.transport.embedded import PARTITIONS, EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition, Record
from servers import fresh_database
from tests.integration.garbage import write, write_nameless
from tests.travel import CREATE_EFFECTS, HotelBooked, HotelFreed, HotelFull, Script, TripBooked, fleet
from tests.waiting import until

GOOD = 12
Parts = tuple[KafkaSettings, SqliteStore | PostgresStore]


@contextmanager
def embedded(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Parts]:
    with EmbeddedBroker(saga_topics(name)) as broker:
        yield broker.settings(lanes="all"), SqliteStore(folder / "hotels.db", migrate=True)


@contextmanager
def real(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Parts]:
    settings = KafkaSettings(request.getfixturevalue("kafka"), lanes="all")
    KafkaBroker(settings).create(saga_topics(name), PARTITIONS, {})
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield settings, PostgresStore(url, migrate=True)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [embedded, real], ids=lambda make: make.__name__)
def test_good_workflows_end_and_each_bad_record_is_where_it_should_be(
    parts: Callable[..., object], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = f"poisoned-{uuid4().hex[:8]}"
    with ExitStack() as stack:
        settings, rooms = stack.enter_context(parts(name, request, tmp_path))  # type: ignore[arg-type,var-annotated]
        agency, books = at_work(name, settings, rooms, tmp_path, stack)

        book(agency, books, [f"early-{number}" for number in range(GOOD)])
        until(lambda: len(ended(books, "early")) == GOOD, what="the first workflows to end")
        spoil(name, settings)
        book(agency, books, [f"late-{number}" for number in range(GOOD)])

        until(lambda: len(ended(books, "late")) == GOOD, what="those behind the garbage to end")
        until(lambda: len(letters(rooms)) == 8, what="all dead letters")
        assert sorted(letter.reason for letter in letters(rooms)) == sorted([
            Reason.HEADERS, Reason.HEADERS, Reason.HEADERS, Reason.KEY, Reason.KEY, Reason.LANE, Reason.FOREIGN,
            Reason.UNKNOWN_VERSION,
        ])  # fmt: skip
        for poisoned in ("garbage", "tombstone"):
            until(lambda id=poisoned: is_parked(name, rooms, id), what=f"{poisoned} to be parked")  # type: ignore[misc]


def at_work(
    name: str, settings: KafkaSettings, rooms: SqliteStore | PostgresStore, folder: Path, stack: ExitStack
) -> tuple[Participant, SqliteStore]:
    """All four with a worker each; answers the agency with its store."""
    stack.callback(rooms.close)
    agency, _, airline, bank = fleet(Script(), name=name)
    hotels = Participant("hotels", agency.saga)

    @hotels.step
    def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
        return HotelBooked(trip=booked.trip)

    @hotels.compensation(of=hotel)
    def free_hotel(booked: HotelBooked, tx: Transaction) -> HotelFreed:
        return HotelFreed(trip=booked.trip)

    books = {}
    for participant in (agency, airline, bank):
        books[participant.name] = store = SqliteStore(folder / f"{participant.name}.db", migrate=True)
        stack.callback(store.close)
        with store.transaction() as tx:
            tx.execute(CREATE_EFFECTS)
    for participant, store_ in ((agency, books["agency"]), (hotels, rooms), (airline, books["airline"]), (bank, books["bank"])):
        worker = stack.enter_context(Worker(participant, store=store_, broker=KafkaBroker(settings)).running())
        until(lambda worker=worker: len(worker.standing().lanes) == PARTITIONS, what="all lanes")  # type: ignore[misc]
    return agency, books["agency"]


def book(agency: Participant, books: SqliteStore, ids: list[str]) -> None:
    with books.transaction() as tx:
        for id in ids:
            agency.start(TripBooked(trip=id), tx, workflow_id=id)


def spoil(name: str, settings: KafkaSettings) -> None:
    """Write one record of each kind, made of one that was good."""
    topic = saga_topics(name)[0]
    every: dict[Partition, int | None] = {Partition(topic, number): None for number in range(PARTITIONS)}
    good = next(record for record in KafkaBroker(settings).read(every) if b"TripBooked" in dict(record.headers)["ce_type"])  # type: ignore[operator]

    def like(id: str, **changed: bytes) -> Record:
        headers = {**dict(good.headers), "ce_subject": id.encode(), "ce_id": id.encode(), **changed}
        return good._replace(key=id.encode(), partition=lane_of(id, PARTITIONS), headers=[*headers.items()])

    astray = like("astray")
    write(settings, [
        Record(topic, 0, 0, b"nonsense", b"\xff\xfe", ()),
        Record(topic, 1, 0, None, None, [("trace", None)]),
        like("keyless")._replace(key=None),
        like("another")._replace(key=b"someone"),
        astray._replace(partition=(astray.partition + 1) % PARTITIONS),
        like("foreign", ce_saga=b"elsewhere"),
        like("newer", ce_sagaversion=b"9"),
        like("garbage")._replace(value=b"{}"),
        like("tombstone")._replace(value=None),
    ])  # fmt: skip
    write_nameless(settings.servers, topic, 2)


def ended(books: SqliteStore, prefix: str) -> list[str]:
    found = [books.find(f"{prefix}-{number}") for number in range(GOOD)]
    return [rows[0][1].id for rows in found if rows and rows[0][1].status is WorkflowStatus.COMPLETED]


def letters(rooms: SqliteStore | PostgresStore) -> list[DeadLetter]:
    with rooms.unit() as unit:
        return unit.letters(LetterSearch(), 100)


def is_parked(name: str, rooms: SqliteStore | PostgresStore, id: str) -> bool:
    found = [workflow for saga, workflow, _ in rooms.find(id) if saga == name]
    return bool(found) and any(operator.is_parked(fence) for fence in found[0].fences.values())
