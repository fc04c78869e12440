"""What a simulated workflow begins with, and fails with, where nobody says it: any contract gives such an event."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from saga import Event, Participant, Saga, Transaction
from saga.contracts.avro import AvroCodec
from saga.testing.simulation.simulation import Simulation
from saga.testing.simulation.specimen import specimen

AMOUNT = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
ID = {"type": "string", "logicalType": "uuid"}
TYPES: dict[str, Any] = {
    "amount": AMOUNT,
    "all of it": {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 2},
    "fixed amount": {"type": "fixed", "name": "Amount", "size": 4, "logicalType": "decimal", "precision": 4},
    "id": ID,
    "hidden id": {"sensitive": True, "type": ID},
    "enum": {"type": "enum", "name": "Cabin", "symbols": ["ECONOMY", "BUSINESS"]},
    "fixed": {"type": "fixed", "name": "Seal", "size": 3},
    "bytes": "bytes",
    "union": ["null", ID],
    "map": {"type": "map", "values": AMOUNT},
    "array": {"type": "array", "items": {"type": "record", "name": "Leg", "fields": [{"name": "price", "type": AMOUNT}]}},
    "date": {"type": "int", "logicalType": "date"},
    "time": {"type": "int", "logicalType": "time-millis"},
    "time in micros": {"type": "long", "logicalType": "time-micros"},
    "moment": {"type": "long", "logicalType": "timestamp-millis"},
    "local moment": {"type": "long", "logicalType": "local-timestamp-micros"},
    "number": {"type": "long", "logicalType": "nobody-knows-it"},
}


def _contracts(*fields: dict[str, Any]) -> Saga:
    def record(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "record", "name": name, "namespace": "trips", "fields": [*fields], **more}

    steps = [
        {"by": "agency", "emits": ["Booked"], "compensated": "Cancelled"},
        {"by": "bank", "on": ["Booked"], "emits": ["Paid"], "fails": "Declined", "pivot": True},
    ]
    of_steps = [("book", ["Booked", "Cancelled"], steps[0]), ("pay", ["Paid", "Declined"], steps[1])]
    own = {"name": "trips", "version": 1, "owner": "agency", "deadline": "PT1H"}
    described = [{"name": name, "type": ["null", *events], "default": None, "step": step} for name, events, step in of_steps]
    return Saga.of(*map(record, ("Booked", "Cancelled", "Paid", "Declined")), record("Trip", saga=own) | {"fields": described})


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_a_value_that_is_written_and_read_again(kind: str) -> None:
    field = {"name": "value", **(TYPES[kind] if "sensitive" in TYPES[kind] else {"type": TYPES[kind]})}
    codec = AvroCodec(_contracts(field))

    made = specimen(codec.saga, "trips.Booked", 3)  # type: ignore[arg-type]

    assert codec.decode("trips.Booked", codec.encode("trips.Booked", made)) == made


def test_what_must_be_unique_differs_with_the_number() -> None:
    saga = _contracts({"name": "trip_id", "type": ID}, {"name": "card", "type": "string", "sensitive": True})

    first, second = specimen(saga, "trips.Booked", 1), specimen(saga, "trips.Booked", 2)

    assert [first[key] != second[key] for key in ("trip_id", "card")] == [True, True]


class Booked(Event):
    trip_id: UUID
    price: Decimal
    cabin: str


class Cancelled(Booked):
    pass


class Paid(Booked):
    pass


class Declined(Booked):
    pass


def test_a_fleet_whose_events_have_ids_amounts_and_enums_is_simulated_without_being_told_how_it_begins() -> None:
    saga = _contracts(
        {"name": "trip_id", "type": ID}, {"name": "price", "type": AMOUNT}, {"name": "cabin", "type": TYPES["enum"]}
    )
    agency, bank = Participant("agency", saga), Participant("bank", saga)

    @agency.compensation(of="book")
    def cancel(booked: Booked, tx: Transaction) -> Cancelled:
        return Cancelled(**booked.model_dump())

    @bank.step
    def pay(booked: Booked, tx: Transaction) -> Paid | Declined:
        tx.execute("INSERT INTO payments VALUES (?)", (str(booked.trip_id),))
        return Paid(**booked.model_dump())

    def tables(participant: str, tx: Transaction) -> None:
        tx.execute("CREATE TABLE payments (trip_id TEXT PRIMARY KEY)")

    run = Simulation([agency, bank], prepare=tables).run(3)

    assert (run.violations, run.seen["a fact is stated: failed"] > 0) == ((), True)
