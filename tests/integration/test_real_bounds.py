"""A real consumer that is paused and resumed because too much waits: nothing is lost by it, and nothing is done twice."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from saga import Participant, Retry, Worker
from saga.contracts.topics import saga_topics
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

LANES, BATCH, MOST, FIRST, TRIPS = 4, 5, 10, 60, 300


def test_a_participant_that_is_full_takes_in_no_more_and_everything_once_it_has_room(
    kafka: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(raising={("hotel", f"t{number}"): 10**9 for number in range(TRIPS)})
    agency, hotels = fleet(script, name="bounds", retry=Retry(attempts=10**6, quick=0, first=0.2, longest=0.2))[:2]
    hotels.max_parked = MOST
    broker = KafkaBroker(KafkaSettings(kafka))
    broker.create(saga_topics("bounds"), LANES, {})
    with ExitStack() as stack:
        books, store = (stack.enter_context(closing(SqliteStore(tmp_path / f"{n}.db", migrate=True))) for n in ("a", "h"))
        with store.transaction() as tx:
            tx.execute(CREATE_EFFECTS)
        first = stack.enter_context(Worker(agency, store=books, broker=broker).running())
        until(lambda: len(first.standing().lanes) == LANES, what="the agency's lanes")
        worker = stack.enter_context(Worker(hotels, store=store, broker=broker, batch=BATCH).running())
        _start(agency, books, range(FIRST))
        until(lambda: "nothing is taken in" in str(worker.health().reasons), what="health to say that it is full")
        until(lambda: "nothing more is taken in" in caplog.text, what="the lanes to be paused")
        _start(agency, books, range(FIRST, TRIPS))
        until(lambda: _unpublished(books) == 0, what="the rest to wait on the topics")
        tries = caplog.text.count("parked after attempt")
        until(
            lambda: caplog.text.count("parked after attempt") > tries + FIRST, seconds=60, what="the parked to be tried again"
        )
        with store.unit() as unit:
            parked = unit.count_parked("bounds", TRIPS)
        script.raising.clear()
        until(lambda: _effects(store) == TRIPS, seconds=90, what="everything to be taken in and done")

        assert MOST < parked <= FIRST
        assert _effects(store) == TRIPS
        until(lambda: worker.standing().stock.parked == 0, what="nothing to be parked")
        assert "nothing more is taken in" in caplog.text


def _start(agency: Participant, books: SqliteStore, numbers: range) -> None:
    with books.transaction() as tx:
        for number in numbers:
            agency.start(TripBooked(trip=f"t{number}"), tx, workflow_id=f"w{number}")


def _unpublished(books: SqliteStore) -> int:
    with books.unit() as unit:
        return unit.backlog("bounds", TRIPS)


def _effects(store: SqliteStore) -> int:
    with store.transaction() as tx:
        counts: list[int] = [count for (count,) in tx.execute("SELECT count(*) FROM effects GROUP BY workflow").fetchall()]
    assert set(counts) <= {1}
    return len(counts)
