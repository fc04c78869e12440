"""Each class of failure, from the exception to the end of its workflow: the table of `docs/failures.md`, line by line."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from saga import ContractError, DefinitionError, ExternalCall, Failure, Participant, Retry, TerminalError
from saga.errors import DecodeError, RegistryUnavailable, StoreError
from saga.participant.failure import Classify, failure_of, infrastructure
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.memory_unit import MemoryUnit
from saga.testing.harness import Harness
from tests.travel import (
    CREATE_EFFECTS,
    Away,
    HotelBooked,
    HotelFreed,
    HotelFull,
    Script,
    TripBooked,
    effects,
    fleet,
    harness,
    saga,
)

HOTEL = ("hotel", "rome")
FOREVER = {HOTEL: 99}
RETRY = Retry(attempts=4, quick=1, first=10, longest=60)
COMPLETED, COMPENSATED, OPEN = {WorkflowStatus.COMPLETED}, {WorkflowStatus.COMPENSATED}, {None}


class CardReaderBusy(Exception):
    """An exception of the service's own."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the hotel does, and what is to be seen of it: at once as (status, attempt, whether a next try is due), then the end.

    A status of None: nothing was committed.
    """

    script: dict[str, Any]
    seen: tuple[StepStatus | None, int, bool]
    end: set[WorkflowStatus] | set[None]
    hook: Classify | None = None
    on_error: str = "park"


def said(failure: Failure | None) -> Classify:
    return lambda error: failure if isinstance(error, CardReaderBusy) else None


PERMANENT = {"raising": FOREVER, "error": TerminalError}
DESK_AWAY = {"raising": {HOTEL: 3}, "error": Away}
AWAY = {"raising": {HOTEL: 1}, "error": RegistryUnavailable}
BUSY = {"raising": FOREVER, "error": CardReaderBusy}
TABLE = {
    "business": Line(script={"failing": {HOTEL}}, seen=(StepStatus.FAILED, 0, False), end=COMPENSATED),
    "transient": Line(script={"raising": {HOTEL: 2}}, seen=(StepStatus.IDLE, 2, True), end=COMPLETED),
    "spent, to be parked": Line(script={"raising": FOREVER}, seen=(StepStatus.IDLE, 2, True), end=OPEN),
    "spent, to fail": Line(script={"raising": FOREVER}, seen=(StepStatus.IDLE, 2, True), end=COMPENSATED, on_error="fail"),
    "permanent, to be parked": Line(script=PERMANENT, seen=(StepStatus.IDLE, 1, False), end=OPEN),
    "permanent, to fail": Line(script=PERMANENT, seen=(StepStatus.FAILED, 0, False), end=COMPENSATED, on_error="fail"),
    "infrastructure": Line(script=AWAY, seen=(None, 0, False), end=COMPLETED),
    "a dependency": Line(script=DESK_AWAY, seen=(StepStatus.IDLE, 0, True), end=COMPLETED, on_error="fail"),
    "the service says transient": Line(
        script={"raising": {HOTEL: 2}, "error": CardReaderBusy},
        seen=(StepStatus.IDLE, 2, True), end=COMPLETED, hook=said(Failure.TRANSIENT),
    ),
    "the service says permanent": Line(
        script=BUSY, seen=(StepStatus.FAILED, 0, False), end=COMPENSATED, hook=said(Failure.PERMANENT), on_error="fail"
    ),
    "the service says poison": Line(
        script=BUSY, seen=(StepStatus.IDLE, 1, False), end=OPEN, hook=said(Failure.POISON), on_error="fail"
    ),
}  # fmt: skip


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def hotel(fleet: Harness, workflow: str) -> tuple[StepStatus | None, int, bool]:
    found = fleet.workflow("hotels", workflow)
    if found is None:
        return None, 0, False
    fence = found.fences["hotel"]
    return fence.status, fence.attempt, fence.due is not None


def outcome(fleet: Harness, workflow: str) -> set[WorkflowStatus | None]:
    found = (fleet.workflow(name, workflow) for name in fleet.participants)
    return {end.status if end and end.closed else None for end in found}


@pytest.mark.parametrize("name", TABLE)
def test_a_failure_of_each_class_ends_as_the_table_says(stack: ExitStack, name: str) -> None:
    line = TABLE[name]
    fleet = stack.enter_context(harness(Script(**line.script), retry=RETRY, on_error=line.on_error, desk={}))
    if line.hook is not None:
        fleet.participants["hotels"].classify(line.hook)

    workflow = fleet.start(TripBooked(trip="rome"), workflow_id=name)
    fleet.settle()
    seen = hotel(fleet, workflow)
    for _ in range(5):
        fleet.advance(70)

    assert (seen, outcome(fleet, workflow)) == (line.seen, line.end)
    assert effects(fleet).count((workflow, "hotel", "action")) == (line.end == COMPLETED or name == "business")


def spoil(fleet: Harness, workflow: str) -> None:
    """Make the bytes of its first event unreadable on their way."""
    log = next(log for log in fleet.broker.logs.values() if any(r.key == workflow.encode() for r in log))
    log[:] = [r._replace(value=b"\x00\x00\x00\x00") if r.key == workflow.encode() else r for r in log]


@pytest.mark.parametrize("on_error", ["park", "fail"])
def test_poison_is_parked_with_its_bytes_whatever_the_schema_says_of_errors(stack: ExitStack, on_error: str) -> None:
    fleet = stack.enter_context(harness(Script(), on_error=on_error))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")

    spoil(fleet, workflow)
    fleet.settle()

    found = fleet.workflow("hotels", workflow)
    assert found is not None
    assert hotel(fleet, workflow) == (StepStatus.IDLE, 1, False)
    assert "unreadable" in (found.fences["hotel"].error or "")
    assert [received.payload for received in found.inbox.values()] == [b"\x00\x00\x00\x00"]


def test_a_registry_that_is_away_spends_no_attempt_of_an_external_step(stack: ExitStack) -> None:
    script = Script(raising={HOTEL: 2}, error=RegistryUnavailable)
    fleet = stack.enter_context(harness(script, external=True))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    assert hotel(fleet, workflow) == (StepStatus.RUNNING, 0, False)

    fleet.advance(2)
    fleet.advance(2)

    assert outcome(fleet, workflow) == COMPLETED


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("step", ["hotel", "flight"])
def test_a_handler_that_is_cancelled_or_exits_fails_like_any_other_and_ends_no_worker(
    stack: ExitStack, step: str, error: type[BaseException], external: bool
) -> None:
    """The hotel's is a plain function, the flight's a coroutine."""
    running = stack.enter_context(harness(Script(raising={(step, "rome"): 3}, error=error), retry=RETRY, external=external))
    workflow = running.start(TripBooked(trip="rome"))
    running.settle()
    other = running.start(TripBooked(trip="oslo"))
    running.settle()
    found = running.workflow("hotels" if step == "hotel" else "airline", workflow)
    assert found is not None
    assert (found.fences[step].attempt, outcome(running, other)) == (2, COMPLETED)
    assert error.__name__ in (found.fences[step].error or "")

    for _ in range(5):
        running.advance(70)

    assert outcome(running, workflow) == COMPLETED
    assert effects(running).count((workflow, step, "action")) == 1


def _cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize("end", [_cancel_own_task, sys.exit])
def test_a_call_to_the_world_that_cancels_its_task_or_exits_leaves_those_beside_it_alone(
    stack: ExitStack, end: Callable[[], object]
) -> None:
    agency, _, *others = fleet(Script(), external=True)
    hotels, asked = Participant("hotels", saga(external=True)), list[str]()

    @hotels.step(retry=RETRY)
    async def hotel(booked: TripBooked, call: ExternalCall) -> HotelBooked | HotelFull:
        asked.append(booked.trip)
        await asyncio.sleep(0)
        if booked.trip == "rome" and asked.count("rome") <= 2:
            end()
        return HotelBooked(trip=booked.trip)

    @hotels.compensation(of=hotel)
    async def free(booked: HotelBooked, call: ExternalCall) -> HotelFreed:
        return HotelFreed(trip=booked.trip)

    running = stack.enter_context(Harness(agency, hotels, *others, partitions=1, chance=lambda: 0.5))
    for name in running.stores:
        with running.transaction(name) as tx:
            tx.execute(CREATE_EFFECTS)

    for trip in ("rome", "oslo"):
        running.start(TripBooked(trip=trip), workflow_id=trip)
    running.settle()
    assert outcome(running, "oslo") == COMPLETED
    for _ in range(5):
        running.advance(70)

    assert outcome(running, "rome") == COMPLETED
    assert sorted(asked) == ["oslo", "rome", "rome", "rome"]


@pytest.mark.parametrize("hook", [lambda error: 1 / 0, lambda error: "transient"], ids=["raises", "answers nonsense"])
def test_a_hook_that_is_wrong_itself_leaves_it_to_the_defaults_and_is_reported(
    hook: Classify, caplog: pytest.LogCaptureFixture
) -> None:
    found = [failure_of(error, hook) for error in (OSError("shelf"), TerminalError("no"), DecodeError("bytes"))]

    assert found == [Failure.TRANSIENT, Failure.PERMANENT, Failure.PERMANENT]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3


def test_the_services_word_goes_before_the_defaults() -> None:
    found = failure_of(ContractError("a field too many"), lambda error: Failure.TRANSIENT)

    assert found == Failure.TRANSIENT


def test_there_is_one_plain_hook() -> None:
    hotels = Participant("hotels", saga())

    async def slow(error: Exception) -> Failure | None:
        return None

    with pytest.raises(DefinitionError, match="expected one plain function"):
        hotels.classify(slow)  # type: ignore[type-var]

    hotels.classify(said(None))
    with pytest.raises(DefinitionError, match="expected one plain function"):
        hotels.classify(said(None))


class _Lost(MemoryUnit):
    """A transaction whose connection is gone, which everybody hears who touches it."""

    def __init__(self) -> None:
        self.workflow_id = None

    @property
    def connection(self) -> Any:
        raise OSError("the connection is lost")

    def technical(self, error: Exception) -> StoreError | None:
        return StoreError(str(error))


def test_a_handler_whose_connection_was_lost_is_not_to_blame_and_its_lane_rests() -> None:
    found = infrastructure(OSError("server closed the connection"), _Lost())

    assert isinstance(found, StoreError)
