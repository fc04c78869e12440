"""Which lanes this thread owns: assignments of partitions turned into claims in the store, twins kept together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from saga.clock import Clock
from saga.contracts.message import from_headers
from saga.contracts.topics import saga_topics
from saga.errors import DecodeError, DefinitionError, LaneStopped, StoreBehind
from saga.store.port import Lane, Store
from saga.transport.port import Broker, Partition, Record

log = logging.getLogger("saga.lanes")

SPLIT_PATIENCE = 30.0
_CHUNK = 500


@dataclass(slots=True)
class Owned:
    """A lane in this thread's hands; `stopped` says why it does not go on, `resume_at` (monotonic) when it may again."""

    lane: Lane
    stopped: LaneStopped | None = None
    resume_at: float | None = None


class Lanes:
    """The lanes of one participant that one consumer was given; hears of rebalances.

    A lane is claimed when the partition of its number is there for every topic of the saga, and given up when one goes.
    `leaving` is called before lanes are released in an orderly way.
    """

    def __init__(
        self,
        saga: str,
        participant: str,
        partitions: int,
        *,
        store: Store,
        broker: Broker,
        clock: Clock,
        leaving: Callable[[Sequence[Lane]], None],
    ) -> None:
        self.saga, self.participant, self.count = saga, participant, partitions
        self.store, self.broker, self.clock, self.leaving = store, broker, clock, leaving
        self.topics = saga_topics(saga)
        self.owned: dict[int, Owned] = {}
        self.claimed: list[Lane] = []
        self.rewound: dict[Partition, int | None] = {}
        self._assigned: set[Partition] = set()
        self._split_since: float | None = None

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        """Claim the lanes that are whole now; an early twin is rewound once the other one is there."""
        self._assigned.update(partitions)
        for number in sorted({p.number for p in partitions}):
            if all(twin in self._assigned for twin in self.twins(number)) and number not in self.owned:
                self._claim(number)
                self.rewound.update(
                    (twin, self._start(twin)) for twin in self.twins(number) if twin not in partitions
                )
        self._watch_splits()
        return {partition: self._start(partition) for partition in partitions}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Give the lanes up with everything in hand published, marked and released."""
        going = self._leave(partitions)
        if going:
            self.leaving([owned.lane for owned in going])
        for owned in going:
            self.store.release(owned.lane)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget the lanes: another owner may be at work, whose claim has fenced ours."""
        for owned in self._leave(partitions):
            log.warning("lane %s/%d was taken away without notice", self.saga, owned.lane.number)

    def split(self, records: Iterable[Record]) -> dict[int, list[Record]]:
        """The records by lane, without those of lanes that do not run here and those the store has already."""
        batches: dict[int, list[Record]] = {}
        for record in records:
            owned = self.owned.get(record.partition)
            if owned is None or owned.stopped or owned.resume_at is not None:
                continue
            if record.offset >= owned.lane.offsets.get(record.topic, 0):
                batches.setdefault(record.partition, []).append(record)
        return batches

    def running(self) -> Iterator[Lane]:
        """The lanes that this thread owns, stopped ones included: their outbox is published all the same."""
        return (owned.lane for owned in self.owned.values())

    def twins(self, number: int) -> list[Partition]:
        """The partitions that make up a lane."""
        return [Partition(topic, number) for topic in self.topics]

    def waiting(self) -> list[Partition]:
        """Assigned partitions from which nothing may be read now."""
        at_rest = {n for n, owned in self.owned.items() if owned.stopped or owned.resume_at is not None}
        return [p for p in self._assigned if p.number not in self.owned or p.number in at_rest]

    def check_splits(self) -> None:
        """Raise DefinitionError if twins have been in different hands for longer than any rebalance lasts."""
        if self._split_since is not None and self.clock.monotonic() - self._split_since > SPLIT_PATIENCE:
            alone = ", ".join(f"{p.topic}/{p.number}" for p in self._assigned if p.number not in self.owned)
            raise DefinitionError(
                f"for {SPLIT_PATIENCE:.0f} s the group {self.saga}.{self.participant} has assigned {alone} here and the twin "
                f"partitions elsewhere; lanes need the range assignor. Run all members with this library's consumer settings."
            )

    def _claim(self, number: int) -> None:
        lane = self.store.claim(self.saga, number, self.count)
        owned = self.owned[number] = Owned(lane)
        if not lane.clean or not lane.offsets:
            try:
                self._refuse_a_store_behind(lane)
            except StoreBehind as error:
                owned.stopped = LaneStopped(self.saga, number, str(error))
                log.error("%s", owned.stopped)
        self.claimed.append(lane)

    def _refuse_a_store_behind(self, lane: Lane) -> None:
        """Read on from the fence: an own fact that the store does not know means that it was restored or lost."""
        starts = {twin: lane.offsets.get(twin.topic) for twin in self.twins(lane.number)}
        own: dict[str, tuple[int, Record]] = {}
        for record in self.broker.read(starts):
            try:
                message = from_headers(dict(record.headers), b"")
            except DecodeError:
                continue  # the lane itself will stop there and say so
            if message.kind.source == self.participant:
                if message.sequence > own.get(message.workflow_id, (0, record))[0]:
                    own[message.workflow_id] = message.sequence, record
                if len(own) == _CHUNK:
                    self._compare(own)
                    own = {}
        self._compare(own)

    def _compare(self, own: Mapping[str, tuple[int, Record]]) -> None:
        with self.store.unit() as unit:
            known = unit.load(self.saga, list(own))
        for workflow_id, (sequence, record) in own.items():
            found = known[workflow_id].sequence if workflow_id in known else 0
            if sequence > found:
                raise StoreBehind(
                    f"{record.topic}/{record.partition}@{record.offset} holds fact {sequence} of {self.participant!r} about "
                    f"workflow {workflow_id}, but this database knows {found}: it was restored from a backup, or is not "
                    f"the one that {self.participant!r} used. Nothing was run again. Put the right database back."
                )

    def _start(self, partition: Partition) -> int | None:
        owned = self.owned.get(partition.number)
        return owned.lane.offsets.get(partition.topic) if owned else None

    def _leave(self, partitions: Sequence[Partition]) -> list[Owned]:
        self._assigned.difference_update(partitions)
        numbers = {p.number for p in partitions}
        going = [self.owned.pop(number) for number in sorted(numbers) if number in self.owned]
        self.claimed = [lane for lane in self.claimed if lane.number not in numbers]
        self._watch_splits()
        return going

    def _watch_splits(self) -> None:
        split = any(p.number not in self.owned for p in self._assigned)
        self._split_since = (self._split_since or self.clock.monotonic()) if split else None
