"""What a rebuild leaves to others: its bounds, its rests, and when there is somebody to rest for."""

from __future__ import annotations

import pytest

from saga.errors import BrokerError
from saga.replay.courtesy import EVERY, LONGEST, REST, STILL, Courtesy, Neighbour, Throttle
from saga.testing.clock import ManualClock
from saga.transport.port import Partition

LANE = Partition("travel.events", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Group:
    """What a consumer group told Kafka."""

    def __init__(self) -> None:
        self.offset, self.is_away = 0, False

    def __call__(self) -> dict[Partition, int]:
        if self.is_away:
            raise BrokerError("no answer", retriable=True)
        return {LANE: self.offset}


def test_no_more_is_read_in_a_second_than_is_allowed_and_a_pause_is_not_made_up_for(clock: ManualClock) -> None:
    throttle, moments = Throttle(1000, clock), list[float]()

    for read, pause in ((2000, 0), (2500, 10), (3500, 0), (4500, 0)):
        clock.advance(pause)
        throttle(read)
        moments.append(clock.monotonic())

    assert moments == [2.0, 12.0, 12.5, 13.5]


@pytest.mark.parametrize(("work", "rest"), [(0.25, 0.25 * REST), (60, LONGEST)])
def test_each_piece_of_work_is_followed_by_a_rest_as_long_as_the_work_asks_for(
    clock: ManualClock, work: float, rest: float
) -> None:
    courtesy = Courtesy(lambda: True, clock)
    clock.advance(100)  # its own start is not work
    courtesy(0)
    began = clock.monotonic()

    for read in (1000, 2000):
        clock.advance(work)
        courtesy(read)

    assert clock.monotonic() - began == 2 * (work + rest)


def test_nobody_rests_where_there_is_nobody_to_rest_for(clock: ManualClock) -> None:
    courtesy = Courtesy(lambda: False, clock)

    for read in (1000, 2000, 3000):
        clock.advance(1)
        courtesy(read)

    assert clock.monotonic() == 3


def test_a_participant_is_at_work_from_its_first_step_until_it_has_stood_still_for_a_while(clock: ManualClock) -> None:
    group, met = Group(), list[float]()
    neighbour = Neighbour(group, lambda: met.append(clock.monotonic()), clock)
    found = dict[float, bool]()

    for second in range(30):
        group.offset += 5 < second <= 10
        found[second] = neighbour.is_at_work()
        clock.advance(1)

    begins, ends = min(s for s in found if found[s]), max(s for s in found if found[s])
    assert 6 <= begins <= 6 + EVERY
    assert 10 + STILL - 1 <= ends <= 10 + STILL + EVERY
    assert all(found[second] for second in range(int(begins), int(ends)))
    assert met == [begins]


def test_a_participant_that_was_at_work_already_is_noticed_at_the_second_look(clock: ManualClock) -> None:
    group = Group()
    neighbour = Neighbour(group, clock=clock)

    first = neighbour.is_at_work()
    group.offset += 1
    clock.advance(1)

    assert [first, neighbour.is_at_work()] == [False, True]


def test_kafka_is_not_asked_at_every_piece_of_work(clock: ManualClock) -> None:
    asked = list[float]()

    def offsets() -> dict[Partition, int]:
        asked.append(clock.monotonic())
        return {}

    neighbour = Neighbour(offsets, clock=clock)

    for _ in range(100):
        neighbour.is_at_work()
        clock.advance(0.125)

    assert asked == [0, 1, 4, 7, 10]


def test_while_kafka_does_not_answer_nothing_has_moved(clock: ManualClock) -> None:
    group = Group()
    neighbour = Neighbour(group, clock=clock)
    neighbour.is_at_work()
    group.offset, group.is_away = 1, True
    clock.advance(EVERY)

    away = neighbour.is_at_work()
    group.is_away = False
    clock.advance(EVERY)

    assert [away, neighbour.is_at_work()] == [False, True]


def test_the_group_of_the_participant_is_asked_about_all_its_lanes() -> None:
    class Broker:
        def committed(self, group: str, partitions: object) -> dict[Partition, int]:
            asked.append((group, partitions))
            return {}

    asked = list[tuple[str, object]]()

    Neighbour.of(Broker(), "travel", "hotels", [0, 1], lambda: None).is_at_work()

    topics = ("travel.events", "travel.compensations")
    assert asked == [("travel.hotels", [Partition(topic, n) for topic in topics for n in (0, 1)])]
