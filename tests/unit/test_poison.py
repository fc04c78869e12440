"""Bytes that nobody can read: their fact is taken in by its headers, their handler waits with the bytes, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pydantic import field_validator

from saga import Event, Participant, Retry, Transaction
from saga.errors import DefinitionError, EventTooLarge, UnknownSchema
from saga.participant import operator
from saga.protocol.facts import StepStatus
from saga.store.workflow import Fence
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.travel import CREATE_EFFECTS, FlightBooked, Script, TripBooked, TripDeclined, TripPaid, effects, fleet, harness, saga

EVENTS = Partition("travel.events", 0)
Travel = Callable[..., Harness]
COUNT_OF_MANY = b"\x80\x80\x80\x80\x80\x80\x80\x80\x40"


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets of one lane that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **{"partitions": 1, **options}))


def poisoned(running: Harness, spoil: Callable[[bytes], bytes | None]) -> bytes:
    """Start the workflow w1 with bytes spoilt on their way, and one more; answers what the first came to."""
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.turn("agency")
    log = running.broker.logs[EVENTS]
    log[0] = log[0]._replace(value=spoil(log[0].value or b""))
    good = running.start(TripBooked(trip="good"))
    running.settle()
    assert running.steps(good)["confirm"] is StepStatus.DONE
    assert not running.stopped()
    return log[0].value or b""


def hotel(running: Harness) -> Fence:
    workflow = running.workflow("hotels", "w1")
    assert workflow is not None
    return workflow.fences["hotel"]


SPOILT: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "a tombstone": (lambda value: None, "begins with nothing"),
    "nothing": (lambda value: b"", "begins with nothing"),
    "no Avro": (lambda value: b"{}", "begins with 7b7d"),
    "another magic byte": (lambda value: b"\1" + value[1:], "expected 00 and the schema id"),
    "an unknown schema": (lambda value: b"\0\0\0\0\1" + value[5:], "or ask the registry that gave the id"),
    "cut off": (lambda value: value[:-1], "cannot be read"),
    "more than the event": (lambda value: value + b"x", "1 bytes are left over"),
    "a length of many": (lambda value: value[:5] + COUNT_OF_MANY, "cannot be read"),
    "too large": (lambda value: value + b"x" * 900_000, "at most 900000 are decoded"),
}


@pytest.mark.parametrize(("spoil", "why"), SPOILT.values(), ids=SPOILT)
def test_an_event_that_cannot_be_read_is_known_and_its_handler_waits_with_the_bytes(
    travel: Travel, spoil: Callable[[bytes], bytes | None], why: str
) -> None:
    running = travel(Script())

    payload = poisoned(running, spoil)

    fence, workflow = hotel(running), running.workflow("hotels", "w1")
    assert operator.is_parked(fence)
    assert fence.due is None
    assert why in (fence.error or "")
    assert workflow is not None
    assert [received.payload for received in workflow.inbox.values()] == [payload]
    assert ("w1", "hotel", "action") not in effects(running)


def test_a_poisoned_workflow_still_hears_of_an_abort(travel: Travel) -> None:
    running = travel(Script())
    poisoned(running, lambda value: b"")

    running.abort("w1", by="agency")
    running.settle()

    assert hotel(running).status is StepStatus.SKIPPED
    assert running.steps("w1")["book"] is StepStatus.COMPENSATED


class Room(Event, name="HotelBooked"):
    """A view with a validator that is not careful about what it raises."""

    trip: str

    @field_validator("trip")
    @classmethod
    def must_be_somewhere(cls, trip: str) -> str:
        return str([][int(trip)])


def test_a_view_that_raises_anything_parks_its_workflow_and_not_the_lane() -> None:
    travel = saga()
    bank = Participant("bank", travel)

    @bank.step
    def pay(hotel: Room, flight: FlightBooked, tx: Transaction) -> TripPaid | TripDeclined:
        return TripPaid(trip=hotel.trip)

    others = [participant for participant in fleet(Script()) if participant.name != "bank"]
    with Harness(*others, bank, partitions=1) as running:
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        running.start(TripBooked(trip="1"), workflow_id="w1")
        running.settle()

        workflow = running.workflow("bank", "w1")
        assert workflow is not None
        assert "its input travel.HotelBooked is unreadable: list index out of range" in (workflow.fences["pay"].error or "")
        assert not running.stopped()


def test_a_schema_that_the_registry_does_not_know_yet_is_tried_again(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    running = travel(Script())
    codec = running.participants["hotels"].versions.codec(1)
    decode = codec.decode

    def unknown(name: str, payload: bytes) -> dict[str, object]:
        raise UnknownSchema("schema 9 is not here yet")

    monkeypatch.setattr(codec, "decode", unknown)
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.settle()
    waiting = hotel(running)
    monkeypatch.setattr(codec, "decode", decode)
    running.advance(120)

    assert waiting.due is not None
    assert "schema 9 is not here yet" in (waiting.error or "")
    assert running.steps("w1")["confirm"] is StepStatus.DONE


def test_a_schema_that_never_comes_fails_no_step_whatever_the_schema_says_of_errors(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = travel(Script(), on_error="fail", retry=Retry(attempts=2, quick=1))

    def unknown(name: str, payload: bytes) -> dict[str, object]:
        raise UnknownSchema("schema 9 is nowhere")

    monkeypatch.setattr(running.participants["hotels"].versions.codec(1), "decode", unknown)
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.settle()

    found = hotel(running)
    assert (found.status, found.attempt, found.due) == (StepStatus.IDLE, 2, None)
    assert "schema 9 is nowhere" in (found.error or "")


def test_the_bound_on_events_is_the_participants_to_set(travel: Travel) -> None:
    running = travel(Script())
    running.participants["hotels"].limit(8)
    running.start(TripBooked(trip="a long way from here"), workflow_id="w1")
    running.settle()

    assert "at most 8 are decoded" in (hotel(running).error or "")
    running.participants["agency"].limit(20)
    with pytest.raises(EventTooLarge, match=r"the limit is 20.*raise SAGA_MAX_EVENT_BYTES"):
        running.start(TripBooked(trip="a long way from here"))
    with pytest.raises(DefinitionError, match="expected at least 1"):
        Participant("hotels", saga(), max_event_bytes=0)
