"""One process of the hotels on Kafka and PostgreSQL, which writes down what it owns and does, for the tests that torment it.

In the transaction of each unit of work it notes lane, epoch, batch and process, and its handlers note every effect, so what
the database holds at the end is what was committed, by whom and in which order.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from saga import Participant, Transaction, Worker
from saga.store.lane import Lane
from saga.store.postgres import PostgresStore
from saga.store.postgres_unit import PostgresUnit
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.travel import HotelBooked, HotelFreed, HotelFull, TripBooked, saga

TABLES = """
CREATE TABLE effects (
    workflow text NOT NULL, act text NOT NULL, pid integer NOT NULL, tx bigint NOT NULL DEFAULT txid_current()
);
CREATE TABLE claims (
    number serial, lane integer NOT NULL, epoch bigint NOT NULL, pid integer NOT NULL, released boolean NOT NULL DEFAULT false
);
CREATE TABLE commits (
    number serial, lane integer NOT NULL, epoch bigint NOT NULL, batch bigint NOT NULL, pid integer NOT NULL,
    tx bigint NOT NULL DEFAULT txid_current()
);
"""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the process is told; `slow` are seconds that a handler takes, `idle_timeout` is the store's."""

    saga: str
    kafka: str
    database: str
    protocol: str = "consumer"
    batch: int = 500
    slow: float = 0.0
    idle_timeout: float = 4.0
    client: dict[str, str] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self))


class WitnessedUnit(PostgresUnit):
    """A unit that notes whose it is."""

    def advance(self, lane: Lane) -> None:
        note = "INSERT INTO commits (lane, epoch, batch, pid) VALUES (%s, %s, %s, %s)"
        self.execute(note, (lane.number, lane.epoch, lane.batch, os.getpid()))
        super().advance(lane)


class WitnessedStore(PostgresStore):
    """A store that notes who claims, commits and releases a lane."""

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[PostgresUnit]:
        with super().unit(eager=eager) as unit:
            unit.__class__ = WitnessedUnit
            yield unit

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        claimed = super().claim(saga, lane, partitions, participant, registered)
        note = "INSERT INTO claims (lane, epoch, pid) VALUES (%s, %s, %s)"
        self._note(note, lane, claimed.epoch, os.getpid())
        return claimed

    def release(self, lane: Lane) -> None:
        super().release(lane)
        self._note("UPDATE claims SET released = true WHERE lane = %s AND epoch = %s", lane.number, lane.epoch)

    def _note(self, sql: str, *values: Any) -> None:
        with self.unit() as unit:
            unit.execute(sql, values)


def hotels(name: str, *, slow: float = 0.0) -> Participant:
    """The participant: every booking and every freeing leaves one row."""
    hotels = Participant("hotels", saga(name=name))
    note = "INSERT INTO effects (workflow, act, pid) VALUES (%s, %s, %s)"

    @hotels.step
    def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
        time.sleep(slow)
        tx.execute(note, (tx.workflow_id, "action", os.getpid()))
        return HotelBooked(trip=booked.trip)

    @hotels.compensation(of=hotel)
    def free_hotel(booked: HotelBooked, tx: Transaction) -> HotelFreed:
        tx.execute(note, (tx.workflow_id, "compensation", os.getpid()))
        return HotelFreed(trip=booked.trip)

    return hotels


def main(orders: Orders) -> None:
    """Work until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = KafkaSettings(orders.kafka, group_protocol=orders.protocol, client=orders.client)  # type: ignore[arg-type]
    with closing(WitnessedStore(orders.database, idle_timeout=orders.idle_timeout)) as store:
        worker = Worker(hotels(orders.saga, slow=orders.slow), store=store, broker=KafkaBroker(settings), batch=orders.batch)
        worker.run()


if __name__ == "__main__":
    main(Orders(**json.loads(sys.argv[1])))
