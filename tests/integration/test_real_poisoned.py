"""One workflow in each lane whose handler cannot succeed, among many whose handlers do: on Kafka and PostgreSQL."""

from __future__ import annotations

from uuid import uuid4

import pytest

from saga import Retry
from saga.contracts.message import Message
from saga.contracts.topics import lane_of
from saga.participant import operator
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from tests.integration.crew import LANES, NAMES, Crew, on_servers
from tests.travel import Script, fleet

pytestmark = pytest.mark.slow

GOOD = [f"good {number}" for number in range(200)]
PATIENT = Retry(attempts=10**6, quick=1, first=0.2, longest=0.5)
COMPLETED, COMPENSATED = {WorkflowStatus.COMPLETED}, {WorkflowStatus.COMPENSATED}


def poisoned_in(lane: int) -> str:
    """A trip whose workflow is in this lane."""
    return next(trip for trip in (f"poisoned {number}" for number in range(1000)) if lane_of(trip, LANES) == lane)


POISONED = [poisoned_in(lane) for lane in range(LANES)]
GIVEN_UP, *REPAIRED = POISONED


def test_one_poisoned_workflow_per_lane_holds_up_nobody_and_ends_in_order_after_repair_or_at_once_when_aborted(
    kafka: str, postgres: str
) -> None:
    script = Script(raising={("flight", trip): 10**9 for trip in POISONED})
    with on_servers(kafka, postgres, fleet(script, name=f"poisoned-{uuid4().hex[:8]}", versions=[2], retry=PATIENT)) as crew:
        crew.begin(*NAMES)
        crew.start(*GOOD[:100], *POISONED, *GOOD[100:])

        crew.await_end(*GOOD)
        assert {trip: crew.ends(trip) for trip in GOOD} == dict.fromkeys(GOOD, COMPLETED)
        assert [is_parked(crew, trip) for trip in POISONED] == [True] * LANES

        with crew.stores["agency"].transaction() as tx:
            crew.participants["agency"].abort(GIVEN_UP, tx, reason="the customer has called")
        crew.await_end(GIVEN_UP)
        assert crew.ends(GIVEN_UP) == COMPENSATED
        assert [is_parked(crew, trip) for trip in REPAIRED] == [True] * len(REPAIRED)

        script.raising.clear()
        crew.await_end(*REPAIRED)
        assert {trip: crew.ends(trip) for trip in REPAIRED} == dict.fromkeys(REPAIRED, COMPLETED)
        facts = crew.facts()

    assert airlines(facts, GIVEN_UP) == [("flight", FactStatus.SKIPPED), ("insure", FactStatus.SKIPPED)]
    for trip in REPAIRED:
        assert airlines(facts, trip) == [("flight", FactStatus.DONE), ("insure", FactStatus.DONE)]


def is_parked(crew: Crew, trip: str) -> bool:
    """Whether the flight waits, and what comes after it in the same service with it."""
    found = crew.workflow("airline", trip)
    if found is None or found.closed:
        return False
    insured = found.fences.get("insure")
    return operator.is_parked(found.fences["flight"]) and (insured is None or insured.status is StepStatus.IDLE)


def airlines(facts: list[Message], trip: str) -> list[tuple[str, FactStatus]]:
    """What the airline stated about the trip, in the order in which it committed that."""
    own = [m for m in facts if m.workflow_id == trip and m.kind.source == "airline"]
    return [(m.kind.step, m.kind.status) for m in sorted(own, key=lambda m: m.sequence)]
