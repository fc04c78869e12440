"""Workflows that were closed long ago are deleted, and nothing that comes after that is done a second time."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from saga import DefinitionError
from saga.contracts.message import from_headers
from saga.engine.pruning import AT_ONCE, Pruning
from saga.engine.retention import ASK_EVERY, MARGIN, TRUST, Retention, refuse_to_forget
from saga.engine.worker import Worker
from saga.errors import BrokerError, StoreError
from saga.handling.intake import may_be_pruned
from saga.protocol.facts import WorkflowStatus
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Reason
from saga.store.lane import Lane
from saga.store.memory import MemoryStore
from saga.store.port import Changes, Store
from saga.store.workflow import Workflow
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.testing.simulation.act import StoreFault
from saga.testing.simulation.faulty import FaultyStore
from saga.transport.memory import MemoryBroker, MemoryConsumer
from tests.travel import Script, TripBooked, come_again, effects, harness, repeat, saga
from tests.travel import fleet as participants
from tests.waiting import until

DAY = timedelta(days=1)
KEEP = 30 * DAY
LONG = (KEEP + DAY).total_seconds()


@contextmanager
def pruned(script: Script | None = None, *trips: str) -> Iterator[Harness]:
    """A fleet that lived these trips, and deleted what it knew of them."""
    with harness(script or Script(), keep_workflows=KEEP) as fleet:
        for trip in trips or ("rome",):
            fleet.start(TripBooked(trip=trip), workflow_id=trip)
        fleet.settle()
        fleet.advance(60)
        fleet.advance(LONG)
        yield fleet


def known(fleet: Harness) -> dict[str, list[str]]:
    """Ids of the workflows that each store knows."""
    return {name: [w.id for w in store.page("travel", "", 1000)] for name, store in fleet.stores.items()}


def letters(fleet: Harness, name: str) -> list[DeadLetter]:
    with fleet.stores[name].unit() as unit:
        return unit.letters(LetterSearch(), 1000)


def test_what_was_closed_long_ago_is_deleted_by_everybody() -> None:
    with pruned(Script(failing={("pay", "oslo")}), "rome", "oslo") as fleet:
        assert known(fleet) == {name: [] for name in fleet.stores}


def test_what_is_open_or_was_closed_lately_stays() -> None:
    with pruned(Script(waiting={"oslo"})) as fleet:
        fleet.start(TripBooked(trip="bonn"), workflow_id="bonn")
        fleet.start(TripBooked(trip="oslo"), workflow_id="oslo")
        fleet.advance(60)

        assert known(fleet) == {name: ["bonn", "oslo"] for name in fleet.stores}


def test_nothing_is_deleted_unless_it_is_asked_for() -> None:
    with harness(Script()) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()

        fleet.advance(100 * LONG)

        assert known(fleet) == {name: ["rome"] for name in fleet.stores}


@pytest.mark.parametrize("failing", [set(), {("pay", "rome")}], ids=["completed", "compensated"])
def test_records_that_come_again_afterwards_are_kept_and_nothing_is_done_twice(failing: set[tuple[str, str]]) -> None:
    with pruned(Script(failing=failing)) as fleet:
        before = effects(fleet)

        come_again(fleet)

        assert effects(fleet) == before
        assert known(fleet) == {name: [] for name in fleet.stores}
        assert {letter.reason for name in fleet.stores for letter in letters(fleet, name)} == {Reason.PRUNED}
        assert all(letters(fleet, name) for name in fleet.stores)
        assert fleet.stopped() == {}


def test_who_has_not_heard_of_the_end_for_long_cannot_undo_what_a_forgotten_pivot_decided() -> None:
    with harness(Script(), keep_workflows=KEEP) as fleet:
        consumer = fleet.loops["hotels"].consumer
        assert isinstance(consumer, MemoryConsumer)
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        while ("rome", "hotel", "action") not in effects(fleet):
            fleet.turn("agency")
            fleet.turn("hotels")
        consumer.held = {"travel.events"}  # it never hears that the trip is paid and confirmed
        fleet.settle()
        fleet.advance(LONG)
        assert known(fleet)["bank"] == []

        fleet.abort("rome", by="hotels")
        fleet.settle()

        assert ("rome", "hotel", "compensation") not in effects(fleet)
        assert [letter.reason for letter in letters(fleet, "bank")] == [Reason.PRUNED]
        consumer.held = set()
        fleet.settle()
        ended = fleet.workflow("hotels", "rome")
        assert ended is not None
        assert ended.status is WorkflowStatus.COMPLETED


def test_records_that_waited_for_a_release_until_their_workflow_was_deleted_are_kept_and_nothing_is_done_twice() -> None:
    script = Script()
    with harness(script, versions=(1, 2), keep_workflows=KEEP) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        for participant in participants(script, versions=(1,)):
            fleet.deploy(participant)
        come_again(fleet)
        fleet.advance(60)
        fleet.advance(LONG)
        before = effects(fleet)

        for participant in participants(script, versions=(1, 2)):
            fleet.deploy(participant)
        fleet.settle()

        assert effects(fleet) == before
        assert known(fleet) == {name: [] for name in fleet.stores}
        assert {letter.reason for name in fleet.stores for letter in letters(fleet, name)} == {Reason.PRUNED}


def test_the_next_owner_of_a_lane_does_nothing_twice_either() -> None:
    with pruned() as fleet:
        before = effects(fleet)
        for name in fleet.stores:
            fleet.crash(name)
        fleet.settle()

        come_again(fleet)

        assert effects(fleet) == before
        assert fleet.stopped() == {}


def test_own_facts_of_what_was_pruned_are_no_sign_of_a_store_that_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    with pruned() as fleet:
        before = effects(fleet)
        repeat(fleet)

        for name in fleet.stores:
            fleet.crash(name)
        fleet.settle()

        assert fleet.stopped() == {}
        assert effects(fleet) == before
        assert "is passed over: its workflow began at" in caplog.text
        assert "restored from a backup" not in caplog.text


def test_nor_are_those_of_a_version_that_this_release_does_not_know() -> None:
    script = Script()
    with harness(script, versions=(1, 2), keep_workflows=KEEP) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        fleet.advance(60)
        fleet.advance(LONG)
        before = effects(fleet)
        repeat(fleet)
        for name in fleet.stores:
            fleet.crash(name)

        for participant in participants(script, versions=(1,)):
            fleet.deploy(participant)
        fleet.settle()

        assert fleet.stopped() == {}
        assert effects(fleet) == before
        assert {letter.reason for name in fleet.stores for letter in letters(fleet, name)} == {Reason.UNKNOWN_VERSION}


def test_own_facts_of_a_workflow_that_began_later_are_such_a_sign() -> None:
    with pruned() as fleet:
        backup = copy.deepcopy(fleet.stores["bank"]._tables)
        fleet.start(TripBooked(trip="bonn"), workflow_id="bonn")
        fleet.settle()

        fleet.stores["bank"]._tables = backup
        fleet.crash("bank")
        fleet.settle()

        [error] = fleet.stopped()["bank"]
        assert "restored from a backup" in str(error)


def test_what_a_person_has_requeued_is_taken_in() -> None:
    with pruned() as fleet:
        come_again(fleet)
        [booked, *_] = [one for one in letters(fleet, "hotels") if dict(one.headers)["ce_type"] == b"travel.TripBooked"]
        with fleet.stores["hotels"].unit() as unit:
            unit.settle([booked], LetterState.REQUEUED, fleet.clock.now(), by="ann", note="it never ran")

        fleet.advance(1)

        assert effects(fleet).count(("rome", "hotel", "action")) == 2
        assert booked.place not in [letter.place for letter in letters(fleet, "hotels")]


def test_what_is_new_runs_as_ever() -> None:
    with pruned() as fleet:
        fleet.start(TripBooked(trip="bonn"), workflow_id="bonn")
        fleet.settle()

        found = [fleet.workflow(name, "bonn") for name in fleet.stores]
        assert [one and one.status for one in found] == [WorkflowStatus.COMPLETED] * 4


def test_what_was_stated_while_a_participant_was_away_for_longer_is_handled_when_it_is_back() -> None:
    with harness(Script(), keep_workflows=KEEP) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        fleet.settle()
        fleet.clock.advance(2 * DAY.total_seconds())
        fleet.start(TripBooked(trip="oslo"), workflow_id="oslo")
        fleet.turn("agency")
        fleet.clock.advance(2 * LONG)

        while any([fleet.turn("hotels"), fleet.turn("airline")]):
            pass

        assert {("oslo", "hotel", "action"), ("oslo", "flight", "action")} <= {*effects(fleet)}
        assert letters(fleet, "hotels") == []


def test_what_somebody_has_still_to_acknowledge_stays_where_it_was_stated() -> None:
    with harness(Script(), keep_workflows=KEEP) as fleet:
        fleet.start(TripBooked(trip="rome"), workflow_id="rome")
        while not ((ended := fleet.workflow("agency", "rome")) and ended.closed):
            for name in ("hotels", "airline", "bank", "agency"):
                fleet.turn(name)  # the last one states the end, of which nobody has heard yet
        fleet.clock.advance(LONG)
        for _ in range(3):
            fleet.turn("agency")
        assert known(fleet)["agency"] == ["rome"]

        fleet.settle()
        fleet.advance(60)

        assert known(fleet)["agency"] == []


def old(number: int, clock: ManualClock) -> Workflow:
    moment = clock.now() - 2 * KEEP
    return Workflow(id=f"w{number:04}", version=1, lane=0, status=WorkflowStatus.COMPLETED, opened=moment, closed=moment)


def test_many_go_in_batches_of_which_each_is_whole() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    with store.unit() as unit:
        unit.save("travel", Changes(closed=[old(number, clock) for number in range(AT_ONCE + 1)]))
    lane, pruning = store.claim("travel", 0, 1), Pruning(store, clock, KEEP)

    left = []
    for _ in range(2):
        pruning.prune(lane)
        left.append(len(store.page("travel", "", 1000)))

    assert left == [1, 0]


def test_a_deadline_at_the_beginning_of_the_calendar_is_of_a_workflow_that_began_before() -> None:
    with harness(Script()) as fleet:
        fleet.start(TripBooked(trip="rome"))
        fleet.settle()
        [*_, first] = filter(None, fleet.facts())
    headers = dict(first[0].headers) | {"ce_deadline": b"0001-01-03T00:00:00Z"}

    lane = Lane("travel", 0, 1, pruned=fleet.clock.now())
    why = may_be_pruned(lane, from_headers(headers, b""), replace(saga(), deadline=KEEP))

    assert "may have been pruned" in (why or "")


@pytest.mark.parametrize(
    ("fault", "moves"), [(StoreFault.UNKNOWN_COMMITTED, True), (StoreFault.UNKNOWN_UNDONE, True), (StoreFault.LOST, False)]
)
def test_the_lane_goes_by_what_may_be_gone_and_by_nothing_that_is_there(fault: StoreFault, moves: bool) -> None:
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock), Counter())
    with store.unit() as unit:
        unit.save("travel", Changes(closed=[old(1, clock)]))
    lane, pruning = store.claim("travel", 0, 1), Pruning(cast(Store, store), clock, KEEP)
    store.next = fault

    with pytest.raises(StoreError):
        pruning.prune(lane)

    assert lane.pruned == (old(1, clock).closed if moves else None)
    pruning.prune(lane)
    assert lane.pruned == store.claim("travel", 0, 1).pruned == old(1, clock).closed


@pytest.mark.parametrize(
    ("span", "why"),
    [
        (None, r"topic travel.events keeps records for ever; .* Unset it, or give the topic a retention.ms"),
        (KEEP - MARGIN + timedelta(seconds=1), r"expected at least P30DT1S, a day more. Raise it"),
    ],
)
def test_what_topics_keep_longer_is_not_to_be_forgotten(span: timedelta | None, why: str) -> None:
    refuse_to_forget(KEEP, [saga()], {"travel.events": KEEP - MARGIN})

    with pytest.raises(DefinitionError, match=why):
        refuse_to_forget(KEEP, [saga()], {"travel.events": span})


@pytest.mark.parametrize(
    ("deadline", "why"),
    [
        (None, "found 30d, while saga travel v1 has no deadline. Give it one"),
        (KEEP - MARGIN + timedelta(seconds=1), "the deadline of saga travel v1 is P29DT1S; expected at least P30DT1S"),
    ],
)
def test_workflows_that_run_for_long_or_have_no_deadline_are_not_to_be_forgotten(deadline: timedelta | None, why: str) -> None:
    refuse_to_forget(KEEP, [replace(saga(), deadline=KEEP - MARGIN)], {})

    with pytest.raises(DefinitionError, match=why):
        refuse_to_forget(KEEP, [saga(), replace(saga(), deadline=deadline)], {})


class Told(MemoryBroker):
    """A broker whose topics keep records for as long as it is told; not at all if it is to be away."""

    span: timedelta | None = KEEP - MARGIN
    asked = 0

    def kept(self, topics: Sequence[str]) -> dict[str, timedelta | None]:
        self.asked += 1
        if self.span is None:
            raise BrokerError("nobody answers", retriable=True)
        return dict.fromkeys(topics, self.span)


@pytest.mark.parametrize("later", [KEEP, None], ids=["kept for longer", "not told"])
def test_what_topics_keep_for_longer_from_now_on_is_forgotten_no_more_until_they_do_not(later: timedelta | None) -> None:
    [agency, *_] = participants(Script(), clock=(clock := ManualClock()))
    broker = Told(["travel.events", "travel.compensations", "travel.acks"], partitions=1)
    retention = Retention(agency, broker, KEEP)
    retention.require()

    broker.span = later
    retention.look()
    before, asked = retention.allows, broker.asked
    clock.advance(ASK_EVERY.total_seconds())
    retention.look()
    meanwhile = retention.allows
    broker.span = KEEP - MARGIN
    clock.advance(ASK_EVERY.total_seconds())
    retention.look()

    assert (asked, broker.asked) == (1, 3)
    assert (before, meanwhile, retention.allows) == (True, False, True)


def test_what_a_broker_said_long_ago_is_not_relied_on() -> None:
    [agency, *_] = participants(Script(), clock=(clock := ManualClock()))
    retention = Retention(agency, Told(["travel.events", "travel.compensations", "travel.acks"], partitions=1), KEEP)
    retention.require()

    clock.advance(TRUST.total_seconds())

    assert not retention.allows


def test_while_that_is_not_allowed_nothing_is_deleted() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    with store.unit() as unit:
        unit.save("travel", Changes(closed=[old(1, clock)]))
    lane, allowed = store.claim("travel", 0, 1), [False, True]
    pruning = Pruning(store, clock, KEEP, lambda: allowed.pop(0))

    pruning.prune(lane)
    before = pruning.gone
    pruning.prune(lane)

    assert (before, pruning.gone) == (0, 1)


class Silent(MemoryBroker):
    def kept(self, topics: Sequence[str]) -> Mapping[str, timedelta | None]:  # type: ignore[override]
        raise BrokerError("not authorized")


@pytest.mark.parametrize(
    ("kind", "why"),
    [(MemoryBroker, "keeps records for ever"), (Silent, "cannot be asked: not authorized. Allow this client to describe")],
)
def test_a_worker_that_would_forget_too_early_does_not_begin(kind: type[MemoryBroker], why: str) -> None:
    [agency, *_] = participants(Script())
    broker = kind(["travel.events", "travel.compensations", "travel.acks"], partitions=1)
    worker, ended = Worker(agency, store=MemoryStore(), broker=broker, keep_workflows=KEEP), threading.Event()

    with pytest.raises(DefinitionError, match=why), worker.running(failed=lambda _: ended.set()):
        assert ended.wait(30)


def test_a_worker_waits_for_a_broker_that_does_not_say_how_long_topics_keep_records() -> None:
    [agency, *_] = participants(Script())
    broker = Told(["travel.events", "travel.compensations", "travel.acks"], partitions=1)
    broker.span = None
    with Worker(agency, store=MemoryStore(), broker=broker, keep_workflows=KEEP).running() as worker:
        until(lambda: "waiting for the broker: nobody answers" in str(worker.health().reasons), what="health to say so")
        broker.span = KEEP - MARGIN

        until(lambda: worker.standing().lanes, what="the lane")
