"""The one place that names topics, groups and subjects, and computes lanes: part of the contract between services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import unpack_from

from saga.contracts.message import MAX_ID_BYTES

_FACTOR, _SEED, _MASK = 0x5BD1E995, 0x9747B28C, 0xFFFFFFFF
"""Of MurmurHash2, with the seed of Kafka's `Utils.murmur2`."""


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


def astray(keys: Iterable[bytes | None], lane: int, partitions: int) -> set[bytes]:
    """Which of these keys `lane_of` gives to another partition than this one; none of those that can be no workflow's id."""
    by_size: dict[int, list[bytes]] = {}
    for key in keys:
        if key is None or len(key) > MAX_ID_BYTES:
            continue
        by_size.setdefault(len(key), []).append(key)
    hashed = (pair for alike in by_size.values() for pair in zip(alike, _murmur2_of_all(alike), strict=True))
    return {key for key, number in hashed if (number & 0x7FFFFFFF) % partitions != lane}


def _murmur2(data: bytes) -> int:
    m, mask = _FACTOR, _MASK
    h = _SEED ^ len(data)
    words = len(data) // 4
    for word in unpack_from(f"<{words}I", data):
        k = word * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if tail := data[4 * words :]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def _murmur2_of_all(keys: Sequence[bytes]) -> tuple[int, ...]:
    """`_murmur2` of keys of one length, side by side in wide integers of 64 bits for each: a tenth of the time."""
    count, size, data = len(keys), len(keys[0]), b"".join(keys)
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    mask = ones * _MASK
    h = ones * (_SEED ^ size)
    for place in range(0, size - 3, 4):
        k = _words(data, count, range(place, place + 4)) * _FACTOR & mask
        h = (h * _FACTOR ^ ((k ^ k >> 24) & mask) * _FACTOR) & mask
    if size % 4:
        h = (h ^ _words(data, count, range(size & ~3, size))) * _FACTOR & mask
    h = ((h ^ h >> 13) & mask) * _FACTOR & mask
    return unpack_from(f"<{count}Q", ((h ^ h >> 15) & mask).to_bytes(8 * count, "little"))


def _words(data: bytes, count: int, places: range) -> int:
    """The bytes at these places of each of `count` keys."""
    words, size = bytearray(8 * count), len(data) // count
    for number, place in enumerate(places):
        words[number::8] = data[place::size]
    return int.from_bytes(words, "little")
