"""A dependency that is away: what needs it waits, and spends no attempt; everything else goes on, and it all ends by itself."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from saga import DefinitionError, Dependency, Failure, Participant, Transaction, Worker
from saga.contracts.topics import saga_topics
from saga.handling.breaker import Circuit
from saga.handling.breakers import Breakers, BreakerStanding, Unasked
from saga.handling.external import Intent
from saga.handling.invocation import HandlerFailure
from saga.participant.failure import failure_of
from saga.participant.handler import Act, Handler
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.memory import MemoryStore
from saga.store.workflow import Fence
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.transport.memory import MemoryBroker
from tests.travel import CREATE_EFFECTS, Away, HotelBooked, HotelFull, Script, TripBooked, effects, fleet, harness, saga
from tests.waiting import until

MINIMUM = 10
DESK: dict[str, Any] = {"minimum_calls": MINIMUM, "pause": 5.0, "window": 30.0}
BOTH = pytest.mark.parametrize("external", [False, True], ids=["in the transaction", "external"])
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets whose hotel needs a front desk, with a seeded chance; they are closed at the end of the test."""
    with ExitStack() as stack:

        def made(script: Script, **options: Any) -> Harness:
            settled: dict[str, Any] = {"chance": random.Random(7).random, "desk": DESK} | options
            return stack.enter_context(harness(script, **settled))

        yield made


def book(fleet: Harness, count: int, prefix: str = "trip") -> list[str]:
    with fleet.transaction("agency") as tx:
        agency = fleet.participants["agency"]
        return [agency.start(TripBooked(trip=f"{prefix} {n}"), tx, workflow_id=f"{prefix}-{n}") for n in range(count)]


def fence(fleet: Harness, workflow: str) -> Fence:
    found = fleet.workflow("hotels", workflow)
    assert found is not None
    return found.fences["hotel"]


def ends(fleet: Harness, workflows: list[str]) -> set[WorkflowStatus | None]:
    found = [fleet.workflow(name, workflow) for workflow in workflows for name in fleet.participants]
    return {end.status if end and end.closed else None for end in found}


def circuit(fleet: Harness) -> Circuit:
    return fleet.loops["hotels"].breakers.standing()["front-desk"].circuit


@BOTH
def test_after_a_minute_without_it_no_attempt_is_spent_and_everything_ends_once_it_is_back(
    travel: Travel, external: bool
) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, external=external)
    workflows = book(fleet, 100)
    fleet.settle()

    for _ in range(12):
        fleet.advance(5)
        waiting = [fence(fleet, workflow) for workflow in workflows]
        assert {one.attempt for one in waiting} == {0}
        assert all(one.due and (one.error or "").startswith("waits for front-desk") for one in waiting)
    while_away = len(script.reached["hotel"])
    script.away.clear()
    for _ in range(20):
        fleet.advance(5)

    assert ends(fleet, workflows) == {WorkflowStatus.COMPLETED}
    assert while_away <= 16 + 12 + 10  # those on their way when it opened, and a probe for each pause
    assert len(script.reached["hotel"]) == while_away + 100
    assert Counter(effects(fleet)) == Counter(set(effects(fleet)))


@BOTH
def test_a_compensation_waits_without_spending_attempts_and_is_not_stuck(travel: Travel, external: bool) -> None:
    script = Script(failing={("pay", "trip 0")})
    fleet = travel(script, external=external)
    script.away = {"free_hotel"}
    [workflow] = book(fleet, 1)
    fleet.settle()
    for _ in range(20):
        fleet.advance(5)
    assert (fence(fleet, workflow).attempt, fence(fleet, workflow).due is None) == (0, False)

    script.away.clear()
    fleet.advance(60)

    assert ends(fleet, [workflow]) == {WorkflowStatus.COMPENSATED}
    assert effects(fleet).count((workflow, "hotel", "compensation")) == 1


