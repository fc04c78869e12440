"""Records that concern nobody here, one's own above all: they cost no transaction of their own, and are passed all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.travel import Script, TripBooked, fleet


@pytest.fixture
def running() -> Iterator[Harness]:
    """The agency alone, which has booked a trip and read that it has; a quiet moment lasts a second for it."""
    with Harness(*fleet(Script())[:1], partitions=1, mark_after=1.0) as running:
        running.start(TripBooked(trip="rome"))
        running.settle()
        yield running


def stored(running: Harness) -> int:
    [lane] = running.stores["agency"].lanes()
    return lane.offsets.get("travel.events", 0)


def test_what_concerns_nobody_here_waits_for_a_transaction_that_has_more_to_do(running: Harness) -> None:
    assert [len(items) for items in running.loops["agency"].processor.passing.values()] == [1]
    assert stored(running) == 0

    running.start(TripBooked(trip="oslo"))
    running.settle()

    assert stored(running) == 0
    assert [len(items) for items in running.loops["agency"].processor.passing.values()] == [2]


def test_in_a_quiet_moment_it_is_passed_by_itself(running: Harness) -> None:
    running.advance(6)

    assert stored(running) == 1
    assert not running.loops["agency"].processor.passing


def test_kafka_hears_of_it_only_when_the_store_has_it(running: Harness) -> None:
    partition = Partition("travel.events", 0)
    running.advance(2)
    before = running.broker.committed("travel.agency", [partition]).get(partition, 0)

    running.advance(6)
    running.advance(2)

    assert before == 0
    assert running.broker.committed("travel.agency", [partition]) == {partition: 1}


def test_an_owner_that_leaves_passes_it_first(running: Harness) -> None:
    running.loops["agency"].leave()

    assert stored(running) == 1


def test_after_a_crash_it_comes_again_and_changes_nothing(running: Harness) -> None:
    running.crash("agency")
    running.settle()
    running.advance(6)

    assert stored(running) == len(running.facts()[0])
    assert running.loops["agency"].processor.intake.counts.handled == 0
