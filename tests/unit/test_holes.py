"""What is missing of a workflow is found and named, workflow by workflow, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from saga.replay.contracts import Contracts
from saga.replay.gathering import histories
from saga.replay.holes import holes, notices
from saga.replay.state import state
from saga.transport.port import Record
from tests.histories import ListSource, history, lived, records
from tests.travel import saga

TRAVEL = Contracts([saga()])


@pytest.fixture(scope="module")
def whole() -> Sequence[Record]:
    with lived() as fleet:
        return records(fleet.broker)


def told(records: Sequence[Record]) -> dict[str, list[str]]:
    return {one.workflow: [hole.text for hole in holes(one, TRAVEL)] for one in histories(ListSource(records), TRAVEL)}


def without(records: Sequence[Record], lost: Callable[[dict[str, bytes | None]], bool]) -> list[Record]:
    return [record for record in records if not lost(dict(record.headers))]


def changed(record: Record, **headers: bytes) -> Record:
    return record._replace(headers=[*{**dict(record.headers), **headers}.items()])


def test_a_whole_history_has_no_holes(whole: Sequence[Record]) -> None:
    assert told(whole) == {"smooth": [], "full": [], "poor": [], "open": []}


def test_a_missing_sequence_number_is_named_with_its_source(whole: Sequence[Record]) -> None:
    left = without(whole, lambda h: (h["ce_subject"], h["ce_source"], h["ce_sequence"]) == (b"poor", b"hotels", b"1"))

    found = told(left)

    assert found.pop("poor")[0] == "event #1 of hotels is missing"
    assert found == {"smooth": [], "full": [], "open": []}


def test_records_that_were_deleted_at_the_beginning_are_found_by_the_sequence_and_the_start(whole: Sequence[Record]) -> None:
    left = without(whole, lambda h: (h["ce_subject"], h["ce_type"]) == (b"smooth", b"travel.TripBooked"))

    found = told(left)["smooth"]

    assert "event #1 of agency is missing" in found
    assert "its first event, TripBooked, is missing" in found
    assert "step hotel is done, but TripBooked, which triggers it, is missing" in found


def test_all_events_of_a_participant_gone_are_found_by_what_they_brought_about(whole: Sequence[Record]) -> None:
    left = without(whole, lambda h: (h["ce_subject"], h["ce_source"]) == (b"smooth", b"airline"))

    assert "step pay is done, but FlightBooked, which triggers it, is missing" in told(left)["smooth"]


def test_a_participant_gone_from_an_unwinding_is_found_by_what_waited_for_its_word(whole: Sequence[Record]) -> None:
    left = without(whole, lambda h: (h["ce_subject"], h["ce_source"]) == (b"poor", b"hotels"))

    assert told(left)["poor"][-2:] == [
        "step pay is failed, but HotelBooked, which triggers it, is missing",
        "step book is undone, but the word of hotel before it is missing",
    ]


def test_a_version_that_is_not_at_hand_is_named(whole: Sequence[Record]) -> None:
    newer = [changed(r, ce_sagaversion=b"7") if r.key == b"poor" else r for r in whole]

    found = told(newer)

    assert found.pop("poor") == ["it is of saga version 7; contracts are at hand of 1"]
    assert found == {"smooth": [], "full": [], "open": []}


def test_records_of_one_workflow_that_differ_in_version_are_believed_in_neither(whole: Sequence[Record]) -> None:
    contracts = Contracts([saga(), saga(version=2)])
    mixed = [changed(r, ce_sagaversion=b"2") if dict(r.headers)["ce_source"] == b"bank" else r for r in whole]

    [hole] = holes(history(mixed, "smooth"), contracts)

    assert hole.text == "its records do not agree on version and gates: version 1 without gates, version 2 without gates"


def test_a_status_of_a_later_library_is_told_and_breaks_nothing(whole: Sequence[Record]) -> None:
    unheard = [
        changed(r, ce_status=b"applauded") if dict(r.headers)["ce_type"] == b"travel.TripConfirmed" else r for r in whole
    ]

    found = told(unheard)

    assert len(found["smooth"]) == 1
    assert "a header that makes no sense: 'applauded' is not a valid FactStatus" in found["smooth"][0]


@pytest.mark.parametrize("number", [b"9" * 5000, b"9" * 30, b"9" * 18], ids=["unreadable", "no number of Kafka's", "absurd"])
def test_a_number_that_counts_no_facts_says_nothing_of_what_is_missing(whole: Sequence[Record], number: bytes) -> None:
    strange = changed(whole[0], ce_sequence=number, ce_id=b"strange")

    found = told([*whole, strange])

    assert not [text for texts in found.values() for text in texts if "missing" in text]


def test_who_speaks_of_a_step_that_is_not_theirs_is_left_out_and_named(whole: Sequence[Record]) -> None:
    [confirmed] = [r for r in whole if dict(r.headers)["ce_type"] == b"travel.TripConfirmed"]
    forged = changed(confirmed, ce_source=b"bank", ce_id=b"forged", ce_sequence=b"2")

    found = history([*whole, forged, confirmed], "smooth")

    assert notices(found, TRAVEL.latest) == [
        "1 record came again and was counted once",
        f"bank speaks of step confirm ({confirmed.topic}/{confirmed.partition}@{confirmed.offset}), "
        "which is not its own: left out",
    ]
    assert holes(found, TRAVEL) == ()


def test_what_is_of_another_saga_is_left_out_and_named_as_participants_do(whole: Sequence[Record]) -> None:
    [confirmed] = [r for r in whole if dict(r.headers)["ce_type"] == b"travel.TripConfirmed"]
    stray = changed(confirmed, ce_saga=b"cruise", ce_sagaversion=b"7", ce_id=b"stray", ce_sequence=b"9")

    found = history([*whole, stray], "smooth")

    assert holes(found, TRAVEL) == ()
    place = f"{confirmed.topic}/{confirmed.partition}@{confirmed.offset}"
    assert notices(found, TRAVEL.latest) == [f"travel.TripConfirmed ({place}) is of saga 'cruise': left out"]
    assert state(TRAVEL, found) == state(TRAVEL, history(whole, "smooth"))
    assert [*histories(ListSource([changed(stray, ce_subject=b"nobody")]), TRAVEL)] == []


@pytest.mark.parametrize("key", [b"smooth", b"", None], ids=["another's", "empty", "none"])
def test_a_record_with_another_key_than_its_workflow_is_left_out_and_named(whole: Sequence[Record], key: bytes | None) -> None:
    [confirmed] = [r for r in whole if dict(r.headers)["ce_type"] == b"travel.TripConfirmed"]
    misled = changed(confirmed, ce_subject=b"open", ce_id=b"misled")._replace(key=key)

    found = history([*whole, misled], "open")

    assert [notice for notice in notices(found, TRAVEL.latest) if "key" in notice] == [
        f"travel.TripConfirmed ({confirmed.topic}/{confirmed.partition}@{confirmed.offset}) has the key {key!r}: left out"
    ]
    assert holes(found, TRAVEL) == ()
    assert state(TRAVEL, found) == state(TRAVEL, history(whole, "open"))
