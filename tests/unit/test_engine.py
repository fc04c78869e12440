"""The engine on the memory store and broker: what a workflow goes through, in the order that a test decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn
from uuid import UUID

import pytest

from saga import Overloaded, Refused
from saga.delivery.relay import SCAN_ROWS
from saga.errors import DefinitionError, EventTooLarge, PartitionCountChanged, StoreError
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.memory import MemoryStore
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.travel import CREATE_EFFECTS, Script, TripBooked, TripPaid, effects, harness

ALL = ("agency", "hotels", "airline", "bank")
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def test_a_workflow_that_meets_no_trouble_completes_everywhere_with_every_effect_once(travel: Travel) -> None:
    fleet = travel(Script())

    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    assert set(fleet.steps(workflow).values()) == {StepStatus.DONE}
    assert all(fleet.workflow(name, workflow).status is WorkflowStatus.COMPLETED for name in ALL)  # type: ignore[union-attr]
    assert effects(fleet) == [(workflow, step, "action") for step in ("confirm", "flight", "hotel", "pay")]


def test_a_declined_payment_undoes_exactly_what_was_done(travel: Travel) -> None:
    fleet = travel(Script(failing={("pay", "rome")}))

    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    assert fleet.steps(workflow) == {
        "book": StepStatus.COMPENSATED,
        "hotel": StepStatus.COMPENSATED,
        "flight": StepStatus.COMPENSATED,
        "pay": StepStatus.FAILED,
        "confirm": StepStatus.IDLE,
    }
    assert all(fleet.workflow(name, workflow).status is WorkflowStatus.COMPENSATED for name in ALL)  # type: ignore[union-attr]
    undone = [(workflow, step, "compensation") for step in ("book", "flight", "hotel")]
    done = [(workflow, step, "action") for step in ("flight", "hotel", "pay")]
    assert effects(fleet) == sorted(done + undone)


def test_a_compensating_event_that_overtakes_its_action_leaves_a_tombstone(travel: Travel) -> None:
    fleet = travel(Script(failing={("hotel", "rome")}))

    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    fleet.turn("hotels")
    fleet.loops["airline"].consumer.pause([p for p in fleet.broker.logs if p.topic == "travel.events"])
    fleet.turn("airline")

    assert fleet.steps(workflow)["flight"] is StepStatus.SKIPPED

    fleet.loops["airline"].consumer.resume([p for p in fleet.broker.logs if p.topic == "travel.events"])
    fleet.settle()

    assert fleet.steps(workflow)["flight"] is StepStatus.SKIPPED
    assert (workflow, "flight", "action") not in effects(fleet)
    assert fleet.workflow("agency", workflow).status is WorkflowStatus.COMPENSATED  # type: ignore[union-attr]


def test_an_abort_that_reaches_the_pivot_first_unwinds_the_workflow(travel: Travel) -> None:
    fleet = travel(Script())
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")

    fleet.abort(workflow, by="agency")
    fleet.turn("agency")
    fleet.turn("bank")
    fleet.settle()

    assert fleet.steps(workflow)["pay"] is StepStatus.SKIPPED
    assert {fleet.workflow(name, workflow).status for name in ALL} == {WorkflowStatus.COMPENSATED}  # type: ignore[union-attr]


@pytest.mark.parametrize("pivot_first", [True, False])
def test_an_abort_in_the_instant_of_the_pivot_is_decided_by_the_pivot_alone(travel: Travel, pivot_first: bool) -> None:
    fleet = travel(Script())
    workflow = fleet.start(TripBooked(trip="rome"))
    for name in ("agency", "hotels", "airline"):
        fleet.turn(name)
        fleet.turn(name)
    if pivot_first:
        fleet.turn("bank")
    fleet.abort(workflow, by="hotels")
    fleet.turn("hotels")
    if not pivot_first:
        fleet.loops["bank"].consumer.pause([p for p in fleet.broker.logs if p.topic == "travel.events"])
        fleet.turn("bank")
        fleet.loops["bank"].consumer.resume([p for p in fleet.broker.logs if p.topic == "travel.events"])
    fleet.settle()

    ended = {fleet.workflow(name, workflow).status for name in ALL}  # type: ignore[union-attr]
    assert ended == {WorkflowStatus.COMPLETED if pivot_first else WorkflowStatus.COMPENSATED}
    assert fleet.steps(workflow)["pay"] is (StepStatus.DONE if pivot_first else StepStatus.SKIPPED)


@pytest.mark.parametrize(
    ("id", "told"),
    [
        ("", "found a workflow id of 0 bytes, ''...; expected 1 to 512"),
        (7, "found 7 of type int as a workflow's id; expected a text, as of str(...)"),
        (UUID(int=7), "of type UUID as a workflow's id"),
    ],
    ids=["empty", "a number", "a uuid"],
)
def test_an_id_that_is_none_is_refused_and_no_other_one_is_made(travel: Travel, id: Any, told: str) -> None:
    """An empty one was taken for none, so that each repetition of a request began another workflow."""
    fleet = travel(Script())

    with pytest.raises(DefinitionError, match=re.escape(told)):
        fleet.start(TripBooked(trip="rome"), workflow_id=id)
    fleet.settle()
    assert not any(fleet.facts())


def test_starting_twice_under_one_id_begins_one_workflow(travel: Travel) -> None:
    fleet = travel(Script())

    first = fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    second = fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()

    assert first == second == "w1"
    assert len(effects(fleet)) == 4


def test_a_backlog_longer_than_one_scan_is_published_to_its_end(travel: Travel) -> None:
    fleet = travel(Script(), partitions=1)
    with fleet.transaction("agency") as tx:
        for number in range(2 * SCAN_ROWS + 1):
            fleet.participants["agency"].start(TripBooked(trip="rome"), tx, workflow_id=f"w{number}")

    while fleet.turn("agency"):
        pass

    assert sum(len(log) for log in fleet.facts()) == 2 * SCAN_ROWS + 1


def test_while_kafka_is_away_start_accepts_up_to_its_bound_and_then_refuses(travel: Travel) -> None:
    fleet = travel(Script(), max_backlog=10)

    def start_until_refused() -> int:
        for accepted in range(100):
            fleet.clock.advance(1)
            try:
                fleet.start(TripBooked(trip="rome"))
            except Overloaded:
                return accepted
        return 100

    assert start_until_refused() == 11
    fleet.settle()
    assert start_until_refused() == 11


def test_a_start_does_not_ask_for_the_connection_which_costs_a_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    with harness(Script()) as fleet, fleet.transaction("agency") as tx:
        asked: list[object] = []
        monkeypatch.setattr(type(tx), "connection", property(asked.append))

        fleet.participants["agency"].start(TripBooked(trip="Rome"), tx)

        assert asked == []


def test_a_start_that_is_rolled_back_never_happened(travel: Travel) -> None:
    fleet = travel(Script())

    def start_and_fail() -> None:
        with fleet.transaction("agency") as tx:
            fleet.participants["agency"].start(TripBooked(trip="rome"), tx, workflow_id="w1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        start_and_fail()
    fleet.settle()

    assert fleet.workflow("agency", "w1") is None
    assert not any(fleet.facts())


def test_a_workflow_that_has_ended_cannot_be_aborted(travel: Travel) -> None:
    fleet = travel(Script())
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    with pytest.raises(Refused, match=f"cannot abort workflow {workflow}: it ended completed"):
        fleet.abort(workflow, by="agency")
    with pytest.raises(Refused, match="cannot abort workflow nobody: participant 'agency' knows none of this id"):
        fleet.abort("nobody", by="agency")


def test_a_handler_that_raises_is_tried_again_and_leaves_one_effect(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 2}))

    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    assert effects(fleet).count((workflow, "hotel", "action")) == 1
    assert fleet.workflow("agency", workflow).status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]


def test_only_the_workflow_that_fails_is_blamed_in_a_batch_of_two_hundred(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "trip 117"): 99}), partitions=1)

    workflows = [fleet.start(TripBooked(trip=f"trip {number}"), workflow_id=f"w{number:03}") for number in range(200)]
    fleet.settle()

    done = {workflow for workflow in workflows if set(fleet.steps(workflow).values()) == {StepStatus.DONE}}
    assert set(workflows) - done == {"w117"}
    parked = fleet.workflow("hotels", "w117")
    assert parked is not None
    assert parked.fences["hotel"].error == "RuntimeError: hotel is unlucky with trip 117"
    assert len({effect for effect in effects(fleet) if effect[1] == "hotel"}) == 199


def test_an_event_that_could_never_be_published_is_refused_before_anything_is_committed(travel: Travel) -> None:
    fleet = travel(Script())

    with pytest.raises(EventTooLarge, match=r"travel\.TripBooked is 9\d\d\d\d\d bytes encoded, the limit is 900000"):
        fleet.start(TripBooked(trip="x" * 900_000), workflow_id="w1")

    assert fleet.workflow("agency", "w1") is None


def test_a_handler_that_returns_such_an_event_commits_nothing_and_is_not_tried_again(travel: Travel) -> None:
    trip = "rome and home again"
    fleet = travel(Script(), partitions=1)
    read = len(fleet.participants["agency"].codec.encode("travel.TripBooked", {"trip": trip}))
    fleet.participants["hotels"].codec.max_bytes = read  # its answer names a room as well

    workflow = fleet.start(TripBooked(trip=trip))
    fleet.settle()

    parked = fleet.workflow("hotels", workflow)
    assert parked is not None
    fence = parked.fences["hotel"]
    assert (fence.attempt, fence.due) == (1, None)
    assert fence.error == (
        "EventTooLarge: event travel.HotelBooked is 28 bytes encoded, the limit is 25: it could never be published. Put the "
        "bulk elsewhere and send a reference, or raise SAGA_MAX_EVENT_BYTES (or the participant's max_event_bytes) in every "
        "service, together with the topics' max.message.bytes."
    )
    assert (workflow, "hotel", "action") not in effects(fleet)


def test_a_partition_count_that_changed_is_refused(travel: Travel) -> None:
    fleet = travel(Script(), partitions=2)
    fleet.partitions = 3

    fleet.crash("hotels")

    with pytest.raises(PartitionCountChanged, match="have 3 partitions, but this store recorded 2: workflows would change"):
        fleet.turn("hotels")


def test_a_fact_of_a_step_that_its_source_does_not_own_changes_nothing(travel: Travel) -> None:
    fleet = travel(Script(), partitions=1)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    log = fleet.broker.logs[Partition("travel.events", 0)]
    forged = [(name, b"airline" if name == "ce_source" else value) for name, value in log[0].headers]
    log[0] = log[0]._replace(headers=forged)

    fleet.settle()

    assert fleet.loops["hotels"].processor.intake.counts.refused == 1
    assert fleet.workflow("hotels", workflow) is None


def test_a_store_that_lost_what_it_had_published_stops_before_it_does_anything_twice(travel: Travel) -> None:
    fleet = travel(Script(), partitions=1)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    fleet.stores["hotels"].close()
    fleet.stores["hotels"] = MemoryStore()
    with fleet.transaction("hotels") as tx:
        tx.execute(CREATE_EFFECTS)

    fleet.crash("hotels")
    fleet.settle()

    [[stopped]] = fleet.stopped().values()
    assert f"holds fact 1 of 'hotels' about workflow {workflow}, but this database knows 0" in str(stopped)
    assert (workflow, "hotel", "action") not in effects(fleet)


def test_a_database_that_is_away_is_asked_once_a_second_and_not_at_every_turn(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, asked = travel(Script()), []
    workflow = fleet.start(TripBooked(trip="rome"))

    def away(*_: object, **__: object) -> NoReturn:
        asked.append(fleet.clock.now())
        raise StoreError("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(fleet.stores["agency"], "pending", away)
        for _ in range(3):
            for _ in range(20):
                fleet.turn("agency")
            fleet.clock.advance(1)
    fleet.settle()

    assert len(asked) == 3
    assert set(fleet.steps(workflow).values()) == {StepStatus.DONE}


def test_many_that_begin_at_once_do_so_together_and_each_once() -> None:
    trips = {f"w{number}": TripBooked(trip=f"trip {number}") for number in range(20)}
    with harness(Script()) as fleet:
        agency = fleet.participants["agency"]
        fleet.start(TripBooked(trip="trip 3"), workflow_id="w3")

        with fleet.transaction("agency") as tx:
            begun = agency.start_many(trips, tx)
        with fleet.transaction("agency") as tx:
            again = agency.start_many(trips, tx)
        fleet.settle()

        assert begun == [id for id in trips if id != "w3"]
        assert again == []
        assert {outcome for id in trips for outcome in {fleet.workflow(n, id).status for n in fleet.stores}} == {  # type: ignore[union-attr]
            WorkflowStatus.COMPLETED
        }


def test_one_that_cannot_begin_leaves_none_of_many_begun() -> None:
    with harness(Script()) as fleet:
        with pytest.raises(DefinitionError, match="cannot start saga"), fleet.transaction("agency") as tx:
            fleet.participants["agency"].start_many({"w1": TripBooked(trip="a"), "w2": TripPaid(trip="b")}, tx)

        assert fleet.workflow("agency", "w1") is None
