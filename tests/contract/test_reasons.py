"""What people write when they intervene may be anything; every database keeps it, in a form that can be read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from saga import DefinitionError, Refused
from saga.participant.participant import Participant
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.port import Changes, Store, Transaction
from saga.store.workflow import Fence, Workflow
from saga.testing.clock import ManualClock
from tests.travel import HotelBooked, Script, TripBooked, fleet

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_TEXTS = {"NUL": "no\0room", "lone surrogate": "no\udcffroom"}
Verb = Callable[[Participant, Transaction, str], None]
_VERBS: dict[str, Verb] = {
    "abort": lambda hotels, tx, text: hotels.abort("w1", tx, reason=text),
    "abort by a person": lambda hotels, tx, text: hotels.abort("w1", tx, reason=text, by=text),
    "skip": lambda hotels, tx, text: hotels.skip("w1", "hotel", tx, reason=text, by=text),
    "resolve": lambda hotels, tx, text: hotels.resolve("w1", "hotel", HotelBooked(trip="rome"), tx, reason=text, by=text),
    "retry": lambda hotels, tx, text: hotels.retry("w1", tx, reason=text, by=text),
}


@pytest.mark.parametrize("text", _TEXTS.values(), ids=_TEXTS)
@pytest.mark.parametrize("verb", _VERBS.values(), ids=_VERBS)
def test_whatever_an_operator_says_is_kept(store: Store, verb: Verb, text: str) -> None:
    hotels = next(one for one in fleet(Script(), clock=ManualClock(_NOON)) if one.name == "hotels")
    workflow = Workflow(id="w1", version=1, lane=0, status=WorkflowStatus.IN_PROGRESS, opened=_NOON)
    parked = Fence(step="hotel", status=StepStatus.IDLE, attempt=12, error="OSError: no answer")
    with store.unit() as unit:
        unit.save("travel", Changes(workflows=[workflow], fences=[("w1", parked)]))

    with store.transaction() as tx:
        verb(hotels, tx, text)

    with store.unit() as unit:
        found = unit.load("travel", ["w1"])["w1"]
    assert all("no" in one.by + (one.reason or "") and "room" in (one.reason or "") for one in found.interventions)


@pytest.mark.parametrize("text", _TEXTS.values(), ids=_TEXTS)
def test_an_id_that_no_workflow_can_have_is_refused_before_a_database_is_asked(store: Store, text: str) -> None:
    agency = fleet(Script(), clock=ManualClock(_NOON))[0]

    with store.transaction() as tx, pytest.raises(Refused, match="'agency' knows none of this id"):
        agency.abort(text, tx, reason="called off")
    with store.transaction() as tx, pytest.raises(DefinitionError, match="expected 1 to 512 without NUL"):
        agency.start(TripBooked(trip="rome"), tx, workflow_id=text)
