"""Two databases of one participant: what is a difference, and what is only told apart from one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from saga.clock import SystemClock
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.replay.comparison import Comparison, compare
from saga.store.memory import MemoryStore
from saga.store.outbox import OutboxRow
from saga.store.port import Changes
from saga.store.workflow import Fence, Received, Workflow

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SAGA = "travel"
DONE = Fence(step="hotel", status=StepStatus.DONE, event="travel.HotelBooked")
FAILED = Fence(step="hotel", status=StepStatus.FAILED)
BOOKED = Received(id="booked", step="book", status=FactStatus.DONE, type="travel.TripBooked")
CANCELLED = Received(id="cancelled", step="", status=FactStatus.ABORT, type="saga.AbortRequested")


def workflow(*fences: Fence, inbox: tuple[Received, ...] = (BOOKED,), **fields: Any) -> Workflow:
    """One that was begun."""
    known = {"fences": {one.step: one for one in fences}, "inbox": {one.id: one for one in inbox}, **fields}
    return Workflow(**{"id": "w1", "version": 1, "lane": 0, "opened": NOW, "sequence": len(fences), **known})


def closed(status: WorkflowStatus, fence: Fence, **fields: Any) -> Workflow:
    """One that has ended."""
    return workflow(fence, inbox=(), status=status, closed=NOW, **fields)


def store(read: int, *workflows: Workflow, unpublished: bool = False) -> MemoryStore:
    """What has read so far, and knows these."""
    made = MemoryStore(SystemClock())
    lane = made.claim(SAGA, 0, 1, "hotels", False)
    open_, ended = ([w for w in workflows if (w.closed is not None) is is_closed] for is_closed in (False, True))
    row = OutboxRow("e1", SAGA, 0, f"{SAGA}.events", "w1", "travel.HotelBooked", 1, [], b"", NOW)
    changes = Changes(
        workflows=open_,
        closed=ended,
        fences=[(w.id, fence) for w in open_ for fence in w.fences.values()],
        inbox=[(w.id, received) for w in open_ for received in w.inbox.values()],
        outbox=[row] if unpublished else [],
    )
    lane.batch, lane.offsets = 1, {f"{SAGA}.events": read}
    with made.unit() as unit:
        unit.load(SAGA, {w.id for w in workflows})
        unit.save(SAGA, changes)
        unit.advance(lane)
    return made


def compared(live: MemoryStore, rebuilt: MemoryStore) -> Comparison:
    return compare(SAGA, live, rebuilt, tables=False)


def test_what_is_the_same_is_counted() -> None:
    found = compared(store(5, workflow(DONE)), store(5, workflow(DONE)))

    assert (found.is_equal, found.ahead, found.behind) == (True, 0, 0)
    assert found.compared == {"saga_workflow": 1, "saga_fence": 1, "saga_inbox": 1}


def test_what_was_committed_and_not_published_is_told_apart() -> None:
    found = compared(store(5, workflow(DONE), unpublished=True), store(5, workflow()))

    assert (found.is_equal, found.ahead, found.behind) == (True, 1, 0)


@pytest.mark.parametrize(
    "further",
    [
        workflow(FAILED, inbox=(BOOKED, CANCELLED), sequence=0),
        workflow(DONE),
        closed(WorkflowStatus.COMPENSATED, FAILED, sequence=0),
    ],
    ids=["it took something in", "it stated something", "it ended"],
)
def test_what_the_live_one_had_not_read_is_told_apart(further: Workflow) -> None:
    found = compared(store(5, workflow()), store(6, further))

    assert (found.is_equal, found.ahead, found.behind) == (True, 0, 1)


@pytest.mark.parametrize(
    ("live", "rebuilt"),
    [
        (workflow(DONE), workflow(FAILED)),
        (workflow(DONE), workflow()),
        (closed(WorkflowStatus.COMPLETED, DONE), closed(WorkflowStatus.COMPENSATED, FAILED)),
        (closed(WorkflowStatus.COMPLETED, DONE), workflow(DONE)),
    ],
    ids=["another outcome", "no outcome", "another end", "no end"],
)
def test_however_far_it_was_read_what_no_record_explains_is_a_difference(live: Workflow, rebuilt: Workflow) -> None:
    found = compared(store(5, live), store(6, rebuilt))

    assert (found.is_equal, found.behind) == (False, 0)


def test_a_workflow_that_only_one_knows_is_a_difference_unless_the_other_has_not_read_so_far() -> None:
    assert [one.text for one in compared(store(5), store(5, workflow())).differences] == ["only the rebuilt database knows it"]
    assert [one.text for one in compared(store(5, workflow()), store(6)).differences] == ["only the live database knows it"]
    assert compared(store(5), store(6, workflow())).behind == 1
