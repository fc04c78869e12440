"""Vectorised steps: one call for all workflows of a unit of work, and yet each workflow is judged by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from saga import DefinitionError, ExternalCall, Participant, Pending, Retry, TerminalError, Transaction
from saga.participant.fit import misfits
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.workflow import Fence
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.travel import (
    CREATE_EFFECTS,
    Away,
    FlightBooked,
    HotelBooked,
    HotelFreed,
    HotelFull,
    Script,
    TripBooked,
    TripDeclined,
    TripPaid,
    effects,
    fleet,
    note,
    saga,
)

Book = Callable[[list[TripBooked]], Any]
TRIPS = [f"trip {number}" for number in range(5)]


class Hotels(Participant):
    """Books all rooms of a batch as `book` says, and frees them likewise; tells the trips of each call."""

    def __init__(self, book: Book, **options: Any) -> None:
        super().__init__("hotels", saga())
        self.calls: list[list[str]] = []
        self.freed: list[list[str]] = []
        self.ids: list[Sequence[str]] = []
        desk = self.dependency("desk", errors=[Away], minimum_calls=1, pause=5)

        @self.step(batch=True, needs=desk, **options)
        def hotel(booked: list[TripBooked], tx: Transaction) -> list[HotelBooked | HotelFull]:
            assert tx.workflow_id is None
            self.calls.append([one.trip for one in booked])
            self.ids.append(tx.workflow_ids)
            _note_each(tx, "hotel", "action")
            done: list[HotelBooked | HotelFull] = book(booked)
            return done

        @self.compensation(of=hotel, batch=True)
        async def free_hotel(booked: list[HotelBooked], tx: Transaction) -> list[HotelFreed]:
            self.freed.append([one.trip for one in booked])
            _note_each(tx, "hotel", "compensation")
            return [HotelFreed(trip=one.trip) for one in booked]


def _note_each(tx: Transaction, step: str, act: str) -> None:
    ids, tx.workflow_id = tx.workflow_ids, None
    for tx.workflow_id in ids:
        note(tx, step, act)
    tx.workflow_id = None


@contextmanager
def travelling(hotels: Participant, script: Script | None = None) -> Iterator[Harness]:
    """A fleet with these hotels, and a workflow for each trip under way to them in one unit of work."""
    agency, _, airline, bank = fleet(script or Script())
    with Harness(agency, hotels, airline, bank, partitions=1) as running:
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        for trip in TRIPS:
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.settle()
        yield running


def every_room(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
    return [HotelBooked(trip=one.trip) for one in booked]


def unlucky(error: Exception) -> Book:
    """Everybody gets a room, unless the third trip is among them."""

    def book(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        if any(one.trip == "trip 2" for one in booked):
            raise error
        return every_room(booked)

    return book


def hotel_of(running: Harness, trip: str) -> Fence:
    workflow = running.workflow("hotels", trip)
    assert workflow is not None
    return workflow.fences["hotel"]


def ends(running: Harness) -> dict[str, WorkflowStatus | None]:
    found = {trip: running.workflow("agency", trip) for trip in TRIPS}
    return {trip: workflow.status if workflow and workflow.closed else None for trip, workflow in found.items()}


def completed(*but: str) -> dict[str, WorkflowStatus | None]:
    return {trip: None if trip in but else WorkflowStatus.COMPLETED for trip in TRIPS}


# --- the call


def test_all_workflows_of_a_unit_are_one_call_in_the_order_in_which_they_came() -> None:
    hotels = Hotels(every_room)

    with travelling(hotels) as running:
        assert hotels.calls == [TRIPS]
        assert hotels.ids == [TRIPS]
        assert ends(running) == completed()
        assert len([effect for effect in effects(running) if effect[1] == "hotel"]) == len(TRIPS)


def test_each_result_is_that_of_its_own_workflow() -> None:
    def some_full(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        return [HotelFull(trip=one.trip) if one.trip in TRIPS[::2] else HotelBooked(trip=one.trip) for one in booked]

    with travelling(Hotels(some_full)) as running:
        full = {trip for trip in TRIPS if ends(running)[trip] is WorkflowStatus.COMPENSATED}

    assert full == {*TRIPS[::2]}


def test_undoing_is_one_call_too_and_gets_what_was_recorded() -> None:
    hotels = Hotels(every_room)

    with travelling(hotels, Script(failing={("pay", trip) for trip in TRIPS})) as running:
        assert hotels.freed == [TRIPS]
        assert set(ends(running).values()) == {WorkflowStatus.COMPENSATED}


def test_a_join_takes_a_list_for_each_of_its_events() -> None:
    pairs: list[list[tuple[str, str]]] = []
    agency, hotels, airline, _ = fleet(Script())
    bank = Participant("bank", saga())

    @bank.step(batch=True)
    def pay(rooms: list[HotelBooked], seats: list[FlightBooked], tx: Transaction) -> list[TripPaid | TripDeclined]:
        pairs.append([(room.trip, seat.trip) for room, seat in zip(rooms, seats, strict=True)])
        return [TripPaid(trip=room.trip) for room in rooms]

    with Harness(agency, hotels, airline, bank, partitions=1) as running:
        for name in ("agency", "hotels", "airline"):
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        for trip in TRIPS:
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.settle()

        assert pairs == [[(trip, trip) for trip in TRIPS]]
        assert ends(running) == completed()


def test_what_comes_later_in_the_unit_finds_the_result_of_what_came_before() -> None:
    hotels = Hotels(every_room)
    agency, _, airline, bank = fleet(Script())

    with Harness(agency, hotels, airline, bank, partitions=1) as running:
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        for trip in TRIPS:
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.turn("agency")
        running.abort("trip 1", by="agency")
        running.turn("agency")
        running.turn("hotels")
        running.turn("bank")  # which hears of the abort before it could have been paid
        running.settle()

        assert hotels.calls[0] == TRIPS
        assert hotels.freed == [["trip 1"]]
        assert ends(running) == completed("trip 1") | {"trip 1": WorkflowStatus.COMPENSATED}


# --- failures


def test_only_the_workflow_that_cannot_be_done_is_parked_and_its_tries_are_counted() -> None:
    hotels = Hotels(unlucky(RuntimeError("no such trip")), retry=Retry(attempts=9, quick=1))

    with travelling(hotels) as running:
        fence = hotel_of(running, "trip 2")
        rooms = [effect[0] for effect in effects(running) if effect[1] == "hotel"]

        assert ends(running) == completed("trip 2")
        assert (fence.attempt, fence.error) == (2, "RuntimeError: no such trip")
        assert rooms == [trip for trip in TRIPS if trip != "trip 2"]
        assert hotels.calls[0] == TRIPS
        assert hotels.calls.count(["trip 2"]) == 2


def test_what_is_parked_is_tried_again_with_what_is_due_with_it() -> None:
    bad = [True]

    def book(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        return every_room(booked) if not bad[0] else unlucky(RuntimeError("not yet"))(booked)

    hotels = Hotels(book, retry=Retry(quick=0, first=1))
    with travelling(hotels) as running:
        bad[0] = False
        running.advance(60)

        assert hotels.calls[-1] == ["trip 2"]
        assert ends(running) == completed()


def test_what_is_hopeless_fails_its_own_workflow_alone_and_at_once() -> None:
    with travelling(Hotels(unlucky(TerminalError("never")))) as running:
        fence = hotel_of(running, "trip 2")

        assert (fence.attempt, fence.due, fence.error) == (1, None, "TerminalError: never")
        assert ends(running) == completed("trip 2")


def test_a_result_that_is_missing_is_blamed_on_the_workflow_that_has_none() -> None:
    def book(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        return [HotelBooked(trip=one.trip) for one in booked if one.trip != "trip 2"]

    with travelling(Hotels(book)) as running:
        assert ends(running) == completed("trip 2")
        assert hotel_of(running, "trip 2").error == (
            "it returned 0 results for 1 workflow; expected a list with one result for each"
        )


def test_what_is_no_list_is_refused() -> None:
    with travelling(Hotels(lambda booked: HotelBooked(trip=booked[0].trip))) as running:
        assert set(ends(running).values()) == {None}
        assert (hotel_of(running, "trip 0").error or "").startswith("it returned a HotelBooked for 1 workflow")


async def later() -> HotelBooked:
    raise NotImplementedError


FORGOTTEN = later()
FORGOTTEN.close()


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (TripPaid(trip="trip 2"), "it returned a TripPaid; expected an instance of HotelBooked or HotelFull"),
        (FORGOTTEN, "expected an instance of HotelBooked or HotelFull: write `async def`, and `await` what it calls"),
        (HotelBooked.model_construct(trip="\ud800", room="12"), "surrogates not allowed"),
    ],
    ids=["another event", "not awaited", "not to be written"],
)
def test_a_result_that_nobody_could_read_is_blamed_on_its_workflow_alone(result: Any, found: str) -> None:
    def book(booked: list[TripBooked]) -> list[Any]:
        return [result if one.trip == "trip 2" else HotelBooked(trip=one.trip) for one in booked]

    hotels = Hotels(book)
    with travelling(hotels) as running:
        assert ends(running) == completed("trip 2")
        assert found in (hotel_of(running, "trip 2").error or "")
        assert hotels.calls == [TRIPS, TRIPS[:2], ["trip 2"], TRIPS[3:]]


def test_a_dependency_that_is_away_has_all_of_the_call_wait_and_nobody_is_searched_for() -> None:
    away = [True]

    def book(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        if away[0]:
            raise Away("no answer")
        return every_room(booked)

    hotels = Hotels(book)
    with travelling(hotels) as running:
        fences = [hotel_of(running, trip) for trip in TRIPS]
        called = hotels.calls.copy()
        away[0] = False
        running.advance(60)

        assert called == [TRIPS]
        assert {(fence.attempt, fence.error) for fence in fences} == {(0, "waits for desk: Away: no answer")}
        assert all(fence.due is not None for fence in fences)
        assert ends(running) == completed()


def test_who_met_a_dependency_that_is_away_is_known_whatever_comes_behind_it_in_the_unit() -> None:
    away = [False]

    def book(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        if away[0]:
            raise Away("no answer")
        return every_room(booked)

    with travelling(Hotels(book)) as running:
        away[0] = True
        running.start(TripBooked(trip="late"), workflow_id="late")
        running.turn("agency")
        log = running.broker.logs[Partition("travel.events", 0)]
        log.append(log[0]._replace(offset=len(log)))
        running.turn("hotels")

        assert hotel_of(running, "late").error == "waits for desk: Away: no answer"


def test_while_a_breaker_is_open_the_handler_is_not_called() -> None:
    def book(booked: list[TripBooked]) -> list[HotelBooked | HotelFull]:
        raise Away("no answer")

    hotels = Hotels(book)
    with travelling(hotels) as running:
        running.start(TripBooked(trip="late"), workflow_id="late")
        running.settle()

        assert hotels.calls == [TRIPS]
        assert hotel_of(running, "late").error == "waits for desk"


# --- declarations


def test_what_does_not_take_and_return_lists_is_refused() -> None:
    def takes_one(booked: TripBooked, tx: Transaction) -> list[HotelBooked | HotelFull]:
        raise NotImplementedError

    def returns_one(booked: list[TripBooked], tx: Transaction) -> HotelBooked | HotelFull:
        raise NotImplementedError

    def returns_others(booked: list[TripBooked], tx: Transaction) -> list[HotelBooked]:
        raise NotImplementedError

    def waits(booked: list[TripBooked], tx: Transaction) -> list[HotelBooked | HotelFull | Pending]:
        raise NotImplementedError

    for function, found in (
        (takes_one, r"parameter booked: .*TripBooked.*; expected an event class, or a union of them, in a list"),
        (returns_one, r"return annotation .*; expected one event class, or a union of them, in a list"),
        (returns_others, r"expected all of travel.HotelBooked, travel.HotelFull"),
        (waits, r"Pending.*; expected one event class"),
    ):
        hotels = Participant("hotels", saga())
        with pytest.raises(DefinitionError, match=found):
            hotels.step(step="hotel", batch=True)(function)  # type: ignore[type-var]


def test_a_handler_of_lists_that_is_not_declared_as_one_is_refused() -> None:
    def hotel(booked: list[TripBooked], tx: Transaction) -> list[HotelBooked | HotelFull]:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match=r"parameter booked: list\[.*\]; expected an event class"):
        Participant("hotels", saga()).step(hotel)  # type: ignore[type-var]


def test_an_external_step_is_asked_for_each_workflow_by_itself() -> None:
    def hotel(booked: list[TripBooked], call: ExternalCall) -> list[HotelBooked | HotelFull]:
        raise NotImplementedError

    with pytest.raises(DefinitionError, match=r"found batch=True; expected a step that is not external"):
        Participant("hotels", saga(external=True)).step(batch=True)(hotel)


def test_a_vectorised_service_fits_its_contract_or_is_told_where_not() -> None:
    hotels = Hotels(every_room)

    assert misfits(hotels, saga()) == []
    [misfit] = misfits(hotels, saga(external=True))[:1]
    assert "batch=True" in misfit.text


def test_steps_that_wait_keep_their_status_until_then() -> None:
    with travelling(Hotels(unlucky(RuntimeError("no such trip")))) as running:
        assert hotel_of(running, "trip 2").status is StepStatus.IDLE
        assert hotel_of(running, "trip 1").status is StepStatus.DONE
