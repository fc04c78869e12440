"""A failure that leads to another one: a step that fails has another step of the same service undone, and that fails too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from saga import Event, ExternalCall, Participant, Retry, Saga, TerminalError, Transaction
from saga.protocol.facts import StepStatus
from saga.testing.harness import Harness


class Asked(Event):
    name: str


class Withdrawn(Event):
    name: str


class Shelved(Event):
    name: str


class Unshelved(Event):
    name: str


class Packed(Event):
    name: str


class TooLarge(Event):
    name: str


class Sent(Event):
    name: str


def record(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "depot", "fields": [{"name": "name", "type": "string"}]}


def step(name: str, **step: Any) -> dict[str, Any]:
    events = [*step["emits"], *(step[key] for key in ("fails", "compensated") if step.get(key))]
    return {"name": name, "type": ["null", *events], "default": None, "step": step}


def contract(**pack: Any) -> Saga:
    """A saga whose step `pack` is as told."""
    events = ["Asked", "Withdrawn", "Shelved", "Unshelved", "Packed", "TooLarge", "Sent"]
    return Saga.of(
        *map(record, events[:5] + events[5 if "fails" in pack else 6 :]),
        {
            "type": "record",
            "name": "Depot",
            "namespace": "depot",
            "saga": {"name": "depot", "version": 1, "deadline": "PT10M", "owner": "desk"},
            "fields": [
                step("ask", by="desk", emits=["Asked"], compensated="Withdrawn"),
                step("shelve", by="store", on=["Asked"], emits=["Shelved"], compensated="Unshelved"),
                step("pack", by="store", on=["Shelved"], emits=["Packed"], compensated=None, **pack),
                step("send", by="desk", on=["Packed"], emits=["Sent"], compensated=None, pivot=True),
            ],
        },
    )


DEPOT, CARRIER = contract(on_error="fail"), contract(fails="TooLarge", external=True)


class Away(Exception):
    """The crane does not answer."""


def depot(failures: list[Exception], saga: Saga = DEPOT, recording: Sequence[bool] = ()) -> Harness:
    """Packing fails for good; what undoes the shelving raises these first. `recording` says whether what a call said can be."""
    recorded = iter(recording)
    desk, store = Participant("desk", saga), Participant("store", saga)
    crane = store.dependency("crane", errors=[Away])

    @desk.compensation(of="ask")
    def withdraw(asked: Asked, tx: Transaction) -> Withdrawn:
        return Withdrawn(name=asked.name)

    @desk.step
    def send(packed: Packed, tx: Transaction) -> Sent:
        return Sent(name=packed.name)

    @store.step
    def shelve(asked: Asked, tx: Transaction) -> Shelved:
        return Shelved(name=asked.name)

    @store.compensation(of=shelve, retry=Retry(quick=0), needs=crane)
    def unshelve(shelved: Shelved, tx: Transaction) -> Unshelved:
        if failures:
            raise failures.pop()
        return Unshelved(name=shelved.name)

    if saga is DEPOT:

        @store.step
        def pack(shelved: Shelved, tx: Transaction) -> Packed:
            raise TerminalError("too large")
    else:

        @store.step(step="pack")
        def have_packed(shelved: Shelved, call: ExternalCall) -> Packed | TooLarge:
            return TooLarge(name=shelved.name)

        @store.recording(of="pack")
        def keep(outcome: Packed | TooLarge, tx: Transaction) -> None:
            if not next(recorded, True):
                raise RuntimeError("no ink")

    return Harness(desk, store)


@pytest.mark.parametrize("saga", [DEPOT, CARRIER], ids=["it raises", "the world says so"])
@pytest.mark.parametrize(("failure", "attempt"), [(RuntimeError("unlucky"), 1), (Away("no answer"), 0)], ids=["own", "crane"])
def test_a_step_that_fails_and_whose_predecessor_cannot_be_undone_at_once_leaves_it_parked(
    failure: Exception, attempt: int, saga: Saga
) -> None:
    with depot([failure], saga) as fleet:
        workflow = fleet.start(Asked(name="a wardrobe"))
        fleet.settle()
        known = fleet.workflow("store", workflow)
        assert known is not None
        assert known.fences["pack"].status is StepStatus.FAILED
        assert (known.fences["shelve"].status, known.fences["shelve"].attempt) == (StepStatus.DONE, attempt)
        assert known.fences["shelve"].due

        for _ in range(3):
            fleet.advance(60)

        assert fleet.steps(workflow) == {"ask": "compensated", "shelve": "compensated", "pack": "failed", "send": "skipped"}


def test_an_outcome_that_cannot_be_recorded_when_that_is_left_parked_is_asked_for_again() -> None:
    with depot([RuntimeError("unlucky")] * 2, CARRIER, recording=[True, False]) as fleet:
        workflow = fleet.start(Asked(name="a wardrobe"))
        fleet.settle()
        known = fleet.workflow("store", workflow)
        assert known is not None
        assert (known.fences["pack"].status, known.fences["pack"].error) == (StepStatus.RUNNING, "RuntimeError: no ink")

        for _ in range(3):
            fleet.advance(60)

        assert fleet.steps(workflow) == {"ask": "compensated", "shelve": "compensated", "pack": "failed", "send": "skipped"}