@BOTH
def test_while_it_is_away_handlers_that_need_it_are_not_called_and_what_does_not_goes_on(
    travel: Travel, external: bool
) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, external=external)
    book(fleet, 20)
    fleet.settle()
    assert circuit(fleet) is Circuit.OPEN
    called = len(script.reached["hotel"])

    later = book(fleet, 50, "later")
    fleet.settle()

    assert len(script.reached["hotel"]) == called
    assert {fleet.steps(workflow)["flight"] for workflow in later} == {StepStatus.DONE}
    assert {fence(fleet, workflow).status for workflow in later} == {StepStatus.IDLE}


def test_what_does_not_need_it_goes_on_in_the_same_service(travel: Travel) -> None:
    script = Script(waiting={f"early {n}" for n in range(10)})
    fleet = travel(script)
    handlers = fleet.participants["hotels"].handlers
    handlers[1, "hotel", Act.COMPENSATION] = replace(handlers[1, "hotel", Act.COMPENSATION], needs=())
    early = book(fleet, 10, "early")
    fleet.settle()
    script.away = {"hotel"}
    book(fleet, 20)
    fleet.settle()
    assert circuit(fleet) is Circuit.OPEN

    for workflow in early:
        fleet.abort(workflow, by="agency")
    fleet.settle()

    assert ends(fleet, early) == {WorkflowStatus.COMPENSATED}


@BOTH
def test_an_abort_of_a_workflow_that_waits_works_at_once(travel: Travel, external: bool) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, external=external)
    book(fleet, 20)
    fleet.settle()
    called, [workflow] = len(script.reached["hotel"]), book(fleet, 1, "late")
    fleet.settle()

    fleet.abort(workflow, by="agency")
    fleet.settle()

    assert len(script.reached["hotel"]) == called
    assert fleet.steps(workflow)["hotel"] is StepStatus.SKIPPED
    assert ends(fleet, [workflow]) == {WorkflowStatus.COMPENSATED}


def test_an_intent_that_was_committed_and_never_carried_out_is_taken_back_so_that_an_abort_works_at_once(
    travel: Travel,
) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, external=True, partitions=1)
    workflows = book(fleet, 100)
    fleet.settle()
    asked = {f"trip-{trip.split()[1]}" for trip in script.reached["hotel"]}
    assert {workflow for workflow in workflows if fence(fleet, workflow).status is StepStatus.RUNNING} == asked
    assert len(asked) < 50

    for workflow in workflows:
        fleet.abort(workflow, by="agency")
    fleet.settle()

    untouched = [workflow for workflow in workflows if workflow not in asked]
    assert ends(fleet, untouched) == {WorkflowStatus.COMPENSATED}
    script.away.clear()
    for _ in range(20):
        fleet.advance(5)
    assert ends(fleet, workflows) == {WorkflowStatus.COMPENSATED}
    assert {w for w, step, act in effects(fleet) if (step, act) == ("hotel", "compensation")} == asked


def test_a_call_that_may_have_been_heard_is_not_taken_back_when_a_later_try_is_not_made(travel: Travel) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, external=True, partitions=1, chance=lambda: 0.0)
    workflows = book(fleet, 40)
    fleet.settle()
    asked = [f"trip-{trip.split()[1]}" for trip in script.reached["hotel"]]

    fleet.advance(DESK["pause"])  # all are due at once: one of them is the probe, the others are not made

    assert len(script.reached["hotel"]) == len(asked) + 1
    assert {fence(fleet, workflow).status for workflow in asked} == {StepStatus.RUNNING}
    for workflow in workflows:
        fleet.abort(workflow, by="agency")
    script.away.clear()
    for _ in range(20):
        fleet.advance(5)
    assert ends(fleet, workflows) == {WorkflowStatus.COMPENSATED}


def test_what_is_due_while_it_is_away_is_put_off_without_a_word_to_the_world(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, external=True, partitions=1)
    book(fleet, 16)
    fleet.settle()
    externals, carried = fleet.loops["hotels"].processor.externals, list[Intent]()
    carry_out, called = externals.carry_out, len(script.reached["hotel"])

    def watched(intents: list[Intent], until: float) -> Any:
        carried.extend(intents)
        return carry_out(intents, until)

    monkeypatch.setattr(externals, "carry_out", watched)
    for _ in range(600):
        fleet.clock.advance(0.025)
        fleet.turn("hotels")

    assert 0 < len(carried) == len(script.reached["hotel"]) - called


