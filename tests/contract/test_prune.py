"""Closed workflows that are deleted, on every store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from saga.errors import LaneFenced
from saga.protocol.facts import WorkflowStatus
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Changes
from saga.store.workflow import Workflow
from tests.contract.conftest import ArchivedStore

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def workflow(id_: str, days: int | None, *, lane: int = 0) -> Workflow:
    """Closed so many days ago, or open."""
    closed = None if days is None else NOW - days * DAY
    status = WorkflowStatus.COMPLETED if closed else WorkflowStatus.IN_PROGRESS
    return Workflow(id=id_, version=1, lane=lane, status=status, opened=NOW - 99 * DAY, closed=closed)


def save(store: ArchivedStore, *workflows: Workflow, saga: str = "checkout", outbox: tuple[OutboxRow, ...] = ()) -> None:
    ended = [w for w in workflows if w.closed]
    with store.unit() as unit:
        unit.save(saga, Changes(workflows=[w for w in workflows if not w.closed], closed=ended, outbox=[*outbox]))


def prune(store: ArchivedStore, lane: Lane, limit: int = 10) -> int:
    with store.unit() as unit:
        count, until = unit.prune(lane, NOW - 30 * DAY, limit)
    lane.forget(until)
    return count


def left(store: ArchivedStore, saga: str = "checkout") -> list[str]:
    return [w.id for w in store.page(saga, "", 100)]


def test_what_was_closed_long_ago_goes_the_oldest_first_and_nothing_else(store: ArchivedStore) -> None:
    save(store, workflow("a", 31), workflow("b", 33), workflow("c", 32), workflow("young", 29), workflow("open", None))
    save(store, workflow("elsewhere", 40, lane=1))
    save(store, workflow("other", 40), saga="returns")
    lane = store.claim("checkout", 0, 4)

    first = prune(store, lane, 2)
    left_by_the_first, told_by_the_first = left(store), lane.pruned
    second, third = prune(store, lane), prune(store, lane)

    assert (first, second, third) == (2, 1, 0)
    assert (left_by_the_first, told_by_the_first) == (["a", "elsewhere", "open", "young"], NOW - 32 * DAY)
    assert (left(store), left(store, "returns")) == (["elsewhere", "open", "young"], ["other"])
    assert store.find("b") == []


def test_the_next_owner_knows_how_far_it_went(store: ArchivedStore) -> None:
    save(store, workflow("a", 31))
    lane = store.claim("checkout", 0, 4)
    prune(store, lane)

    successor = store.claim("checkout", 0, 4)
    prune(store, successor)
    with store.unit() as unit:
        unit.advance(successor)

    assert lane.pruned == successor.pruned == store.claim("checkout", 0, 4).pruned == NOW - 31 * DAY
    assert [one.pruned for one in store.lanes()] == [NOW - 31 * DAY]


def test_an_owner_that_knows_of_more_that_is_gone_has_it_remembered_and_takes_nothing_back(store: ArchivedStore) -> None:
    lane = store.claim("checkout", 0, 4)
    for batch, until in enumerate((NOW - 31 * DAY, None, NOW - 50 * DAY), start=1):
        with store.unit() as unit:
            unit.advance(replace(lane, batch=batch, pruned=until))

        assert [one.pruned for one in store.lanes()] == [NOW - 31 * DAY]


def test_one_that_goes_later_and_was_closed_earlier_takes_nothing_back(store: ArchivedStore) -> None:
    save(store, workflow("a", 31))
    lane = store.claim("checkout", 0, 4)
    prune(store, lane)
    save(store, workflow("b", 50))

    assert prune(store, lane) == 1
    assert store.claim("checkout", 0, 4).pruned == NOW - 31 * DAY


def test_what_still_has_to_be_acknowledged_stays(store: ArchivedStore) -> None:
    row = OutboxRow("e1", "checkout", 0, "checkout.events", "a", "checkout.Paid", 1, [], b"", NOW - 40 * DAY)
    save(store, workflow("a", 31), outbox=(row,))
    lane = store.claim("checkout", 0, 4)

    before = prune(store, lane)
    with store.unit() as unit:
        unit.clean([Published("checkout", "a", 1, 0)])

    assert (before, prune(store, lane)) == (0, 1)


def test_a_former_owner_deletes_nothing(store: ArchivedStore) -> None:
    save(store, workflow("a", 31))
    former = store.claim("checkout", 0, 4)
    store.claim("checkout", 0, 4)

    with pytest.raises(LaneFenced):
        prune(store, former)

    assert left(store) == ["a"]
    assert store.claim("checkout", 0, 4).pruned is None


def test_what_is_rolled_back_is_there(store: ArchivedStore) -> None:
    save(store, workflow("a", 31))
    lane = store.claim("checkout", 0, 4)

    with suppress(ZeroDivisionError), store.unit() as unit:
        unit.prune(lane, NOW, 10)
        1 / 0  # noqa: B018

    assert left(store) == ["a"]
    assert lane.pruned is None
    assert store.claim("checkout", 0, 4).pruned is None
