"""What the engine needs of a log with partitions: the port that Kafka and its stand-ins implement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from saga.errors import BrokerError, OffsetOutOfRange


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record as consumed: bytes, nothing interpreted."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


RecordHeaders = Sequence[tuple[str, str | bytes | None]]
"""Headers to be written; texts as UTF-8."""


class Outbound(NamedTuple):
    """One record to be published to an explicit partition; `token` comes back with its delivery report."""

    token: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


class Delivery(NamedTuple):
    """What became of an `Outbound`: its offset, or the error after which nothing more of this producer is trusted."""

    token: str
    offset: int = -1
    error: str | None = None


class Assignments(Protocol):
    """Who hears of rebalances; called only from inside `Consumer.poll` and `Consumer.close`, on the polling thread."""

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        """Partitions came; answer the offset to begin at for each, None for its beginning."""
        ...

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Partitions go, in an orderly way: what is in hand may still be committed."""
        ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Partitions are gone already: another owner may be at work."""
        ...


class Consumer(Protocol):
    """A member of one consumer group. Nothing is committed or reset by itself."""

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Wait up to `timeout` seconds for the first record, then take what is there, at most `limit`.

        Raises BrokerError; an offset out of range names topic, partition and offset and is not retriable.
        """
        ...

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the broker, asynchronously, the next offset of each partition: for lag and loss detection only."""
        ...

    def pause(self, partitions: Iterable[Partition]) -> None: ...
    def resume(self, partitions: Iterable[Partition]) -> None: ...
    def seek(self, partition: Partition, offset: int | None) -> None:
        """Go on at that offset, None for the beginning; paused or not, nothing fetched before gets through."""
        ...

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset behind the last record of each, as the broker says now.

        It may be one at which no further record comes, as long as there may be some between.
        """
        ...

    def ends_seen(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """As `ends`, as far as the latest fetches told; never asks, so it is for looking."""
        ...

    def close(self) -> None:
        """Leave the group; `Assignments.revoked` is called first."""
        ...


class Producer(Protocol):
    """An idempotent producer, `acks=all`. After a failed delivery it is thrown away."""

    def send(self, records: Iterable[Outbound]) -> None:
        """Hand records over; raises BrokerError if the client's queue stays full."""
        ...

    def reports(self) -> list[Delivery]:
        """The deliveries reported since the last call; never waits."""
        ...

    def flush(self, timeout: float) -> None:
        """Wait until everything handed over has been reported, at most `timeout` seconds; says nothing if it was not."""
        ...

    def purge(self) -> None:
        """Forget what is not delivered and end; reports of it never come."""
        ...


class Broker(Protocol):
    """Where consumers and producers come from, and what the topics look like. Safe to use from any thread."""

    def consumer(self, group: str, topics: Sequence[str], assignments: Assignments) -> Consumer: ...
    def producer(self) -> Producer: ...
    def partitions(self, topics: Sequence[str]) -> dict[str, int | None]:
        """Topic to partition count, None for a topic that does not exist. Raises BrokerError when no broker answers."""
        ...

    def ids(self, topics: Sequence[str]) -> dict[str, str | None]:
        """Topic to what tells it from another one of its name; None where this broker knows no such thing, or no such topic.

        Raises BrokerError when no broker answers.
        """
        ...

    def kept(self, topics: Sequence[str]) -> dict[str, timedelta | None]:
        """Topic to the longest time for which it keeps a record; None for ever. Raises BrokerError where it is not told."""
        ...

    def create(self, topics: Sequence[str], partitions: int, config: Mapping[str, str]) -> None:
        """Create topics that do not exist."""
        ...

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The offsets that the group has told about, of those partitions of which it did."""
        ...

    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]:
        """The offsets that each holds now; what lies before its start has aged out or was deleted."""
        ...

    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]:
        """Every record from each start (None: the beginning) up to the end as it is now, outside of any group."""
        ...


def out_of_range(partition: Partition, offset: int, found: str = "") -> OffsetOutOfRange:
    """The error of every adapter for a position that the partition does not have; not retriable."""
    return OffsetOutOfRange(partition.topic, partition.number, offset, found)


def unknown_topics(topics: Iterable[str]) -> BrokerError:
    """The error of every adapter for topics that do not exist; retriable, since they may be created any moment."""
    return BrokerError(f"waiting for topic {', '.join(topics)}; run: saga topics apply", retriable=True)
