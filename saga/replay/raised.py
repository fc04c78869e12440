"""Partitions that are added to a saga's topics: whoever reads on does not read those, and what was written before is astray.

To whoever reads it by the count of today each such record is somebody's mistake; all of them together are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from saga.contracts.topics import astray, events_topic, fact_topics
from saga.errors import DefinitionError, PartitionCountChanged
from saga.replay.source import Topics
from saga.transport.port import Partition

SAMPLE = 200
"""Records at the beginning of each partition, where what was written first is found."""
_SHARE = 3  # of the workflows one: with twice the partitions half of them are astray, with any other count more


def refuse_raised(broker: Topics, saga: str, lanes: Iterable[int], count: int) -> None:
    """Raises DefinitionError where these lanes begin with workflows of which so many belong elsewhere that it is no mistake.

    However little is left of before, it is at the beginning, and none of it comes later.
    """
    found = lost = 0
    for lane in lanes:
        first = islice(broker.read({Partition(events_topic(saga), lane): None}), SAMPLE)
        keys = [*dict.fromkeys(record.key for record in first if record.key is not None)]
        old, strays = _before(keys, astray(keys, lane, count))
        found, lost = found + old, lost + strays
    if lost > 1:
        raise DefinitionError(
            f"of the first {found} workflows on {events_topic(saga)}, {lost} are not in the partition, of {count}, "
            f"to which their key belongs: partitions were added to topics that had been written to, and most of what is older "
            f"would be left out. Copy the topics to others that have as many partitions as before, each record to its own, and "
            f"read those; or add --partial to do without"
        )


def _before(keys: Sequence[bytes], strays: Collection[bytes]) -> tuple[int, int]:
    """How many workflows the longest beginning has of which enough are strays, and how many of them are."""
    lost, longest = 0, (0, 0)
    for found, key in enumerate(keys, 1):
        lost += key in strays
        if lost and lost * _SHARE >= found:
            longest = found, lost
    return longest


def require_count(broker: Topics, saga: str, count: int) -> None:
    """Raises PartitionCountChanged where there are other partitions now than those that are read."""
    for found in broker.partitions(fact_topics(saga)).values():
        if found is not None and found != count:
            raise PartitionCountChanged(saga, count, found)
