"""What becomes of lanes when their claim fails, when they are fenced, and when the store is not the one that was left."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from saga.contracts.topics import events_topic, saga_topics
from saga.engine.lanes import CLAIM_PAUSE, FENCED_PAUSE, Lanes
from saga.engine.loop import Loop
from saga.engine.pulse import SLOW, Pulse
from saga.errors import BrokerError, DefinitionError, StoreError
from saga.store.lane import Lane
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryBroker, MemoryConsumer
from saga.transport.port import Partition, Record
from tests.travel import Script, TripBooked, fleet

LANES = 2


class FlakyStore(MemoryStore):
    """A store whose claims and releases fail while it is away."""

    away = False

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        self._answer()
        return super().claim(saga, lane, partitions, participant, registered)

    def release(self, lane: Lane) -> None:
        self._answer()
        super().release(lane)

    def _answer(self) -> None:
        if self.away:
            raise StoreError("the database is away")


class FlakyBroker(MemoryBroker):
    """A broker whose topics cannot be read from outside a group while it is away."""

    away = False

    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]:
        if self.away:
            raise BrokerError("no broker answers", retriable=True)
        return super().read(starts)


class Agency:
    """The agency in one thread, on two lanes."""

    def __init__(self, broker: MemoryBroker, store: MemoryStore, lanes: int = LANES, clock: ManualClock | None = None) -> None:
        self.clock, self.store = clock or ManualClock(), store
        self.participant = fleet(Script(), clock=self.clock)[0]
        self.loop = Loop(
            self.participant,
            store,
            broker,
            lanes,
            batch=10,
            stopping=threading.Event(),
            chance=lambda: 0.5,
            idle_wait=0.0,
            mark_after=0.0,
        )
        self.loop.join()
        self.settle()

    @property
    def owned(self) -> set[int]:
        return {*self.loop.lanes.owned}

    @property
    def stopped(self) -> dict[int, str]:
        return {n: str(owned.stopped) for n, owned in self.loop.lanes.owned.items() if owned.stopped}

    def settle(self) -> None:
        while self.loop.turn() or self.loop.turn():  # after a claim the lane is read in the next turn
            pass

    def rest(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    def start(self, *ids: str) -> None:
        with self.store.transaction() as tx:
            for id in ids:
                self.participant.start(TripBooked(trip=id), tx, workflow_id=id)
        self.settle()

    def evict(self, broker: MemoryBroker) -> None:
        assert isinstance(self.loop.consumer, MemoryConsumer)
        broker.evict(self.loop.consumer)


@pytest.fixture
def broker() -> FlakyBroker:
    return FlakyBroker(saga_topics("travel"), partitions=LANES)


def published(broker: MemoryBroker) -> int:
    return sum(len(broker.logs[Partition(events_topic("travel"), n)]) for n in range(LANES))


def test_lanes_that_cannot_be_claimed_are_claimed_once_the_database_is_back(broker: FlakyBroker) -> None:
    store = FlakyStore()
    store.away = True
    agency = Agency(broker, store)
    assert agency.owned == set()

    store.away = False
    agency.rest(CLAIM_PAUSE)
    agency.start("w0", "w2")

    assert agency.owned == {0, 1}
    assert published(broker) == 2
    assert agency.loop.processor.intake.counts.ignored == 2


def test_lanes_whose_topics_cannot_be_compared_with_the_store_wait_for_the_broker(broker: FlakyBroker) -> None:
    broker.away = True
    agency = Agency(broker, MemoryStore())
    assert agency.owned == set()

    broker.away = False
    agency.rest(CLAIM_PAUSE)

    assert agency.owned == {0, 1}


def test_a_lane_that_is_given_up_while_the_database_is_away_is_tidied_up_by_its_next_owner(broker: FlakyBroker) -> None:
    store = FlakyStore()
    first = Agency(broker, store)
    first.start("w0", "w2")
    store.away = True
    first.loop.leave()
    store.away = False

    second = Agency(broker, store)

    assert second.owned == {0, 1}
    assert second.stopped == {}
    assert not second.loop.lanes.owned[0].lane.clean


def test_a_fenced_lane_is_claimed_again_if_its_partitions_stay_here(broker: FlakyBroker) -> None:
    store = MemoryStore()
    agency = Agency(broker, store)
    store.claim("travel", 0, LANES)  # e.g. a former owner that was stopped in the midst of its own claim
    agency.start("w2", "w0", "w3")
    assert agency.owned == {1}

    agency.rest(FENCED_PAUSE)

    assert agency.owned == {0, 1}
    assert published(broker) == 3
    assert agency.loop.lanes.owned[0].lane.offsets[events_topic("travel")] == 2


def test_a_fenced_lane_whose_partitions_went_is_not_claimed_again(broker: FlakyBroker) -> None:
    store = MemoryStore()
    agency = Agency(broker, store)
    successor = store.claim("travel", 0, LANES)
    agency.start("w2")
    agency.loop.lanes.lost([Partition(topic, 0) for topic in saga_topics("travel")])

    agency.rest(FENCED_PAUSE)

    assert agency.owned == {1}
    assert store.committed(successor)


@pytest.mark.parametrize("clean", [True, False])
def test_a_store_restored_from_a_backup_stops_the_lanes_that_went_on_without_it(broker: FlakyBroker, clean: bool) -> None:
    store = MemoryStore()
    first = Agency(broker, store)
    first.start("w0", "w2")
    if clean:
        first.loop.leave()
    backup = copy.deepcopy(store._tables)
    if clean:
        first = Agency(broker, store)
    first.start("w3")
    first.loop.leave()

    store._tables = backup
    restored = Agency(broker, store)

    assert restored.owned == {0, 1}
    assert set(restored.stopped) == {0}
    assert "travel.events/0@1 holds fact 1 of 'agency' about workflow w3, but this database knows 0" in restored.stopped[0]
    assert "Put the right database back" in restored.stopped[0]


@pytest.mark.parametrize("again", [True, False])
def test_such_a_lane_stops_again_whenever_its_worker_is_started(broker: FlakyBroker, again: bool) -> None:
    store = MemoryStore()
    first = Agency(broker, store)
    first.start("w0", "w2")
    first.loop.leave()
    backup = copy.deepcopy(store._tables)
    first = Agency(broker, store)
    first.start("w3")
    first.loop.leave()

    store._tables = copy.deepcopy(backup)
    restored = Agency(broker, store)
    restored.loop.leave()
    if again:  # the very backup, which says that it was left clean
        store._tables = backup
    restored = Agency(broker, store)

    assert set(restored.stopped) == {0}


def test_a_record_that_others_wrote_in_our_name_stops_no_lane(broker: FlakyBroker, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    agency = Agency(broker, store)
    agency.start("w0")
    [own] = [record for n in range(LANES) for record in broker.logs[Partition(events_topic("travel"), n)]]
    forged = [(name, {"ce_id": b"made-up", "ce_sequence": b"9"}.get(name, value)) for name, value in own.headers]
    broker.logs[Partition(own.topic, own.partition)].append(own._replace(offset=1, headers=forged))
    agency.evict(broker)  # an unclean end

    agency.rest(FENCED_PAUSE)

    assert agency.stopped == {}
    assert f"travel.events/{own.partition}@1 speaks in our name, with an id that we do not give" in caplog.text


def test_what_was_read_before_a_lane_was_whole_is_read_again_from_its_fence(broker: FlakyBroker) -> None:
    store = FlakyStore()
    agency = Agency(broker, store)
    agency.start("w2", "w3", "w5")
    agency.evict(broker)
    store.away = True
    agency.settle()  # the partitions come, the claims fail, and records may be read
    agency.start("w8")
    store.away = False

    agency.rest(CLAIM_PAUSE)

    ends = {n: len(broker.logs[Partition(events_topic("travel"), n)]) for n in range(LANES)}
    assert {n: owned.lane.offsets.get(events_topic("travel"), 0) for n, owned in agency.loop.lanes.owned.items()} == ends


def test_a_lane_that_stops_at_its_claim_and_is_taken_over_in_that_moment_ends_nothing(
    broker: FlakyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    first = Agency(broker, store)
    first.start("w0", "w2")
    first.loop.leave()
    broker.recreate(events_topic("travel"))
    look = Lanes._claim

    def taken_over(lanes: Lanes, number: int, **options: Any) -> None:
        look(lanes, number, **options)
        if number == 0:
            store.claim("travel", number, LANES)  # the operator's command

    monkeypatch.setattr(Lanes, "_claim", taken_over)
    second = Agency(broker, store)

    assert set(second.stopped) == {1}


class Mute(MemoryStore):
    """A store of which every question is waited for for some seconds, in vain, while it is `mute`; `ages` of the pulse then."""

    mute = False

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.clock, self.ages = clock, list[float]()
        self.pulse: Pulse | None = None

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        self._wait()
        return super().claim(saga, lane, partitions, participant, registered)

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        self._wait()
        with super().unit(eager=eager) as unit:
            yield unit

    def _wait(self) -> None:
        if self.mute:
            self.clock.advance(5)
            self.ages += [self.pulse.age] if self.pulse is not None else []
            raise StoreError("no answer")


@pytest.mark.parametrize("owned", [True, False], ids=["lanes that rest", "lanes that are given"])
def test_a_database_that_does_not_answer_for_many_lanes_makes_no_worker_look_dead(owned: bool) -> None:
    store = Mute(clock := ManualClock())
    broker = MemoryBroker(saga_topics("travel"), partitions=80)
    agency = Agency(broker, store, lanes=80, clock=clock)
    assert len(agency.owned) == 80
    store.mute, store.pulse = True, agency.loop.pulse
    if not owned:
        agency.evict(broker)
    for number in range(80):  # nobody can read it, which is to be kept
        broker.logs[Partition(events_topic("travel"), number)].append(Record(events_topic("travel"), number, 0, b"", b""))

    for _ in range(10):
        agency.loop.turn()

    assert len(store.ages) > 80
    assert max(store.ages) < SLOW


def test_a_worker_without_the_registry_of_those_before_takes_no_lane_and_fences_nobody() -> None:
    store, broker = MemoryStore(), MemoryBroker(saga_topics("travel"), partitions=LANES)
    before = store.claim("travel", 0, LANES, "agency", registered=True)

    with pytest.raises(DefinitionError, match="Set the same SAGA_REGISTRY as before"):
        Agency(broker, store)

    with store.unit() as unit:
        assert unit.registered("travel")
        unit.advance(replace(before, batch=1))
