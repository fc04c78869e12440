"""The checker finds what was planted, each breach by the invariant that it breaks, and nothing in a run that went well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from saga import Saga
from saga.protocol.facts import StepStatus
from saga.replay.contracts import Contracts
from saga.store.outbox import OutboxRow
from saga.store.workflow import Fence
from saga.testing.checker.evidence import Books, Call, Claim, Effect, Evidence
from saga.testing.checker.invariant import Invariant
from saga.testing.checker.judgement import Judgement, judge
from saga.testing.harness import Harness
from saga.transport.port import Partition, Record
from tests.travel import Script, TripBooked, effects, harness

EVENTS, COMPENSATIONS, ACKS = (Partition(f"travel.{topic}", 0) for topic in ("events", "compensations", "acks"))
OWNERS = {"book": "agency", "confirm": "agency", "hotel": "hotels", "flight": "airline", "pay": "bank"}


@pytest.fixture
def fleet() -> Iterator[Harness]:
    """Two trips on one lane: `paid` has completed, `declined` was undone after both bookings."""
    with harness(Script(failing={("pay", "declined")}), partitions=1) as running:
        for trip in ("paid", "declined"):
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.settle()
        yield running


def found_in(fleet: Harness, *, change: Callable[[dict[str, Books]], object] = lambda _: None, **more: object) -> Judgement:
    """What the checker says of the fleet, with `more` evidence."""
    done = [Effect(OWNERS[step], workflow, step, act) for workflow, step, act in effects(fleet)]
    given = {"effects": done, "duplicates": 0, "secrets": ["4111-canary"], **more}
    evidence = Evidence.gather(Contracts([fleet.saga]), fleet.broker, fleet.stores, **given)  # type: ignore[arg-type]
    change(evidence.books)  # type: ignore[arg-type]
    return judge(evidence)


def broken(judgement: Judgement) -> set[Invariant]:
    return {verdict.invariant for verdict in judgement.verdicts if verdict.violations}


def place(fleet: Harness, partition: Partition, workflow: str, event: str) -> int:
    """Where the record of this event stands in its log."""
    log, wanted = fleet.broker.logs[partition], ("ce_type", f"travel.{event}".encode())
    return next(n for n, record in enumerate(log) if wanted in record.headers and record.key == workflow.encode())


def drop(fleet: Harness, partition: Partition, workflow: str, event: str) -> None:
    del fleet.broker.logs[partition][place(fleet, partition, workflow, event)]


def swap(fleet: Harness, partition: Partition, one: tuple[str, str], other: tuple[str, str]) -> None:
    log, a, b = fleet.broker.logs[partition], place(fleet, partition, *one), place(fleet, partition, *other)
    log[a], log[b] = log[b]._replace(offset=log[a].offset), log[a]._replace(offset=log[b].offset)


def with_header(record: Record, name: str, value: str) -> Record:
    return record._replace(headers=[(n, v) for n, v in record.headers if n != name] + [(name, value.encode())])


def test_a_run_that_went_well_is_judged_by_all_that_there_is_evidence_for_and_nothing_is_found(fleet: Harness) -> None:
    judgement = found_in(fleet, calls=[Call("start", "paid", "ok"), Call("start", "never committed", "failed")])

    assert judgement.violations == []
    assert {v.invariant for v in judgement.verdicts if v.why_not} == {Invariant.CONSERVED, Invariant.PROGRESS}
    assert (judgement.workflows, judgement.facts) == (2, 12)
    assert next(v.looked for v in judgement.verdicts if v.invariant is Invariant.REPLAY) == "2 workflows, 8 rows"


def test_an_event_that_got_a_field_in_a_later_version_is_read_by_the_contracts_of_both(fleet: Harness) -> None:
    older = fleet.saga
    added = {"name": "stars", "type": "int", "default": 0}
    events = {name: schema for name, schema in older.types.items() if not name.startswith("saga.")}
    hotel = events["travel.HotelBooked"]
    events["travel.HotelBooked"] = {**hotel, "fields": [*hotel["fields"], added]}
    newer = Saga.of(*events.values(), {**older.own, "saga": {**older.own["saga"], "version": 2}})

    assert judge(Evidence.gather(Contracts([older, newer]), fleet.broker, fleet.stores)).violations == []

    events["travel.HotelBooked"] = {**hotel, "fields": [*hotel["fields"], {"name": "stars", "type": "int"}]}
    broken_off = Saga.of(*events.values(), {**older.own, "saga": {**older.own["saga"], "version": 2}})
    judgement = judge(Evidence.gather(Contracts([older, broken_off]), fleet.broker, fleet.stores))
    assert broken(judgement) == {Invariant.SCHEMA}


def test_what_there_is_no_evidence_for_is_not_said_to_hold(fleet: Harness) -> None:
    topics_alone = Evidence.gather(Contracts([fleet.saga]), fleet.broker, {}, quiet=False)

    verdicts = judge(topics_alone, without=[Invariant.SCHEMA]).verdicts

    judged = {v.invariant for v in verdicts if v.why_not is None}
    assert judged == {Invariant.ONCE, Invariant.ORDER, Invariant.COMPENSATION, Invariant.CAUSALITY}
    assert all(v.looked == "" for v in verdicts if v.why_not)


@pytest.mark.parametrize(
    "call", [Call("start", "ghost", "ok"), Call("start", "paid", "failed"), Call("abort", "paid", "ok")], ids=lambda c: c.verb
)
def test_a_caller_that_was_told_something_else_than_the_topics_say(fleet: Harness, call: Call) -> None:
    assert broken(found_in(fleet, calls=[call])) == {Invariant.STARTED}


def test_a_workflow_that_only_a_store_knows(fleet: Harness) -> None:
    for partition in (EVENTS, COMPENSATIONS):
        log = fleet.broker.logs[partition]
        log[:] = [record for record in log if record.key != b"paid"]

    assert broken(found_in(fleet)) == {Invariant.STARTED}


def test_an_effect_that_happened_twice(fleet: Harness) -> None:
    twice = [Effect("bank", "paid", "pay", "action")] * 2

    assert broken(found_in(fleet, effects=twice)) == {Invariant.ONCE}


def test_an_undoing_of_which_nothing_is_stated(fleet: Harness) -> None:
    assert broken(found_in(fleet, effects=[Effect("hotels", "gone", "hotel", "compensation")])) == set()
    assert broken(found_in(fleet, effects=[Effect("agency", "paid", "nothing", "compensation")])) == {Invariant.ONCE}


def test_an_event_id_that_stands_for_two_facts(fleet: Harness) -> None:
    log = fleet.broker.logs[EVENTS]
    log.append(log[0]._replace(offset=len(log), value=log[1].value))

    assert Invariant.ONCE in broken(found_in(fleet))


def test_a_step_that_is_done_and_failed(fleet: Harness) -> None:
    log = fleet.broker.logs[COMPENSATIONS]
    declined = log[place(fleet, COMPENSATIONS, "declined", "TripDeclined")]
    forged = with_header(with_header(declined, "ce_subject", "paid"), "ce_id", "forged")
    log.append(with_header(forged, "ce_sequence", "2")._replace(key=b"paid", offset=len(log)))

    assert Invariant.ONCE in broken(found_in(fleet))


def test_a_workflow_that_is_still_open_somewhere(fleet: Harness) -> None:
    def reopen(books: dict[str, Books]) -> None:
        books["airline"].workflows["paid"].closed = None

    assert Invariant.ENDED in broken(found_in(fleet, change=reopen))


def test_a_workflow_that_is_parked_for_a_reason_has_ended_and_one_without_has_not(fleet: Harness) -> None:
    script = Script(raising={("pay", "unlucky"): 99})
    with harness(script, partitions=1) as running:
        running.start(TripBooked(trip="unlucky"), workflow_id="unlucky")
        running.settle()

        def forget(books: dict[str, Books]) -> None:
            books["bank"].workflows["unlucky"].fences["pay"].error = ""

        assert broken(found_in(running)) == set()
        assert "1 parked" in next(v.looked for v in found_in(running).verdicts if v.invariant is Invariant.ENDED)
        assert Invariant.ENDED in broken(found_in(running, change=forget))


def test_workflows_that_were_pruned_while_topics_still_hold_their_records_have_not_got_lost() -> None:
    """A segment of a topic outlives its retention: it goes when all of it is old, and another one has begun."""
    with harness(Script(failing={("pay", "declined")}), partitions=1, keep_workflows=timedelta(days=30)) as running:
        for trip in ("paid", "declined"):
            running.start(TripBooked(trip=trip), workflow_id=trip)
        running.settle()
        running.advance(timedelta(days=31).total_seconds())
        running.start(TripBooked(trip="new"), workflow_id="new")
        running.settle()
        judgement = found_in(running)

        assert {running.workflow(name, "paid") for name in running.stores} == {None}
        assert judgement.violations == []
        assert next(v.looked for v in judgement.verdicts if v.invariant is Invariant.ENDED) == "3 workflows, 2 pruned"

        def lose(books: dict[str, Books]) -> None:
            del books["airline"].workflows["new"]

        assert Invariant.ENDED in broken(found_in(running, change=lose))


@pytest.mark.parametrize("failing", [set(), {("flight", "rome")}], ids=["completed", "undone"])
def test_a_step_that_was_adopted_before_its_initiator_adopted_the_workflow_is_no_effect_without_cause(
    failing: set[tuple[str, str]],
) -> None:
    with harness(Script(failing=failing), partitions=1) as running:
        for name, step, event in (("hotels", "hotel", "HotelBooked"), ("agency", "book", "TripBooked")):
            fields = {"trip": "rome", "room": "12"} if step == "hotel" else {"trip": "rome"}
            with running.transaction(name) as tx:
                running.participants[name].adopt("legacy", step, event, fields, tx)
            running.settle()

        assert found_in(running).violations == []
        drop(running, EVENTS, "legacy", "TripBooked")
        assert Invariant.CAUSALITY in broken(found_in(running))


def test_facts_in_another_order_than_they_were_committed(fleet: Harness) -> None:
    swap(fleet, EVENTS, ("paid", "TripBooked"), ("paid", "TripConfirmed"))

    assert Invariant.ORDER in broken(found_in(fleet))


def test_money_that_is_not_conserved_and_others_that_stood_still() -> None:
    with harness(Script(), partitions=1) as running:
        lost = [Claim(i, "it holds", lambda: ["it does not"], "3 accounts") for i in (Invariant.CONSERVED, Invariant.PROGRESS)]
        kept = [Claim(Invariant.CONSERVED, "it holds", list, "3 accounts")]

        assert broken(found_in(running, claims=lost)) == {Invariant.CONSERVED, Invariant.PROGRESS}
        assert (
            next(v for v in found_in(running, claims=kept).verdicts if v.invariant is Invariant.CONSERVED).looked
            == "3 accounts"
        )


def test_more_duplicates_than_allowed(fleet: Harness) -> None:
    log = fleet.broker.logs[EVENTS]
    log.append(log[0]._replace(offset=len(log)))

    assert broken(found_in(fleet)) >= {Invariant.DUPLICATES}
    assert Invariant.DUPLICATES not in broken(found_in(fleet, duplicates=1))


def test_a_fact_that_was_committed_and_is_on_no_topic(fleet: Harness) -> None:
    drop(fleet, EVENTS, "paid", "TripConfirmed")

    assert Invariant.OUTBOX in broken(found_in(fleet))


def test_a_fact_that_was_never_committed(fleet: Harness) -> None:
    def roll_back(books: dict[str, Books]) -> None:
        books["bank"].workflows["paid"].sequence = 0

    assert Invariant.OUTBOX in broken(found_in(fleet, change=roll_back))


def test_somebody_who_speaks_of_a_step_of_others(fleet: Harness) -> None:
    log = fleet.broker.logs[EVENTS]
    at = place(fleet, EVENTS, "paid", "HotelBooked")
    log[at] = with_header(log[at], "ce_source", "airline")

    assert Invariant.OUTBOX in broken(found_in(fleet))


def test_something_that_was_done_and_never_undone(fleet: Harness) -> None:
    drop(fleet, COMPENSATIONS, "declined", "HotelFreed")

    assert Invariant.COMPENSATION in broken(found_in(fleet))


def test_something_that_was_undone_before_what_built_on_it(fleet: Harness) -> None:
    swap(fleet, COMPENSATIONS, ("declined", "HotelFreed"), ("declined", "TripCancelled"))

    assert Invariant.COMPENSATION in broken(found_in(fleet))


def test_something_that_was_undone_behind_a_pivot(fleet: Harness) -> None:
    log = fleet.broker.logs[COMPENSATIONS]
    freed = log[place(fleet, COMPENSATIONS, "declined", "HotelFreed")]
    forged = with_header(with_header(with_header(freed, "ce_subject", "paid"), "ce_id", "forged"), "ce_sequence", "2")
    log.append(forged._replace(key=b"paid", offset=len(log)))

    assert Invariant.COMPENSATION in broken(found_in(fleet))


def test_an_effect_without_its_cause(fleet: Harness) -> None:
    drop(fleet, EVENTS, "declined", "HotelBooked")

    assert Invariant.CAUSALITY in broken(found_in(fleet))


def test_an_effect_before_its_cause(fleet: Harness) -> None:
    swap(fleet, EVENTS, ("declined", "TripBooked"), ("declined", "FlightBooked"))

    assert Invariant.CAUSALITY in broken(found_in(fleet))


def test_two_traces_in_one_workflow(fleet: Harness) -> None:
    log = fleet.broker.logs[EVENTS]
    for event, trace in (("TripBooked", "a" * 32), ("HotelBooked", "b" * 32)):
        at = place(fleet, EVENTS, "paid", event)
        log[at] = with_header(log[at], "traceparent", f"00-{trace}-{'c' * 16}-01")

    assert Invariant.CAUSALITY in broken(found_in(fleet))


def test_a_row_that_the_topics_do_not_make(fleet: Harness) -> None:
    def alter(books: dict[str, Books]) -> None:
        books["hotels"].workflows["paid"].fences["hotel"] = Fence(step="hotel", status=StepStatus.FAILED)

    assert broken(found_in(fleet, change=alter)) == {Invariant.REPLAY}


def test_a_record_that_nobody_can_read(fleet: Harness) -> None:
    log = fleet.broker.logs[EVENTS]
    at = place(fleet, EVENTS, "paid", "TripPaid")
    log[at] = log[at]._replace(value=b"not Avro")

    assert Invariant.SCHEMA in broken(found_in(fleet))


def test_a_secret_in_a_header_in_an_error_and_in_a_log(fleet: Harness) -> None:
    log = fleet.broker.logs[EVENTS]

    def tell(books: dict[str, Books]) -> None:
        books["bank"].workflows["paid"] = replace(books["bank"].workflows["paid"], error="card 4111-canary is expired")

    assert broken(found_in(fleet, change=tell)) == {Invariant.SECRECY}
    assert broken(found_in(fleet, texts=["charged 4111-canary"])) == {Invariant.SECRECY}
    log[0] = with_header(log[0], "tracestate", "card=4111-canary")
    assert Invariant.SECRECY in broken(found_in(fleet))


def test_a_fact_that_somebody_never_acknowledged(fleet: Harness) -> None:
    log = fleet.broker.logs[ACKS]
    log[:] = [record for record in log if ("ce_source", b"bank") not in record.headers]

    assert broken(found_in(fleet)) == {Invariant.ACKNOWLEDGED}


def test_an_outbox_row_that_says_another_place(fleet: Harness) -> None:
    def misplace(books: dict[str, Books]) -> None:
        row = OutboxRow("gone", "travel", 0, EVENTS.topic, "paid", "travel.TripPaid", 1, [], b"", datetime.now(UTC))
        books["bank"].rows["paid"] = [row._replace(offset=3, published=datetime.now(UTC))]

    assert broken(found_in(fleet, change=misplace)) == {Invariant.OUTBOX}


def test_an_event_that_was_committed_and_never_published(fleet: Harness) -> None:
    def hold_back(books: dict[str, Books]) -> None:
        row = OutboxRow("held", "travel", 0, EVENTS.topic, "paid", "travel.TripPaid", 2, [], b"", datetime.now(UTC))
        books["bank"].rows["paid"] = [row]

    assert broken(found_in(fleet, change=hold_back)) == {Invariant.OUTBOX}
