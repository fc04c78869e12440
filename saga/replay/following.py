"""A saga's records as they come: what is new on some lanes since the last look, outside of any group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge

from saga.errors import BrokerError
from saga.replay.entry import Entry, entry
from saga.replay.source import TopicSource
from saga.transport.port import Partition, Record


class Following:
    """Reads lanes on from where the last look ended, the first time from their beginning."""

    def __init__(self, source: TopicSource, lanes: Iterable[int]) -> None:
        self.source, self.lanes = source, [*lanes]
        self._upto: dict[Partition, int] = {}
        self._ids = source.broker.ids(source.topics)

    def look(self) -> Iterator[Entry]:
        """What has come, lane by lane, effects never without their causes.

        Raises BrokerError, which is not `retriable` where one has to begin anew. What was taken is not read again.
        """
        broker, topics = self.source.broker, self.source.topics
        if (ids := broker.ids(topics)) != self._ids and None not in ids.values():
            raise BrokerError("a topic was deleted and made again while it was followed; begin anew with what is there")
        if (counts := {*broker.partitions(topics).values()}) != {self.source.count} and None not in counts:
            raise BrokerError("partitions were added to a topic while it was followed; begin anew with all of them")
        for lane in self._with_news():
            # of twins, the end of what undoes is asked first
            last, first = [self._read(Partition(topic, lane)) for topic in reversed(self.source.topics)]
            for one in merge(map(entry, first), map(entry, last), key=lambda one: one.time):
                record = one.record
                self._upto[Partition(record.topic, record.partition)] = record.offset + 1
                yield one

    def _with_news(self) -> list[int]:
        """Asked of all at once, since each reading is a client of its own."""
        spans = self.source.broker.spans([Partition(topic, lane) for topic in self.source.topics for lane in self.lanes])
        new = {at.number for at, span in spans.items() if span.stop != self._upto.get(at, span.start)}
        return [lane for lane in self.lanes if lane in new]

    def _read(self, partition: Partition) -> Iterator[Record]:
        return self.source.broker.read({partition: self._upto.get(partition)})
