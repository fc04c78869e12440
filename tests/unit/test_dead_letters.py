"""Records that cannot be taken in are kept, and their lane goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga import Retry
from saga.contracts.message import Message
from saga.contracts.topics import lane_of
from saga.errors import DefinitionError
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Reason
from saga.testing.harness import Harness
from saga.transport.kafka_settings import MIN_RECORD_BYTES
from saga.transport.port import Outbound, Partition, Record
from tests.travel import Script, TripBooked, effects, fleet, harness

Travel = Callable[..., Harness]
EVENTS, COMPENSATIONS = Partition("travel.events", 0), Partition("travel.compensations", 0)
RawHeaders = list[tuple[str, bytes | None]]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets of one lane that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **{"partitions": 1, **options}))


def append(running: Harness, record: Record, partition: Partition = EVENTS) -> Record:
    """The record as it stands at the end of its partition."""
    log = running.broker.logs[partition]
    log.append(record._replace(topic=partition.topic, partition=partition.number, offset=len(log)))
    return log[-1]


def booked(running: Harness, workflow_id: str = "w1", /, **changed: bytes | None) -> Record:
    """The record with which a trip begins, its headers changed as said and left out where that is None; not on the topic."""
    running.start(TripBooked(trip="rome"), workflow_id=workflow_id)
    running.turn("agency")
    record = running.broker.logs[EVENTS].pop()
    kept = {**dict(record.headers), **changed}
    return record._replace(headers=[(name, value) for name, value in kept.items() if name not in changed or value is not None])


def letters(running: Harness, name: str = "hotels", **wanted: Any) -> list[DeadLetter]:
    with running.stores[name].unit() as unit:
        return unit.letters(LetterSearch(**wanted), 1000)


def requeue(running: Harness, name: str = "hotels") -> None:
    with running.stores[name].unit() as unit:
        waiting = unit.letters(LetterSearch(state=LetterState.WAITING), 1000)
        unit.settle(waiting, LetterState.REQUEUED, running.clock.now(), by="ann", note=None)


def goes_on(running: Harness) -> None:
    """A workflow that comes behind completes, and no lane has stopped."""
    good = running.start(TripBooked(trip="behind"))
    running.settle()
    assert running.steps(good)["confirm"] is StepStatus.DONE
    assert not running.stopped()
    assert all(not owned.at_rest for loop in running.loops.values() for owned in loop.lanes.owned.values())


NONSENSE: dict[str, dict[str, bytes | None]] = {
    "a header is missing": {"ce_type": None},
    "no workflow is named": {"ce_subject": None},
    "the workflow has no name": {"ce_subject": b""},
    "a name that no database indexes": {"ce_subject": b"w" * 5000},
    "a name with a NUL": {"ce_id": b"w\x00"},
    "a NUL where it is optional": {"traceparent": b"\x00"},
    "no UTF-8": {"ce_id": b"\xff\xfe"},
    "a version that is no number": {"ce_sagaversion": b"one"},
    "a version beyond all columns": {"ce_sagaversion": b"9" * 40},
    "more digits than Python reads": {"ce_sequence": b"9" * 5000},
    "a sequence below one": {"ce_sequence": b"-1"},
    "an unknown status": {"ce_status": b"perhaps"},
    "no moment": {"ce_time": b"yesterday"},
    "a moment outside of the calendar": {"ce_deadline": b"9999-12-31T23:59:59-10:00"},
    "a moment for which other zones have no name": {"ce_deadline": b"9999-12-31T23:59:59Z"},
    "a moment at the beginning of the calendar": {"ce_deadline": b"0001-01-01T00:00:00Z"},
    "a moment without offset": {"ce_time": b"2026-03-01T12:00:00"},
    "a fact of no step": {"ce_step": b""},
    "a step done with the event of another": {"ce_type": b"travel.HotelBooked"},
}


@pytest.mark.parametrize("changed", NONSENSE.values(), ids=NONSENSE)
def test_a_record_whose_headers_make_no_sense_is_kept_whole_and_its_lane_goes_on(
    travel: Travel, changed: dict[str, bytes | None]
) -> None:
    running = travel(Script())
    record = append(running, booked(running, **changed))

    goes_on(running)

    [letter] = letters(running)
    assert letter.place == ("travel", *record[:3])
    assert (letter.key, letter.value, letter.headers) == (record.key, record.value, tuple(record.headers))
    assert (letter.reason, letter.state, letter.recorded) == (Reason.HEADERS, LetterState.WAITING, running.clock.now())
    assert running.workflow("hotels", "w1") is None


def test_the_log_says_in_whole_sentences_what_a_record_lacks(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    running = travel(Script())
    append(running, booked(running, ce_type=None))

    goes_on(running)

    told = [record.getMessage() for record in caplog.records if record.name == "saga.intake"]
    assert told
    assert all(text.endswith("must write CloudEvents binary mode headers. See: saga dead-letters list") for text in told)


def test_a_record_that_is_no_event_at_all_is_kept(travel: Travel) -> None:
    running = travel(Script())
    append(running, Record("", 0, 0, None, None))
    append(running, Record("", 0, 0, b"", b"", [("trace", None)]), COMPENSATIONS)

    goes_on(running)

    found = letters(running)
    assert [(letter.key, letter.value, letter.headers) for letter in found] == [
        (b"", b"", (("trace", None),)),
        (None, None, ()),
    ]
    assert "has no header 'ce_type'; found trace" in found[0].error


@pytest.mark.parametrize("name", ["traceparent", "tracestate"])
def test_a_trace_too_long_for_a_record_is_not_carried_on_and_what_comes_of_the_event_is_published(
    travel: Travel, name: str
) -> None:
    running = travel(Script())
    append(running, booked(running, **{name: b"x" * MIN_RECORD_BYTES}))
    running.broker.fault = lambda record: "too large" if _size(record) > MIN_RECORD_BYTES else None

    goes_on(running)

    assert running.steps("w1")["confirm"] is StepStatus.DONE
    assert letters(running) == []


def _size(record: Outbound) -> int:
    return len(record.value or b"") + sum(len(name) + len(text or "") for name, text in record.headers)


def test_every_participant_keeps_it_in_its_own_database(travel: Travel) -> None:
    running = travel(Script())
    append(running, Record("", 0, 0, b"k", b"v"))

    running.settle()

    assert [len(letters(running, name)) for name in running.stores] == [1, 1, 1, 1]
    assert [loop.processor.intake.counts.dead for loop in running.loops.values()] == [1, 1, 1, 1]


def test_a_record_read_again_after_a_crash_is_kept_once(travel: Travel) -> None:
    running = travel(Script())
    append(running, Record("", 0, 0, b"k", b"v"))
    running.settle()

    running.crash("hotels")
    running.settle()

    assert len(letters(running)) == 1


@pytest.mark.parametrize("key", [None, b"", b"another", b"\xff"], ids=["none", "empty", "of another", "not text"])
def test_a_record_with_a_key_that_is_not_its_workflow_is_kept(travel: Travel, key: bytes | None) -> None:
    running = travel(Script())
    append(running, booked(running)._replace(key=key))

    goes_on(running)

    [letter] = letters(running)
    assert (letter.reason, letter.key, letter.workflow_id) == (Reason.KEY, key, "w1")
    assert f"its key is {key!r}, its ce_subject 'w1'" in letter.error


def test_a_record_in_another_partition_than_its_key_says_is_kept(travel: Travel) -> None:
    running = travel(Script(), partitions=2)
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.turn("agency")
    mine = lane_of("w1", 2)
    record = running.broker.logs[Partition("travel.events", mine)].pop()
    append(running, record, Partition("travel.events", 1 - mine))

    goes_on(running)

    [letter] = letters(running)
    assert letter.reason is Reason.LANE
    assert f"its key belongs to partition {mine} of 2" in letter.error
    assert running.workflow("hotels", "w1") is None


def test_a_record_of_another_saga_is_kept(travel: Travel) -> None:
    running = travel(Script())
    append(running, booked(running, ce_saga=b"checkout"))

    goes_on(running)

    [letter] = letters(running)
    assert (letter.reason, letter.error) == (Reason.FOREIGN, "it is of saga 'checkout', on a topic of 'travel'")


def test_a_header_that_contradicts_itself_is_refused_and_one_said_twice_is_not(travel: Travel) -> None:
    running = travel(Script())
    twice, contradicting = booked(running, "w1"), booked(running, "w2")
    append(running, twice._replace(headers=[*twice.headers, twice.headers[0], ("trace", b"1"), ("trace", b"2")]))
    append(running, contradicting._replace(headers=[*contradicting.headers, ("ce_subject", b"w3")]))

    goes_on(running)

    [letter] = letters(running)
    assert "ce_subject is there twice, as b'w2' and as b'w3'" in letter.error
    assert running.steps("w1")["confirm"] is StepStatus.DONE


@pytest.mark.parametrize("workflow_id", ["w" * 513, "w\0", "w\ud800"])
def test_a_workflow_with_a_name_that_others_would_keep_as_a_dead_letter_is_not_started(
    travel: Travel, workflow_id: str
) -> None:
    running = travel(Script())

    with pytest.raises(DefinitionError, match="expected 1 to 512 without NUL"):
        running.start(TripBooked(trip="rome"), workflow_id=workflow_id)


# --- an unknown version


def test_events_of_an_unknown_version_wait_and_are_taken_in_once_it_is_known(travel: Travel) -> None:
    running = travel(Script())
    for workflow_id in ("w1", "w2"):
        append(running, booked(running, workflow_id, ce_sagaversion=b"2"))
    running.settle()
    queued = letters(running)
    assert [(one.reason, one.workflow_id, one.version) for one in queued] == [
        (Reason.UNKNOWN_VERSION, "w1", 2), (Reason.UNKNOWN_VERSION, "w2", 2),
    ]  # fmt: skip

    deploy(running, Script())

    assert letters(running) == []
    assert effects(running) == [("w1", "hotel", "action"), ("w2", "hotel", "action")]
    assert not running.stopped()


def deploy(running: Harness, script: Script, **options: Any) -> None:
    """Replace the hotels by ones that know the second version as well."""
    [hotels] = [one for one in fleet(script, versions=(1, 2), **options) if one.name == "hotels"]
    hotels.clock = running.clock
    running.participants["hotels"] = hotels
    running.crash("hotels")
    running.settle()


def test_events_of_an_unknown_version_come_before_what_is_new(travel: Travel) -> None:
    running = travel(Script())
    first = append(running, booked(running, "w1", ce_sagaversion=b"2"))
    running.settle()
    running.crash("hotels")
    append(running, booked(running, "w2"))

    deploy(running, Script())

    with running.transaction("hotels") as tx:
        assert [row[0] for row in tx.execute("SELECT workflow FROM effects ORDER BY rowid").fetchall()] == ["w1", "w2"]
    assert first.offset == 0


def test_thousands_of_events_that_waited_for_a_version_leave_their_thread_time_to_turn(travel: Travel) -> None:
    script = Script()
    running = travel(script, external=True)
    for number in range(4):
        append(running, booked(running, f"w{number}", ce_sagaversion=b"2"))
    running.settle()
    script.meanwhile = lambda: running.clock.advance(100)
    running.participants["hotels"] = next(p for p in fleet(script, versions=(1, 2), external=True) if p.name == "hotels")
    running.crash("hotels")
    running.loops["hotels"].processor.batch = 1

    running.turn("hotels")
    after_a_turn = len(letters(running))
    running.settle()

    assert after_a_turn == 2  # one when the lane began, and one when it was time to look
    assert letters(running) == []
    assert len(script.calls) == 4


def test_a_record_that_says_another_version_than_its_workflow_runs_in_is_kept(travel: Travel) -> None:
    running = travel(Script(), versions=(1, 2))
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.settle()
    taken = next(record for record in running.broker.logs[EVENTS] if record.key == b"w1")
    headers = {**dict(taken.headers), "ce_sagaversion": b"1", "ce_id": b"another"}
    append(running, taken._replace(headers=list(headers.items())))

    running.settle()

    [letter] = letters(running)
    assert (letter.reason, letter.workflow_id, letter.version) == (Reason.CONTRADICTION, "w1", 1)
    assert "it says version 1 and gates '' of its workflow, which runs in 2 and ''" in letter.error


def test_two_records_of_one_batch_that_contradict_each_other_are_told_apart(travel: Travel) -> None:
    running = travel(Script(), versions=(1, 2))
    first = booked(running, "w1")
    append(running, first)
    headers = {**dict(first.headers), "ce_sagaversion": b"1", "ce_id": b"another"}
    append(running, first._replace(headers=list(headers.items())))

    running.settle()

    assert [(letter.reason, letter.version) for letter in letters(running)] == [(Reason.CONTRADICTION, 1)]
    assert running.steps("w1")["confirm"] is StepStatus.DONE


# --- requeued


def test_a_requeued_record_that_makes_sense_by_now_is_taken_in_and_forgotten_but_for_a_line_in_the_log(
    travel: Travel, caplog: pytest.LogCaptureFixture
) -> None:
    running = travel(Script())
    append(running, booked(running, ce_saga=b"travels"))
    running.settle()
    [letter] = letters(running)
    mended = tuple((n, b"travel" if n == "ce_saga" else v) for n, v in letter.headers)
    with running.stores["hotels"].unit() as unit:
        unit.exhume([letter.place])
        unit.bury([DeadLetter(**{f: getattr(letter, f) for f in letter.__slots__} | {"headers": mended})])

    requeue(running)
    running.advance(1)

    assert letters(running) == []
    assert effects(running) == [("w1", "hotel", "action")]
    told = [record.message for record in caplog.records if record.name == "saga.operator"]
    assert told == [f"dead letter {letter.place} is taken in, requeued by ann"]


def test_a_requeued_record_that_makes_no_sense_still_waits_again_and_says_who_had_it_requeued(travel: Travel) -> None:
    running = travel(Script())
    append(running, Record("", 0, 0, b"k", b"v"))
    running.settle()
    before = letters(running)

    requeue(running)
    decided = running.clock.now()
    running.advance(1)

    assert letters(running) == [replace(one, changed=decided, changed_by="ann") for one in before]
    goes_on(running)


def test_a_requeued_record_moves_no_offset_back(travel: Travel) -> None:
    running = travel(Script())
    append(running, Record("", 0, 0, b"k", b"v"))
    goes_on(running)
    [owned] = running.loops["hotels"].lanes.owned.values()
    before = dict(owned.lane.offsets)

    requeue(running)
    running.advance(1)

    assert owned.lane.offsets == before


def test_a_requeued_record_whose_handler_fails_parks_its_workflow_like_any_other(travel: Travel) -> None:
    running = travel(Script())
    append(running, booked(running, ce_sagaversion=b"2"))
    running.settle()

    deploy(running, Script(raising={("hotel", "rome"): 1}), retry=Retry(attempts=1))

    assert letters(running) == []
    workflow = running.workflow("hotels", "w1")
    assert workflow is not None
    assert "unlucky" in str(workflow.fences["hotel"].error)
    assert workflow.status is WorkflowStatus.IN_PROGRESS


# --- whatever comes


@st.composite
def mangled(draw: st.DrawFn) -> Callable[[Record], Record]:
    """A way to spoil a record."""
    raw = st.none() | st.binary(max_size=40) | st.sampled_from([b"0", b"-1", b"2", b"done", b"abort", b"failed", b"hotel", b""])
    names = ["ce_id", "ce_subject", "ce_type", "ce_source", "ce_saga", "ce_sagaversion", "ce_step", "ce_status", "ce_time",
             "ce_sequence", "ce_attempt", "ce_deadline", "ce_causationid", "traceparent", "tracestate", "Ü"]  # fmt: skip
    changed = draw(st.dictionaries(st.sampled_from(names), raw, max_size=4))
    added = draw(st.lists(st.tuples(st.sampled_from(names), raw), max_size=2))
    key = draw(st.none() | st.just("same") | st.binary(max_size=5))
    value = draw(st.none() | st.just("same") | st.binary(max_size=60))

    def spoil(record: Record) -> Record:
        headers = [*{**dict(record.headers), **changed}.items(), *added]
        return record._replace(
            key=record.key if key == "same" else key,  # type: ignore[arg-type]
            value=record.value if value == "same" else value,  # type: ignore[arg-type]
            headers=headers,
        )

    return spoil


def is_known(running: Harness, name: str, message: Message) -> bool:
    workflow = running.workflow(name, message.workflow_id)
    return workflow is not None and (message.id in workflow.inbox or workflow.closed is not None)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(mangled(), min_size=1, max_size=6))
def test_whatever_is_on_the_topic_every_record_has_its_place_and_the_lane_goes_on(spoil: list[Any]) -> None:
    with harness(Script(), partitions=1) as running:
        for number, spoiled in enumerate(spoil):
            append(running, spoiled(booked(running, f"w{number}")), EVENTS if number % 2 else COMPENSATIONS)

        goes_on(running)

        for name, loop in running.loops.items():
            [owned] = loop.lanes.owned.values()
            logs = {p.topic: running.broker.logs[p] for p in (EVENTS, COMPENSATIONS)}
            offsets = {topic: offset for topic, offset in owned.lane.offsets.items() if topic in logs}
            assert offsets == {topic: len(log) for topic, log in logs.items() if log}
            for record in [record for log in logs.values() for record in log]:
                [incoming] = loop.processor.intake.read(owned.lane, [record], running.clock.now())
                kept = letters(running, name, topic=record.topic, offset=record.offset)
                assert len(kept) == (incoming.letter is not None)
                assert incoming.message is None or is_known(running, name, incoming.message)
