"""The one place that names topics and groups, computes lanes, and says what the topics must look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from saga.errors import DefinitionError

RETENTION = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What is to be done about one topic, and why; `config` is what it is created with."""

    topic: str
    action: Literal["create", "ok", "refuse"]
    reason: str
    config: Mapping[str, str] = field(default_factory=dict)


def events_topic(saga: str) -> str:
    """Facts `done`."""
    return f"{saga}.events"


def compensations_topic(saga: str) -> str:
    """All other facts: events of failure and compensation, and the framework's control records."""
    return f"{saga}.compensations"


def saga_topics(saga: str) -> tuple[str, str]:
    """The topics that make up a lane: partition p of each."""
    return events_topic(saga), compensations_topic(saga)


def group(saga: str, participant: str) -> str:
    """The participant's consumer group."""
    return f"{saga}.{participant}"


def plan(saga: str, found: Mapping[str, int | None], partitions: int, *, retention: timedelta = RETENTION) -> list[TopicPlan]:
    """What makes the topics of a saga right, given the partition counts `found` (None or absent: no such topic).

    A wrong count is refused and never changed, since it would send workflows to other lanes; so is creating the twin of a
    refused topic. Raises DefinitionError for a count or retention below 1.
    """
    if partitions < 1 or retention < timedelta(milliseconds=1):
        raise DefinitionError(f"found {partitions} partitions and retention {retention}; expected both to be positive")
    topics = saga_topics(saga)
    wrong = [topic for topic in topics if found.get(topic) not in (None, partitions)]
    # Event history: what compaction removes could not be replayed.
    config = {"cleanup.policy": "delete", "retention.ms": str(retention // timedelta(milliseconds=1))}
    return [_plan(topic, found.get(topic), partitions, wrong, config) for topic in topics]


def _plan(topic: str, count: int | None, partitions: int, wrong: list[str], config: Mapping[str, str]) -> TopicPlan:
    if topic in wrong:
        return TopicPlan(
            topic,
            "refuse",
            f"it has {count} partitions, {partitions} are wanted: workflows would change lanes. Ask for {count}, "
            f"or drain the saga and re-create its topics",
        )
    if count is not None:
        return TopicPlan(topic, "ok", f"it has {count} partitions")
    if wrong:
        return TopicPlan(topic, "refuse", f"it does not exist, and {', '.join(wrong)} has another partition count")
    return TopicPlan(topic, "create", "it does not exist", config)


def lane_of(workflow_id: str, partitions: int) -> int:
    """The partition that Java's default partitioner and librdkafka's `murmur2_random` give to this key."""
    return (_murmur2(workflow_id.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with the seed of Kafka's `Utils.murmur2`."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    if tail := data[whole:]:
        h = ((h ^ int.from_bytes(tail, "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return h ^ (h >> 15)
