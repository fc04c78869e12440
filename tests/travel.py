"""A small saga for tests of the engine: book -> hotel and flight in parallel -> pay (join, pivot) -> confirm.

Every handler leaves one row in the table `effects` of its own store, so that a test can count effects. `Script` tells them how
to end: a business failure, an exception, or as usual.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from saga import Clock, Event, ExternalCall, Gates, Participant, Pending, Retry, Saga, Transaction
from saga.handling.tracing import Tracer
from saga.testing.harness import Harness
from saga.testing.simulation.simulation import Simulation
from tests.vectorised import vectorise

CREATE_EFFECTS = "CREATE TABLE IF NOT EXISTS effects (workflow TEXT, step TEXT, act TEXT, key TEXT)"
ADD_EFFECT = "INSERT INTO effects VALUES (?, ?, ?, ?)"


class TripBooked(Event):
    trip: str


class TripCancelled(Event):
    trip: str


class HotelBooked(Event):
    trip: str
    room: str = "12"


class HotelFull(Event):
    trip: str


class HotelFreed(Event):
    trip: str


class FlightBooked(Event):
    trip: str
    seat: str = "4A"


class FlightFull(Event):
    trip: str


class FlightFreed(Event):
    trip: str


class TripInsured(Event):
    trip: str


class TripPaid(Event):
    trip: str


class TripDeclined(Event):
    trip: str


class TripConfirmed(Event):
    trip: str


def _record(name: str, *more: str) -> dict[str, Any]:
    fields = [{"name": field, "type": "string"} for field in ("trip", *more)]
    return {"type": "record", "name": name, "namespace": "travel", "fields": fields}


def _given(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _step(name: str, **step: Any) -> dict[str, Any]:
    events = [*step["emits"], *(step[key] for key in ("fails", "compensated") if step.get(key))]
    return {"name": name, "type": ["null", *events], "default": None, "step": step}


@cache
def saga(
    *,
    name: str = "travel",
    version: int = 1,
    external: bool = False,
    on_error: str = "park",
    on_stuck: str = "wait",
    unwind: str | None = None,
    gate: str | None = None,
) -> Saga:
    """The saga; with `external`, the hotel is booked outside of the transaction. The next two are the hotel's as well.

    Version 2 has one more step, `insure` by the airline, which `pay` waits for, if it is not behind a `gate` that is shut.
    Topics and groups are called after `name`, so tests that share a broker need one each.
    """
    insured = [_step("insure", by="airline", on=["TripBooked"], emits=["TripInsured"], compensated=None, **_given(gate=gate))]
    paid_after = ["HotelBooked", "FlightBooked", *(["TripInsured"] if version > 1 else [])]
    return Saga.of(
        _record("TripBooked"),
        _record("TripCancelled"),
        _record("HotelBooked", "room"),
        _record("HotelFull"),
        _record("HotelFreed"),
        _record("FlightBooked", "seat"),
        _record("FlightFull"),
        _record("FlightFreed"),
        _record("TripInsured"),
        _record("TripPaid"),
        _record("TripDeclined"),
        _record("TripConfirmed"),
        {
            "type": "record",
            "name": "Travel",
            "namespace": "travel",
            "saga": {"name": name, "version": version, "deadline": "PT10M", "owner": "agency", **_given(unwind=unwind)},
            "fields": [
                _step("book", by="agency", emits=["TripBooked"], compensated="TripCancelled"),
                _step(
                    "hotel", by="hotels", on=["TripBooked"], emits=["HotelBooked"], fails="HotelFull",
                    compensated="HotelFreed", external=external, on_error=on_error, on_stuck=on_stuck,
                ),
                _step(
                    "flight", by="airline", on=["TripBooked"], emits=["FlightBooked"], fails="FlightFull",
                    compensated="FlightFreed", timeout="PT1M",
                ),
                *(insured if version > 1 else []),
                _step("pay", by="bank", on=paid_after, emits=["TripPaid"], fails="TripDeclined", pivot=True),
                _step("confirm", by="agency", on=["TripPaid"], emits=["TripConfirmed"]),
            ],
        },
    )  # fmt: skip


class Away(Exception):
    """The front desk, on which the hotel depends, does not answer."""


@dataclass
class Script:
    """How handlers end, by trip: `failing` names steps that fail for business reasons, `raising` how often one raises an
    `error` first, `waiting` the trips whose flight waits for the world, `away` the steps whose dependency does not answer.

    `reached` tells the trips of all calls, by step. `calls` counts the calls to the outside world by idempotency key;
    `meanwhile` is run in the midst of such a call.
    """

    failing: set[tuple[str, str]] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    raising: dict[tuple[str, str], int] = field(default_factory=dict)
    error: Callable[[str], BaseException] = RuntimeError
    away: set[str] = field(default_factory=set)
    reached: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    world: set[str] = field(default_factory=set)
    meanwhile: Callable[[], None] = lambda: None

    def reach(self, step: str, trip: str) -> bool:
        """Raise if this step is to raise now; answers whether it is to fail."""
        self.reached[step].append(trip)
        if step in self.away:
            raise Away(f"no answer about {trip}")
        if self.raising.get((step, trip), 0) > 0:
            self.raising[step, trip] -= 1
            raise self.error(f"{step} is unlucky with {trip}")
        return (step, trip) in self.failing


def note(tx: Transaction, step: str, act: str, key: str = "") -> None:
    """Leave one row for one effect, written as the transaction's driver wants it."""
    on_sqlite = isinstance(tx.connection, sqlite3.Connection)
    tx.execute(ADD_EFFECT if on_sqlite else ADD_EFFECT.replace("?", "%s"), (tx.workflow_id, step, act, key))


