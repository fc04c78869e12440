"""What tests of replay share: a fleet that has lived through every kind of ending, its topics, and ways to damage them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from saga.replay.entry import Entry, entry
from saga.replay.history import History
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.transport.memory import MemoryBroker
from saga.transport.port import Record
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet


def lived(*, began: datetime = datetime(2030, 1, 1, tzinfo=UTC), name: str = "travel") -> Harness:
    """Trips that end in every way: `smooth` completes, `full` and `poor` are undone, `open` waits."""
    script = Script(failing={("hotel", "full"), ("pay", "poor")}, waiting={"open"})
    running = Harness(*fleet(script, name=name), clock=ManualClock(began))
    for name in running.stores:
        with running.transaction(name) as tx:
            tx.execute(CREATE_EFFECTS)
    for trip in ("smooth", "full", "poor", "open"):
        running.start(TripBooked(trip=trip), workflow_id=trip)
    running.settle()
    return running


def records(broker: MemoryBroker) -> list[Record]:
    """All facts on the topics, in the order of their partitions."""
    return [record for partition, log in broker.logs.items() if not partition.topic.endswith(".acks") for record in log]


def made_again(broker: MemoryBroker, topic: str) -> None:
    """The topic is deleted and made again, and others have filled each of its partitions further than it was filled before."""
    broker.recreate(topic)
    with Harness(*fleet(Script())) as others:
        for store in others.stores:
            with others.transaction(store) as tx:
                tx.execute(CREATE_EFFECTS)
        for number in range(40):
            others.start(TripBooked(trip=f"new {number}"), workflow_id=f"new {number}")
        others.settle()
        broker.logs |= {one: log for one, log in others.broker.logs.items() if one.topic == topic}


@dataclass
class ListSource:
    """Records in one lane, as a source."""

    records: Sequence[Record]
    saga: str = "travel"
    size: int | None = None
    aged: Sequence[str] = field(default_factory=list)

    def lanes(self) -> Sequence[int]:
        return (0,)

    def read(self, lane: int) -> Iterator[Entry]:
        return map(entry, self.records)


def history(records: Iterable[Record], workflow: str) -> History:
    """Of one workflow, out of all records."""
    found = History("travel", workflow)
    for one in map(entry, records):
        if one.workflow == workflow:
            found.add(one)
    return found
