"""How far lanes have come on their topics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

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


class Mark(NamedTuple):
    """Where the topics of a lane ended at a moment: once read that far, it has all that came before."""

    lane: Lane
    moment: datetime
    ends: Mapping[str, int]

    @property
    def is_reached(self) -> bool:
        return all(self.lane.offsets.get(topic, 0) >= end for topic, end in self.ends.items())


def mark(consumer: Consumer, lanes: Lanes, number: int, moment: datetime) -> Mark:
    """Where the lane's topics end; `moment` is to be now, or before."""
    lane, ends = lanes.owned[number].lane, consumer.ends(lanes.sources(number))
    unread = [source for source, end in ends.items() if end and source.topic not in lane.offsets]
    spans = lanes.broker.spans(unread) if unread else {}
    aged_out = {source for source, span in spans.items() if not span}  # of a topic that is new here all may have
    return Mark(lane, moment, {source.topic: end for source, end in ends.items() if source not in aged_out})


def _behind(lane: Lane, ends: Mapping[Partition, int]) -> int:
    return sum(max(0, end - lane.offsets.get(source.topic, 0)) for source, end in ends.items())