def fleet(
    script: Script,
    *,
    versions: Sequence[int] = (1,),
    retry: Retry | None = None,
    max_backlog: int = 10_000,
    clock: Clock | None = None,
    gates: Gates | None = None,
    desk: dict[str, Any] | None = None,
    **options: Any,
) -> list[Participant]:
    """Four participants that follow the script; `options` are those of the saga.

    With `desk` the hotel needs a front desk, a dependency with these settings.
    """
    travel, external = [saga(version=number, **options) for number in versions], options.get("external", False)
    agency = Participant("agency", travel, max_backlog=max_backlog, clock=clock, gates=gates)
    hotels = Participant("hotels", travel)
    airline, bank = Participant("airline", travel), Participant("bank", travel)
    patience = retry or Retry()
    needs = () if desk is None else hotels.dependency("front-desk", **{"errors": [Away]} | desk)

    @agency.compensation(of="book")
    def cancel(booked: TripBooked, tx: Transaction) -> TripCancelled:
        note(tx, "book", "compensation")
        return TripCancelled(trip=booked.trip)

    @agency.step
    def confirm(paid: TripPaid, tx: Transaction) -> TripConfirmed:
        note(tx, "confirm", "action")
        return TripConfirmed(trip=paid.trip)

    @agency.evolve(TripCancelled, TripConfirmed)
    def ended_again(told: TripCancelled | TripConfirmed, tx: Transaction) -> None:
        note(tx, *(("confirm", "action") if isinstance(told, TripConfirmed) else ("book", "compensation")))

    agency.unchanged_by(TripBooked)

    if external:

        @hotels.step(step="hotel", retry=patience, needs=needs)
        def call_hotel(booked: TripBooked, call: ExternalCall) -> HotelBooked | HotelFull:
            failing = script.reach("hotel", booked.trip)
            script.calls[call.idempotency_key] += 1
            script.world.add(call.idempotency_key)
            script.meanwhile()
            return HotelFull(trip=booked.trip) if failing else HotelBooked(trip=booked.trip)

        @hotels.compensation(of=call_hotel, needs=needs)
        def uncall_hotel(booked: HotelBooked, call: ExternalCall) -> HotelFreed:
            script.reach("free_hotel", booked.trip)
            script.calls[call.idempotency_key] += 1
            return HotelFreed(trip=booked.trip)

        @hotels.recording(of=call_hotel)
        def keep(outcome: HotelBooked | HotelFull | HotelFreed, tx: Transaction) -> None:
            note(tx, "hotel", "compensation" if isinstance(outcome, HotelFreed) else "action")
    else:

        @hotels.step(retry=patience, needs=needs)
        def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
            note(tx, "hotel", "action")
            return HotelFull(trip=booked.trip) if script.reach("hotel", booked.trip) else HotelBooked(trip=booked.trip)

        @hotels.compensation(of=hotel, retry=patience, needs=needs)
        def free_hotel(booked: HotelBooked, tx: Transaction) -> HotelFreed:
            note(tx, "hotel", "compensation")
            script.reach("free_hotel", booked.trip)
            return HotelFreed(trip=booked.trip)

    @hotels.evolve(HotelBooked, HotelFull, HotelFreed)
    def hotel_again(told: HotelBooked | HotelFull | HotelFreed, tx: Transaction) -> None:
        note(tx, "hotel", "compensation" if isinstance(told, HotelFreed) else "action")

    @airline.step(retry=patience)
    async def flight(booked: TripBooked, tx: Transaction) -> FlightBooked | FlightFull | Pending:
        note(tx, "flight", "action")
        if booked.trip in script.waiting:
            return Pending()
        return FlightFull(trip=booked.trip) if script.reach("flight", booked.trip) else FlightBooked(trip=booked.trip)

    @airline.compensation(of=flight, retry=patience)
    def free_flight(booked: FlightBooked | None, tx: Transaction) -> FlightFreed:
        note(tx, "flight", "compensation")
        trip = booked.trip if booked else "never booked"
        script.reach("free_flight", trip)
        return FlightFreed(trip=trip)

    @airline.evolve(FlightBooked, FlightFull)
    def flight_again(told: FlightBooked | FlightFull, tx: Transaction) -> None:
        note(tx, "flight", "action")

    @airline.evolve(FlightFreed)
    def freed_again(freed: FlightFreed, booked: FlightBooked | None, tx: Transaction) -> None:
        if booked is None:  # it was still waiting for the world
            note(tx, "flight", "action")
        note(tx, "flight", "compensation")

    @bank.evolve(TripPaid, TripDeclined, batch=True)
    def charged_again(told: list[TripPaid | TripDeclined], tx: Transaction) -> None:
        rows = ", ".join(f"('{id}', 'pay', 'action', '')" for id, _ in zip(tx.workflow_ids, told, strict=True))
        tx.execute(f"INSERT INTO effects VALUES {rows}")

    def charge(trip: str, tx: Transaction) -> TripPaid | TripDeclined:
        note(tx, "pay", "action")
        return TripDeclined(trip=trip) if script.reach("pay", trip) else TripPaid(trip=trip)

    if 1 in versions:

        @bank.step(retry=patience, versions=[1])
        def pay(hotel: HotelBooked, flight: FlightBooked, tx: Transaction) -> TripPaid | TripDeclined:
            return charge(hotel.trip, tx)

    if 2 in versions:

        @airline.step(versions=[2])
        def insure(booked: TripBooked, tx: Transaction) -> TripInsured:
            note(tx, "insure", "action")
            return TripInsured(trip=booked.trip)

        @airline.evolve(TripInsured)
        def insured_again(told: TripInsured, tx: Transaction) -> None:
            note(tx, "insure", "action")

        @bank.step(step="pay", retry=patience, versions=[2])
        def pay_insured(
            hotel: HotelBooked, flight: FlightBooked, insurance: TripInsured | None, tx: Transaction
        ) -> TripPaid | TripDeclined:
            return charge(hotel.trip, tx)

    return [agency, hotels, airline, bank]


