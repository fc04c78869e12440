"""Vectorised steps with set-based SQL on PostgreSQL: one poisoned workflow in a batch, found by whoever notices it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from saga import Participant, Retry, Transaction
from saga.contracts.topics import saga_topics
from saga.store.memory import MemoryStore
from saga.store.postgres import PostgresStore
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryBroker
from tests.integration.test_postgres_engine import LANES, agency, joined, settle
from tests.travel import HotelBooked, HotelFreed, HotelFull, TripBooked, saga

pytestmark = pytest.mark.slow

TRIPS = [f"{number:03}" for number in range(200)]
POISONED = "137"
BOOK = "INSERT INTO rooms SELECT * FROM unnest(%s::text[])"


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database, migrate=True)) as store:
        with store.transaction() as tx:
            tx.execute("CREATE TABLE rooms (trip TEXT PRIMARY KEY)")
            tx.execute("CREATE TABLE late (trip TEXT REFERENCES rooms DEFERRABLE INITIALLY DEFERRED)")
        yield store


def hotels(book: Callable[[list[str], Transaction], object], sizes: list[int]) -> Participant:
    participant = Participant("hotels", saga())

    @participant.step(batch=True, retry=Retry(quick=1))
    def hotel(booked: list[TripBooked], tx: Transaction) -> list[HotelBooked | HotelFull]:
        sizes.append(len(booked))
        book([one.trip for one in booked], tx)
        return [HotelBooked(trip=one.trip) for one in booked]

    @participant.compensation(of=hotel, batch=True)
    def free_hotel(booked: list[HotelBooked], tx: Transaction) -> list[HotelFreed]:
        tx.execute("DELETE FROM rooms WHERE trip = ANY(%s)", ([one.trip for one in booked],))
        return [HotelFreed(trip=one.trip) for one in booked]

    return participant


def raises(trips: list[str], tx: Transaction) -> None:
    tx.execute(BOOK, (trips,))
    if POISONED in trips:
        raise ValueError(f"{POISONED} cannot be booked")


def violates_and_asks(trips: list[str], tx: Transaction) -> None:
    tx.execute(BOOK, (trips,))
    assert tx.execute("INSERT INTO rooms SELECT %s WHERE %s = ANY(%s)", (POISONED, POISONED, trips)).rowcount == 0


def violates_and_goes_on(trips: list[str], tx: Transaction) -> None:
    tx.execute(BOOK, (trips,))
    tx.execute("INSERT INTO rooms SELECT %s WHERE %s = ANY(%s)", (POISONED, POISONED, trips))


def violates_at_commit(trips: list[str], tx: Transaction) -> None:
    tx.execute(BOOK, (trips,))
    tx.execute("INSERT INTO late SELECT 'nowhere' WHERE %s = ANY(%s)", (POISONED, trips))


@pytest.mark.parametrize(
    ("book", "why"),
    [
        (raises, "ValueError"),
        (violates_and_asks, "UniqueViolation"),
        (violates_and_goes_on, "UniqueViolation"),
        (violates_at_commit, "violates foreign key constraint"),
    ],
    ids=["raised", "asked", "pipelined", "at commit"],
)
def test_one_poisoned_workflow_of_two_hundred_is_parked_and_all_others_are_done_once(
    store: PostgresStore, book: Callable[[list[str], Transaction], object], why: str
) -> None:
    sizes: list[int] = []
    shop, shops = agency(), MemoryStore()
    broker, clock = MemoryBroker(saga_topics("travel"), partitions=LANES), ManualClock()
    with ExitStack() as stack:
        stack.enter_context(closing(shops))
        first, second = joined(shop, shops, broker, clock), joined(hotels(book, sizes), store, broker, clock)
        stack.callback(first.abandon)
        stack.callback(second.abandon)
        with shops.transaction() as tx:
            for trip in TRIPS:
                shop.start(TripBooked(trip=trip), tx, workflow_id=f"trip-{trip}")
        settle(first)
        settle(second)

        with store.transaction() as tx:
            rooms = [trip for (trip,) in tx.execute("SELECT trip FROM rooms ORDER BY trip").fetchall()]
            parked = tx.execute("SELECT workflow_id, attempt, error FROM saga_fence WHERE error IS NOT NULL").fetchall()
    [(workflow, attempt, error)] = parked
    assert rooms == [trip for trip in TRIPS if trip != POISONED]
    assert (workflow, attempt) == (f"trip-{POISONED}", 2)
    assert why in error
    assert sizes[0] == len(TRIPS)
    assert sizes.count(1) >= 2
