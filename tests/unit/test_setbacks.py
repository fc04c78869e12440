"""A failure that leads to another one: a step that fails has another step of the same service undone, and that fails too."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Event, Participant, Retry, Saga, TerminalError, Transaction
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


class Sent(Event):
    name: str


def record(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "depot", "fields": [{"name": "name", "type": "string"}]}


def step(name: str, **step: Any) -> dict[str, Any]:
    events = [*step["emits"], *([step["compensated"]] if step["compensated"] else [])]
    return {"name": name, "type": ["null", *events], "default": None, "step": step}


DEPOT = Saga.of(
    *map(record, ["Asked", "Withdrawn", "Shelved", "Unshelved", "Packed", "Sent"]),
    {
        "type": "record",
        "name": "Depot",
        "namespace": "depot",
        "saga": {"name": "depot", "version": 1, "deadline": "PT10M", "owner": "desk"},
        "fields": [
            step("ask", by="desk", emits=["Asked"], compensated="Withdrawn"),
            step("shelve", by="store", on=["Asked"], emits=["Shelved"], compensated="Unshelved"),
            step("pack", by="store", on=["Shelved"], emits=["Packed"], compensated=None, on_error="fail"),
            step("send", by="desk", on=["Packed"], emits=["Sent"], compensated=None, pivot=True),
        ],
    },
)


class Away(Exception):
    """The crane does not answer."""


def depot(failures: list[Exception]) -> Harness:
    """Packing fails for good; what undoes the shelving raises these first."""
    desk, store = Participant("desk", DEPOT), Participant("store", DEPOT)
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

    @store.step
    def pack(shelved: Shelved, tx: Transaction) -> Packed:
        raise TerminalError("too large")

    return Harness(desk, store)


@pytest.mark.parametrize(("failure", "attempt"), [(RuntimeError("unlucky"), 1), (Away("no answer"), 0)], ids=["own", "crane"])
def test_a_step_that_fails_and_whose_predecessor_cannot_be_undone_at_once_leaves_it_parked(
    failure: Exception, attempt: int
) -> None:
    with depot([failure]) as fleet:
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
