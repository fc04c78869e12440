"""Recorded histories against the code of today: what is the same passes, what is not is shown where it begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from saga import Participant, Transaction
from saga.participant.handler import Act
from saga.replay import recording
from saga.replay.contracts import Contracts
from saga.replay.history import History
from saga.testing.harness import Harness
from saga.testing.history import check_histories, replay_histories
from tests.histories import history, lived, records
from tests.travel import CREATE_EFFECTS, FlightBooked, HotelBooked, Script, TripBooked, fleet, harness
from tests.travel import saga as travel
from tests.vectorised import vectorise


def tables(tx: Transaction) -> None:
    tx.execute(CREATE_EFFECTS)


def recorded(file: Path, running: Harness, workflows: Iterable[str]) -> Path:
    found = [history(records(running.broker), workflow) for workflow in workflows]
    recording.write(file, "travel", ((one, payloads(one), ()) for one in found))
    return file


def payloads(one: History) -> dict[str, bytes]:
    return {entry.id: entry.record.value or b"" for entry in one.entries.values()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with lived() as running:
        return recorded(tmp_path / "histories.avro", running, ("smooth", "full", "poor", "open"))


def participant(name: str, script: Script | None = None, **options: Any) -> Participant:
    known = Script(failing={("hotel", "full"), ("pay", "poor")}, waiting={"open"})
    return next(one for one in fleet(script or known, **options) if one.name == name)


@pytest.mark.parametrize("name", ["agency", "hotels", "airline", "bank"])
def test_code_that_has_not_changed_does_what_it_did(file: Path, name: str) -> None:
    found = replay_histories(participant(name), file, prepare=tables)

    assert found.differences == []
    assert {*found.same, *found.left_out} == {"smooth", "full", "poor", "open"}
    assert all(reason == f"{name} had no part in it" for reason in found.left_out.values())


@pytest.mark.parametrize("name", ["agency", "hotels", "bank"])
def test_a_step_that_was_vectorised_since_does_what_it_did(file: Path, name: str) -> None:
    [vectorised] = vectorise([participant(name)])

    assert check_histories(vectorised, file, prepare=tables).same


def test_it_does_not_matter_when_it_was_recorded(tmp_path: Path) -> None:
    with lived(began=datetime(2026, 3, 1, tzinfo=UTC)) as running:
        file = recorded(tmp_path / "long-ago.avro", running, ("smooth", "poor"))

    assert check_histories(participant("hotels"), file, prepare=tables).same == ["smooth", "poor"]


def test_a_handler_that_decides_otherwise_is_shown_with_what_it_said_then(file: Path) -> None:
    strict = participant("hotels", Script(failing={("hotel", "full"), ("hotel", "smooth")}))

    with pytest.raises(AssertionError) as raised:
        check_histories(strict, file, prepare=tables)

    assert str(raised.value) == (
        "1 of 4 recorded workflows go another way in 'hotels' now. The first: workflow smooth, step hotel:\n"
        "  recorded: done with HotelBooked\n"
        "  now:      failed with HotelFull"
    )


def test_an_event_with_another_field_is_shown_field_by_field_unless_it_is_ignored(file: Path) -> None:
    hotels = participant("hotels")
    key = (1, "hotel", Act.ACTION)

    def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked:
        return HotelBooked(trip=booked.trip, room="13")

    hotels.handlers[key] = replace(hotels.handlers[key], function=hotel)

    found = replay_histories(hotels, file, prepare=tables)
    ignoring = replay_histories(hotels, file, prepare=tables, ignore=["room"])

    first = found.differences[0]
    assert str(first) == (
        "workflow smooth, step hotel:\n  recorded: done with HotelBooked\n  now:      done with HotelBooked\n"
        "    room: recorded '12', now '13'"
    )
    assert [one.workflow for one in ignoring.differences] == ["full"]


def test_a_handler_that_raises_says_nothing_and_its_error_is_shown(file: Path) -> None:
    broken = participant("bank", Script(raising={("pay", "smooth"): 100}, failing={("pay", "poor")}))

    [difference] = replay_histories(broken, file, prepare=tables).differences

    assert (difference.workflow, difference.recorded) == ("smooth", "done with TripPaid")
    assert difference.now == "nothing; RuntimeError: pay is unlucky with smooth"


def test_what_the_world_answered_is_answered_from_the_recording_and_the_world_is_not_called(tmp_path: Path) -> None:
    script = Script(failing={("hotel", "full"), ("pay", "poor")})
    with harness(script, external=True) as running:
        for trip in ("smooth", "full", "poor"):
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.settle()
        file = recorded(tmp_path / "external.avro", running, ("smooth", "full", "poor"))
    now = Script()

    found = check_histories(participant("hotels", now, external=True), file, prepare=tables)

    assert found.same == ["smooth", "full", "poor"]
    assert now.calls == {}


def test_an_answer_that_came_later_and_a_wish_to_unwind_are_stated_as_they_were(tmp_path: Path) -> None:
    with harness(Script(waiting={"answered", "aborted"})) as running:
        for trip in ("answered", "aborted"):
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.settle()
        running.abort("aborted", by="agency", reason="the customer left")
        with running.transaction("airline") as tx:
            running.participants["airline"].resolve("answered", "flight", FlightBooked(trip="answered"), tx)
        running.settle()
        file = recorded(tmp_path / "waiting.avro", running, ("answered", "aborted"))

    airline = check_histories(participant("airline", Script(waiting={"answered", "aborted"})), file, prepare=tables)
    agency = check_histories(participant("agency"), file, prepare=tables)

    assert airline.same == agency.same == ["answered", "aborted"]


def test_an_abort_that_overtook_its_trigger_is_met_in_that_order_again(tmp_path: Path) -> None:
    with harness(Script()) as running:
        running.start(TripBooked(trip="rome"), workflow_id="rome")
        running.turn("agency")
        running.turn("airline")
        running.abort("rome", by="airline", reason="a storm")
        running.settle()
        file = recorded(tmp_path / "abort.avro", running, ["rome"])
        skipped = running.steps("rome")

    for name in ("agency", "hotels", "airline", "bank"):
        assert replay_histories(participant(name), file, prepare=tables).differences == [], (name, skipped)


def test_a_workflow_that_is_not_whole_is_left_out_and_none_left_is_a_failure(tmp_path: Path) -> None:
    with lived() as running:
        some = [one for one in records(running.broker) if b"travel.TripBooked" not in dict(one.headers).values()]
        found = history(some, "smooth")
    recording.write(tmp_path / "torn.avro", "travel", [(found, payloads(found), ())])

    with pytest.raises(
        AssertionError, match="holds no workflow that 'bank' can live through again: smooth: event #1 of agency"
    ):
        check_histories(participant("bank"), tmp_path / "torn.avro", prepare=tables)


def test_a_sample_is_the_same_each_time() -> None:
    with lived() as running:
        found = [history(records(running.broker), trip) for trip in ("smooth", "full", "poor", "open")]

    chosen = [one.workflow for one in recording.sample(found, 2)]

    assert len(chosen) == 2
    assert [one.workflow for one in recording.sample(reversed(found), 2)] == chosen


def test_a_recording_tells_the_same_as_the_topics(file: Path) -> None:
    from saga.replay.gathering import histories
    from saga.replay.state import state

    contracts = Contracts([travel()])
    with lived() as running:
        live = {trip: state(contracts, history(records(running.broker), trip)) for trip in ("smooth", "full", "poor", "open")}

    read = {h.workflow: state(contracts, h) for h in histories(recording.RecordingSource(file), contracts)}

    assert read == live
