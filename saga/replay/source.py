"""Where replay reads from: a saga's topics outside of any group, or what stands in for them.

A lane is read as one stream, its twin partitions merged by the time that the records carry. That order serves to hold few
workflows in memory and nothing else: whatever is made of the records must not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Protocol

from saga.contracts.topics import fact_topics, lane_of
from saga.errors import BrokerError
from saga.replay.entry import Entry, entry
from saga.transport.port import Partition, Record, unknown_topics


class Topics(Protocol):
    """As much of a broker as replay is given: it can read, and nothing else."""

    def partitions(self, topics: Sequence[str]) -> dict[str, int | None]: ...
    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]: ...
    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]: ...
    def ids(self, topics: Sequence[str]) -> dict[str, str | None]: ...


class Source(Protocol):
    """What is known of a saga, lane by lane: a workflow is in one lane only.

    `size` is the number of records, as far as it is known; `aged` says of which partitions the beginning is gone.
    """

    saga: str
    size: int | None
    aged: Sequence[str]

    def lanes(self) -> Sequence[int]: ...
    def read(self, lane: int) -> Iterator[Entry]:
        """All of the lane's records as they are when this is called; bounded memory."""
        ...


class TopicSource:
    """The topics of a saga. Raises BrokerError where there are none, or where they were not made alike.

    What is deleted between the first question and the reading of a lane is told in `aged` as well.
    """

    aged: Sequence[str]

    def __init__(self, broker: Topics, saga: str) -> None:
        self.broker, self.saga, self.topics = broker, saga, fact_topics(saga)
        counts = broker.partitions(self.topics)
        if missing := [topic for topic, count in counts.items() if count is None]:
            raise unknown_topics(missing)
        if len(set(counts.values())) > 1:
            raise BrokerError(f"found {counts} partitions; expected the same count for both topics of a saga")
        self.count = counts[self.topics[0]] or 0
        spans = self._spans(self.lanes())
        self.size: int | None = sum(map(len, spans.values()))
        self._ids, self._begins = broker.ids(self.topics), {p: span.start for p, span in spans.items()}
        self.aged = self._late = [_begins_late(p, start) for p, start in self._begins.items() if start]

    def lanes(self) -> Sequence[int]:
        return range(self.count)

    def lane_of(self, workflow: str) -> int:
        """The lane in which all records of a workflow are."""
        return lane_of(workflow, self.count)

    def read(self, lane: int) -> Iterator[Entry]:
        self._look_for_changes(lane)
        # What undoes is read up to an earlier moment than what is undone, so nothing is seen before its cause.
        last, first = [self.broker.read({Partition(topic, lane): None}) for topic in reversed(self.topics)]
        return merge(map(entry, first), map(entry, last), key=lambda one: one.time)

    def begins(self) -> dict[int, dict[str, int]]:
        """By lane the first offset that is there now, by topic."""
        spans = self._spans(self.lanes())
        return {n: {topic: spans[Partition(topic, n)].start for topic in self.topics} for n in self.lanes()}

    def _spans(self, lanes: Iterable[int]) -> dict[Partition, range]:
        return self.broker.spans([Partition(topic, n) for topic in self.topics for n in lanes])

    def _look_for_changes(self, lane: int) -> None:
        """Note what was deleted since this source was made; raises BrokerError if a topic was made again."""
        if self.broker.ids(self.topics) != self._ids:
            raise BrokerError(f"a topic of saga {self.saga!r} was deleted and made again while it was read; read it once more")
        spans = self._spans([lane])
        self._late += [_begins_late(p, span.start) for p, span in spans.items() if span.start > self._begins[p]]
        self._begins |= {p: span.start for p, span in spans.items()}


def _begins_late(partition: Partition, start: int) -> str:
    return f"{partition.topic}/{partition.number} begins at offset {start}"