def test_a_new_process_begins_closed_and_finds_out_for_itself(travel: Travel) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script)
    workflows = book(fleet, 40)
    fleet.settle()
    called = len(script.reached["hotel"])

    fleet.crash("hotels")
    fleet.settle()
    assert circuit(fleet) is Circuit.CLOSED
    fleet.advance(11)

    assert circuit(fleet) is Circuit.OPEN
    assert len(script.reached["hotel"]) <= called + MINIMUM
    assert {fence(fleet, workflow).attempt for workflow in workflows} == {0}
    script.away.clear()
    for _ in range(20):
        fleet.advance(5)
    assert ends(fleet, workflows) == {WorkflowStatus.COMPLETED}


def test_a_batch_of_500_costs_a_few_calls_and_a_few_transactions(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(away={"hotel"})
    fleet = travel(script, partitions=1)
    book(fleet, 500)
    fleet.turn("agency")
    units, processor = [0], fleet.loops["hotels"].processor
    unit = processor.units._unit

    def counted(*arguments: Any, **options: Any) -> Any:
        units[0] += 1
        return unit(*arguments, **options)

    monkeypatch.setattr(processor.units, "_unit", counted)
    fleet.turn("hotels")

    assert len(script.reached["hotel"]) == MINIMUM
    assert units[0] <= 2 * MINIMUM + 1


def test_a_dependency_that_fails_now_and_then_makes_no_handler_run_more_than_twice_in_a_batch(travel: Travel) -> None:
    script = Script(raising={("hotel", f"trip {n}"): 1 for n in range(0, 300, 3)}, error=Away)
    fleet = travel(script, partitions=1)
    book(fleet, 300)
    fleet.turn("agency")

    fleet.turn("hotels")

    assert circuit(fleet) is Circuit.CLOSED
    assert max(Counter(script.reached["hotel"]).values()) <= 2


def test_an_attempt_that_failed_otherwise_still_counts(travel: Travel) -> None:
    script = Script(raising={("hotel", "trip 0"): 2})
    fleet = travel(script)
    fleet.participants["hotels"].classify(lambda error: Failure.TRANSIENT if "unlucky" in str(error) else None)

    def worse(text: str) -> Exception:
        script.away.add("hotel")
        return RuntimeError(text)

    script.error = worse
    [workflow] = book(fleet, 1)
    fleet.settle()

    assert fence(fleet, workflow).attempt == 1
    assert (fence(fleet, workflow).error or "").startswith("waits for front-desk")


def make(name: str = "courier-api", **settings: Any) -> Dependency:
    settled: dict[str, Any] = {"errors": [OSError], "minimum_calls": 2} | settings
    return Participant("hotels", saga()).dependency(name, **settled)


def test_a_failure_is_a_dependencys_only_for_a_handler_that_says_it_needs_it(caplog: pytest.LogCaptureFixture) -> None:
    courier, other = make(), make("other")

    said = [
        failure_of(OSError(), None, [courier]),
        failure_of(OSError(), None),
        failure_of(KeyError(), lambda error: Failure.of(courier), [other, courier]),
        failure_of(KeyError(), lambda error: Failure.of(courier), [other]),
    ]

    assert said == [Failure.of(courier), Failure.TRANSIENT, Failure.of(courier), Failure.TRANSIENT]
    assert "expected a Failure or None or Failure.of(other)" in caplog.text


def test_what_was_not_declared_here_cannot_be_needed() -> None:
    hotels = Participant("hotels", saga())

    def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
        return HotelBooked(trip=booked.trip)

    with pytest.raises(DefinitionError, match="which 'hotels' did not declare"):
        hotels.step(needs=[make("elsewhere")])(hotel)


def test_a_dependency_is_declared_once() -> None:
    hotels = Participant("hotels", saga())
    hotels.dependency("courier-api")

    with pytest.raises(DefinitionError, match="has a dependency 'courier-api' already"):
        hotels.dependency("courier-api")


def calling(*needs: Dependency) -> Handler:
    """A handler with these needs."""
    hotels = next(participant for participant in fleet(Script()) if participant.name == "hotels")
    return replace(hotels.handlers[1, "hotel", Act.ACTION], needs=needs)


def call(breakers: Breakers, handler: Handler, blamed: Dependency | None = None) -> None:
    """One call of the handler, for whose failure a dependency is to be blamed."""
    with suppress(HandlerFailure), breakers.passage(handler, "w"):
        if blamed is not None:
            raise HandlerFailure(handler, "w", "no answer", Failure.of(blamed))


def test_a_call_that_one_dependency_refuses_takes_no_probe_of_another() -> None:
    clock, courier, printer = ManualClock(), make(), make("printer")
    breakers, both = Breakers([courier, printer], clock), calling(courier, printer)
    for _ in range(2):
        call(breakers, both, courier)
        call(breakers, calling(printer), printer)
    clock.advance(courier.pause)
    with (
        breakers.passage(calling(printer), "w"),
        pytest.raises(Unasked, match="waits for printer"),
        breakers.passage(both, "x"),
    ):
        pass

    call(breakers, calling(courier))

    assert breakers.standing()["courier-api"].circuit is Circuit.CLOSED


def test_it_is_told_once_for_each_change_and_a_warning_only_when_it_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "saga.breaker")
    clock, courier = ManualClock(), make()
    breakers, handler = Breakers([courier], clock), calling(courier)

    for blamed in (courier, courier, courier, courier, None, None):
        clock.advance(3)
        call(breakers, handler, blamed)

    told = [(record.levelno, record.message.partition(".")[0].partition(";")[0]) for record in caplog.records]
    assert told == [
        (logging.WARNING, "courier-api does not answer: 2 of 2 calls failed within 30 s"),
        (logging.INFO, "courier-api is tried again"),
        (logging.INFO, "courier-api still does not answer"),
        (logging.INFO, "courier-api is tried again"),
        (logging.INFO, "courier-api answers again"),
    ]