def harness(script: Script, *, partitions: int = 2, hold: float = 0.0, vectorised: bool = False, **options: Any) -> Harness:
    """The fleet in one thread, with its tables of effects; `options` are those of `fleet`, and some of `Harness`."""
    chance: Callable[[], float] = options.pop("chance", lambda: 0.5)
    tracer: Tracer | None = options.pop("tracer", None)
    keep: timedelta | None = options.pop("keep_workflows", None)
    crew = vectorise(fleet(script, **options)) if vectorised else fleet(script, **options)
    running = Harness(*crew, partitions=partitions, chance=chance, hold=hold, tracer=tracer, keep_workflows=keep)
    for name in running.stores:
        with running.transaction(name) as tx:
            tx.execute(CREATE_EFFECTS)
    return running


def effects(running: Harness) -> list[tuple[str, str, str]]:
    """All effects in all stores: (workflow, step, act), sorted."""
    found = []
    for name in running.stores:
        with running.transaction(name) as tx:
            found += [tuple(row) for row in tx.execute("SELECT workflow, step, act FROM effects").fetchall()]
    return sorted(found)


def come_again(running: Harness) -> None:
    """Everything that was ever stated is on its topic once more, behind all that is there, and is read."""
    repeat(running)
    running.settle()


def repeat(running: Harness) -> None:
    """Everything that was ever stated is on its topic once more, behind all that is there."""
    for log in running.facts():
        log += [record._replace(offset=len(log) + number) for number, record in enumerate([*log])]


def simulation(*, external: bool = False, on_stuck: str = "wait", vectorised: bool = False, **options: Any) -> Simulation:
    """The fleet to be simulated; `options` are those of `Simulation`."""

    def prepare(_: str, tx: Transaction) -> None:
        tx.execute(CREATE_EFFECTS)

    participants = fleet(Script(), external=external, on_stuck=on_stuck)
    participants = vectorise(participants) if vectorised else participants
    return Simulation(participants, begin=lambda number: TripBooked(trip=f"trip {number}"), prepare=prepare, **options)
