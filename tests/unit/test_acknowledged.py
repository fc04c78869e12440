"""Acknowledgments add up to one set of offsets, however often and in whatever order they come."""

from __future__ import annotations

import random

import pytest

from saga.contracts.acknowledged import Acknowledged, Acknowledgments, Reason, Spans, without

EVENTS = "travel.events"
PARKED, DUPLICATE = Reason.PARKED, Reason.DUPLICATE


def ack(begin: int, end: int, *exceptions: tuple[int, Reason], participant: str = "bank") -> Acknowledged:
    return Acknowledged(participant, EVENTS, begin, end, None, exceptions)


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_the_set_of_offsets_that_were_added(seed: int) -> None:
    dice, spans, offsets = random.Random(seed), Spans(), set[int]()

    for _ in range(30):
        begin = dice.randrange(60)
        end = begin + dice.randrange(8)
        spans.add(begin, end)
        offsets.update(range(begin, end))

    assert {offset for offset in range(80) if offset in spans} == offsets
    assert spans.unbroken == min({*range(81)} - offsets)
    assert {offset for begin, end in spans.gaps() for offset in range(begin, end)} == set(range(spans.end)) - offsets
    assert all(before[1] < behind[0] for before, behind in zip(spans.spans, spans.spans[1:], strict=False))


def test_a_span_is_cut_where_offsets_are_left_out() -> None:
    assert [*without(0, 6, {0, 3, 5, 9})] == [(1, 3), (4, 5)]


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_and_repeated_the_same_records_say_the_same(seed: int) -> None:
    dice = random.Random(seed)
    records = [ack(0, 4, (2, PARKED)), ack(4, 9, (5, DUPLICATE), (7, PARKED)), ack(2, 3), ack(12, 13)]
    told = Acknowledgments()

    for record in dice.sample(records * 2, 8):
        told.take(record)

    taken = told.of("bank", EVENTS)
    assert taken.spans.spans == [(0, 7), (8, 9), (12, 13)]
    assert taken.parked == {7}


def test_taking_a_record_does_not_look_through_all_that_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    told, looked_up = Acknowledgments(), list[int]()
    told.take(ack(0, 5000, *((offset, PARKED) for offset in range(5000))))
    known = Spans.__contains__

    def contains(spans: Spans, offset: int) -> bool:
        looked_up.append(offset)
        return known(spans, offset)

    monkeypatch.setattr(Spans, "__contains__", contains)

    told.take(ack(7, 8))
    told.take(ack(5000, 5002, (5001, PARKED)))

    assert told.of("bank", EVENTS).parked == {*range(5000), 5001} - {7}
    assert looked_up == [5001]


def test_an_event_is_missing_to_those_of_its_audience_that_have_not_acknowledged_it() -> None:
    told = Acknowledgments()
    told.take(ack(0, 9, (4, PARKED)))
    told.take(ack(0, 3, participant="hotels"))

    assert told.missing(["bank"], EVENTS, 3) == []
    assert told.missing(["bank", "hotels", "airline"], EVENTS, 4) == ["bank", "hotels", "airline"]
    assert told.missing(["hotels", "bank"], EVENTS, 3) == ["hotels"]
    assert told.end(["hotels", "bank"], EVENTS) == 3
    assert [told.unbroken(audience, EVENTS) for audience in (["bank"], ["hotels", "bank"], ["airline"])] == [4, 3, 0]


def test_what_was_told_survives_as_json() -> None:
    told = Acknowledgments()
    told.take(ack(0, 9, (4, PARKED)))

    again = Acknowledgments(told.json())

    assert told.json() == {"bank": {EVENTS: {"spans": [(0, 4), (5, 9)], "parked": [4]}}}
    assert again.json() == told.json()


def test_a_record_is_what_was_written() -> None:
    record = ack(3, 9, (4, PARKED), (5, DUPLICATE))

    assert Acknowledged.of(record.fields()) == record