def test_threads_together_send_no_more_probes_than_are_allowed() -> None:
    clock, courier = ManualClock(), make(probes=3)
    breakers, handler, together = Breakers([courier], clock), calling(courier), threading.Barrier(16)
    for _ in range(2):
        call(breakers, handler, courier)
    clock.advance(courier.pause)
    refused: list[str] = []

    def probe() -> None:
        together.wait()
        try:
            with breakers.passage(handler, "w"):
                together.wait()
        except Unasked as unasked:
            refused.append(unasked.why)
            together.wait()

    threads = [threading.Thread(target=probe) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["waits for courier-api"] * 13
    assert breakers.standing()["courier-api"].circuit is Circuit.CLOSED


def test_a_worker_tells_how_its_breakers_stand_and_its_threads_share_them() -> None:
    script = Script(away={"hotel"})
    agency, hotels, airline, bank = fleet(script, desk=DESK | {"pause": 0.1})
    broker, stores = MemoryBroker(saga_topics("travel"), partitions=4), [MemoryStore() for _ in range(4)]
    for store in stores:
        with store.transaction() as tx:
            tx.execute(CREATE_EFFECTS)
    with ExitStack() as running:
        parts = zip((agency, hotels, airline, bank), stores, (1, 3, 1, 1), strict=True)
        workers = [Worker(part, store=store, broker=broker, threads=threads) for part, store, threads in parts]
        for worker in workers:
            running.enter_context(worker.running())
        until(lambda: workers[0].standing().lanes == (0, 1, 2, 3), what="the agency to own all lanes")
        with stores[0].transaction() as tx:
            for number in range(40):
                agency.start(TripBooked(trip=f"trip {number}"), tx, workflow_id=f"trip-{number}")

        until(lambda: away(workers[1].standing().breakers["front-desk"]), what="the breaker to open")
        script.away.clear()
        until(lambda: closed(stores[0]) == 40, what="all trips to end")
        assert workers[1].standing().breakers["front-desk"].circuit is Circuit.CLOSED


def away(desk: BreakerStanding) -> bool:
    return desk.circuit is Circuit.OPEN and desk.next_probe is not None and desk.next_probe > desk.since


def closed(store: MemoryStore) -> int:
    return sum(store.find(f"trip-{number}")[0][1].closed is not None for number in range(40))
