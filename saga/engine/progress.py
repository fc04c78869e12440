"""How far lanes have come on their topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from saga.engine.lanes import Lanes
from saga.store.lane import Lane
from saga.transport.port import Consumer, Partition


def lag(consumer: Consumer, lanes: Lanes) -> dict[int, int]:
    """By lane, how many records of its topics are not in the store, as far as fetches told."""
    return {number: _behind(owned.lane, consumer.ends_seen(lanes.sources(number))) for number, owned in lanes.owned.items()}


def lag_unread(lanes: Lanes, ends: Mapping[Partition, int]) -> dict[int, int]:
    """As `lag`, of those lanes that are not fetched from, as far as `ends` has them; called from any thread."""
    found = [(lane, {p: ends[p] for p in lanes.sources(number) if p in ends}) for number, lane in lanes.unread().items()]
    return {lane.number: _behind(lane, known) for lane, known in found if known}


def caught_up(consumer: Consumer, lanes: Lanes, numbers: Iterable[int]) -> set[int]:
    """Those on which nothing older than now is waiting: what would have come in time must not be found too late."""
    return {number for number in numbers if _has_all(consumer, lanes, number)}


def _behind(lane: Lane, ends: Mapping[Partition, int]) -> int:
    return sum(max(0, end - lane.offsets.get(source.topic, 0)) for source, end in ends.items())


def _has_all(consumer: Consumer, lanes: Lanes, number: int) -> bool:
    offsets, ends = lanes.owned[number].lane.offsets, consumer.ends(lanes.sources(number))
    unread = [source for source, end in ends.items() if offsets.get(source.topic, 0) < end]
    if any(source.topic in offsets for source in unread):
        return False
    return not unread or not any(lanes.broker.spans(unread).values())  # of a topic that is new here all may have aged out
