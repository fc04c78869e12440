"""Reading on from a lane's fence: what a participant hears of it meanwhile, and what of a backlog is read at all."""

from __future__ import annotations

import pytest

from saga.contracts.topics import events_topic, saga_topics
from saga.engine import hindsight
from saga.engine.hindsight import Hindsight
from saga.errors import StoreBehind
from saga.store.lane import Lane
from saga.store.memory import MemoryStore
from saga.transport.memory import MemoryBroker
from saga.transport.port import Partition, Record
from tests.travel import Script, TripBooked, fleet, harness

EVENTS = Partition(events_topic("travel"), 0)


@pytest.fixture
def own() -> Record:
    """The agency's own first fact of a workflow."""
    with harness(Script(), partitions=1) as running:
        running.start(TripBooked(trip="w0"), workflow_id="w0")
        running.settle()
        return running.facts()[0][0]


def looked(records: list[Record], fence: int = 0) -> tuple[dict[str, int], list[str]]:
    """Where the topics end for an empty store, and what was told meanwhile."""
    told: list[str] = []
    broker = MemoryBroker(saga_topics("travel"), partitions=1)
    broker.logs[EVENTS] += [record._replace(offset=offset) for offset, record in enumerate(records)]
    lane = Lane("travel", 0, epoch=1, batch=0, offsets={EVENTS.topic: fence})
    ends = Hindsight(fleet(Script())[0].versions, "agency", MemoryStore(), broker, told.append).look(lane)
    return dict(ends), told


def by_another(record: Record) -> Record:
    return record._replace(headers=[(name, b"airline" if name == "ce_source" else value) for name, value in record.headers])


def test_of_what_others_stated_nothing_is_read_but_who_did(own: Record) -> None:
    unreadable = own._replace(headers=[("ce_source", b"airline")])

    assert looked([by_another(own), unreadable, own._replace(headers=())]) == ({EVENTS.topic: 3}, [])


def test_an_own_fact_anywhere_behind_the_fence_must_be_known(own: Record) -> None:
    others = [by_another(own)] * 3

    assert looked([own, *others], fence=1) == ({EVENTS.topic: 4}, [])
    with pytest.raises(StoreBehind, match=r"travel\.events/0@3 holds fact 1 of 'agency' about workflow w0"):
        looked([*others, own])


def test_a_long_look_says_how_far_it_has_come(own: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hindsight, "_TOLD_EVERY", 2)

    _, told = looked([by_another(own)] * 5)

    assert told == [f"looks whether its store is the right one: {count} records behind the fence of lane 0" for count in (2, 4)]
