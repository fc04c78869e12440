"""One workflow as its records come: what is new on its lane since the last look, outside of any group."""

from __future__ import annotations

from saga.errors import BrokerError
from saga.replay.entry import Entry, entry
from saga.replay.source import TopicSource
from saga.transport.port import Partition


class Following:
    """Reads the lane of `workflow` on from where the last look ended, the first time from its beginning."""

    def __init__(self, source: TopicSource, workflow: str) -> None:
        self.source, self.workflow = source, workflow
        lane = source.lane_of(workflow)
        self._upto: dict[Partition, int | None] = {Partition(topic, lane): None for topic in reversed(source.topics)}
        self._ids = source.broker.ids(source.topics)

    def look(self) -> list[Entry]:
        """What has come about the workflow, effects never without their causes; raises BrokerError."""
        if (ids := self.source.broker.ids(self.source.topics)) != self._ids and None not in ids.values():
            raise BrokerError("a topic was deleted and made again while it was followed; begin anew with what is there")
        found = []
        for partition, start in self._upto.items():  # of twins, the end of what undoes is asked first
            for record in self.source.broker.read({partition: start}):
                self._upto[partition] = record.offset + 1
                if (one := entry(record)).workflow == self.workflow:
                    found.append(one)
        return sorted(found, key=lambda one: one.time)
