"""What led to a fact is told by its header, also where the fact came later than what led to it."""

from __future__ import annotations

import pytest

from saga.contracts.message import Message, from_headers
from saga.protocol.facts import FactStatus
from saga.testing.harness import Harness
from tests.travel import Script, TripBooked, harness


def facts(fleet: Harness) -> dict[tuple[str, FactStatus], Message]:
    told = (from_headers(dict(r.headers), r.value or b"") for log in fleet.facts() for r in log)
    return {(message.kind.step, message.kind.status): message for message in told}


@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
@pytest.mark.parametrize("raised", [0, 5], ids=["at once", "after retries"])
def test_a_step_names_the_event_that_triggered_it(external: bool, raised: int) -> None:
    with harness(Script(raising={("hotel", "rome"): raised}), external=external) as fleet:
        fleet.start(TripBooked(trip="rome"))
        for _ in range(6):
            fleet.advance(60)
        told = facts(fleet)

    assert told["hotel", FactStatus.DONE].cause == told["book", FactStatus.DONE].id
    assert told["pay", FactStatus.DONE].cause in {told["hotel", FactStatus.DONE].id, told["flight", FactStatus.DONE].id}


@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
def test_a_compensation_names_what_unwound_the_workflow(external: bool) -> None:
    with harness(Script(failing={("pay", "rome")}), external=external) as fleet:
        fleet.start(TripBooked(trip="rome"))
        fleet.settle()
        told = facts(fleet)

    assert told["hotel", FactStatus.COMPENSATED].cause == told["pay", FactStatus.FAILED].id
