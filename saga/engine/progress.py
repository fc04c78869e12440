"""How far lanes have come on their topics."""

from __future__ import annotations

from collections.abc import Iterable

from saga.engine.lanes import Lanes
from saga.transport.port import Consumer


def lag(consumer: Consumer, lanes: Lanes) -> dict[int, int]:
    """By lane, how many records of its topics are not in the store, as far as fetches told."""
    return {number: _behind(consumer, lanes, number) for number in lanes.owned}


def caught_up(consumer: Consumer, lanes: Lanes, numbers: Iterable[int]) -> set[int]:
    """Those on which nothing older than now is waiting: what would have come in time must not be found too late."""
    return {number for number in numbers if _has_all(consumer, lanes, number)}


def _behind(consumer: Consumer, lanes: Lanes, number: int) -> int:
    offsets, ends = lanes.owned[number].lane.offsets, consumer.ends_seen(lanes.sources(number))
    return sum(max(0, end - offsets.get(source.topic, 0)) for source, end in ends.items())


def _has_all(consumer: Consumer, lanes: Lanes, number: int) -> bool:
    offsets, ends = lanes.owned[number].lane.offsets, consumer.ends(lanes.sources(number))
    return all(offsets.get(source.topic, 0) >= end for source, end in ends.items())
