"""One process of the hotels that some trips kill: in the handler, or while their event is read."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import Any

from pydantic import field_validator

from saga import Event, Participant, Transaction, Worker
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.travel import HotelBooked, HotelFreed, HotelFull, note, saga

DIED = 70


class Booked(Event, name="TripBooked"):
    """A view whose reading can end the process, as a decoder in C would."""

    trip: str

    @field_validator("trip")
    @classmethod
    def must_be_readable(cls, trip: str) -> str:
        if trip == "unreadable":
            os._exit(DIED)
        return trip


def hotels() -> Participant:
    participant = Participant("hotels", saga())

    @participant.step
    def hotel(booked: Booked, tx: Transaction) -> HotelBooked | HotelFull:
        note(tx, "hotel", "action")
        if booked.trip == "deadly":
            os._exit(DIED)
        return HotelBooked(trip=booked.trip)

    @participant.compensation(of=hotel)
    def free(booked: HotelBooked, tx: Transaction) -> HotelFreed:
        return HotelFreed(trip=booked.trip)

    return participant


def main(servers: str, database: str) -> Any:
    with closing(SqliteStore(database)) as store:
        Worker(hotels(), store=store, broker=KafkaBroker(KafkaSettings(servers, embedded=True, lanes="all"))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
