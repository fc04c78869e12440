"""The one place that names topics, groups and subjects, and computes lanes: part of the contract between services."""

from __future__ import annotations

from functools import lru_cache
from struct import unpack_from


def events_topic(saga: str) -> str:
    """Facts `done`."""
    return f"{saga}.events"


def compensations_topic(saga: str) -> str:
    """All other facts: events of failure and compensation, and the framework's control records."""
    return f"{saga}.compensations"


def acks_topic(saga: str) -> str:
    """Acknowledgments, without a key: partition p speaks of partition p of the others."""
    return f"{saga}.acks"


def fact_topics(saga: str) -> tuple[str, str]:
    """Where facts travel: what is handled, acknowledged and replayed."""
    return events_topic(saga), compensations_topic(saga)


def saga_topics(saga: str) -> tuple[str, str, str]:
    """The topics that make up a lane: partition p of each."""
    return *fact_topics(saga), acks_topic(saga)


def subject(topic: str, type_name: str) -> str:
    """Where the registry keeps a type: TopicRecordName, since a topic carries several."""
    return f"{topic}-{type_name}"


def group(saga: str, participant: str) -> str:
    """The participant's consumer group."""
    return f"{saga}.{participant}"


@lru_cache(maxsize=16_384)
def lane_of(workflow_id: str, partitions: int) -> int:
    """The partition that Java's default partitioner and librdkafka's `murmur2_random` give to this key."""
    return (_murmur2(workflow_id.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with the seed of Kafka's `Utils.murmur2`."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    words = len(data) // 4
    for word in unpack_from(f"<{words}I", data):
        k = word * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if tail := data[4 * words :]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
