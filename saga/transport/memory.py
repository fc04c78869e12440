"""A log in this process, for tests and simulation: the same port, the same errors, and nothing happens by itself.

Deterministic: with `timeout=0` everything takes place inside the calls, in an order that depends on nothing else. Members of a
group hear of a rebalance inside their own `poll`, and a partition is handed on only after its owner was told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from threading import Condition

from saga.errors import BrokerError, DefinitionError, LifecycleError
from saga.transport.port import Assignments, Delivery, Outbound, Partition, Record, out_of_range, unknown_topics

Fault = Callable[[Outbound], str | None]
"""Asked for every record published: None lets it through, a text fails its delivery with that error."""


class MemoryBroker:
    """`topics` exist from the start, others must be created; `partitions` is the count of the former.

    `offsets` is what groups told about theirs: by group, then by partition. Records before the offset in `begins` are gone.
    """

    def __init__(self, topics: Iterable[str] = (), *, partitions: int = 4, fault: Fault | None = None) -> None:
        self.fault = fault
        self.offsets: dict[str, dict[Partition, int]] = defaultdict(dict)
        self.changed = Condition()
        self.logs: dict[Partition, list[Record]] = {}
        self.begins: dict[Partition, int] = defaultdict(int)
        self._counts: dict[str, int] = {}
        self._made: dict[str, int] = defaultdict(int)
        self._groups: dict[str, _Group] = {}
        self.create(list(topics), partitions, {})

    def consumer(self, group: str, topics: Sequence[str], assignments: Assignments) -> MemoryConsumer:
        if missing := [topic for topic in topics if topic not in self._counts]:
            raise unknown_topics(missing)
        with self.changed:
            members = self._groups.setdefault(group, _Group(group, self._counts))
            return MemoryConsumer(self, members, topics, assignments)

    def producer(self) -> MemoryProducer:
        return MemoryProducer(self)

    def partitions(self, topics: Sequence[str]) -> dict[str, int | None]:
        return {topic: self._counts.get(topic) for topic in topics}

    def kept(self, topics: Sequence[str]) -> dict[str, timedelta | None]:
        return dict.fromkeys(topics)

    def ids(self, topics: Sequence[str]) -> dict[str, str | None]:
        return {topic: f"{topic}#{self._made[topic]}" if topic in self._counts else None for topic in topics}

    def recreate(self, topic: str) -> None:
        """Delete a topic with all its records and what groups told about it, and make it again."""
        with self.changed:
            self._made[topic] += 1
            for partition in (p for p in self.logs if p.topic == topic):
                self.logs[partition] = []
                self.begins.pop(partition, None)
                for told in self.offsets.values():
                    told.pop(partition, None)
            self.changed.notify_all()

    def add(self, topics: Sequence[str], partitions: int) -> None:
        """Give topics more partitions, up to this count."""
        with self.changed:
            for topic in topics:
                self.logs |= {Partition(topic, n): [] for n in range(self._counts[topic], partitions)}
                self._counts[topic] = partitions
            for group in self._groups.values():
                group.share_anew()

    def create(self, topics: Sequence[str], partitions: int, config: Mapping[str, str]) -> None:
        if partitions < 1:
            raise DefinitionError(f"found {partitions} partitions for topics {', '.join(topics)}; expected at least 1")
        with self.changed:
            for topic in topics:
                if topic not in self._counts:
                    self._counts[topic] = partitions
                    self.logs |= {Partition(topic, n): [] for n in range(partitions)}

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        with self.changed:
            return {p: offset for p, offset in self.offsets[group].items() if p in partitions}

    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]:
        with self.changed:
            if missing := [partition.topic for partition in partitions if partition not in self.logs]:
                raise unknown_topics(missing)
            return {partition: range(self.begins[partition], len(self.logs[partition])) for partition in partitions}

    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]:
        with self.changed:
            found: list[Record] = []
            for partition, start in starts.items():
                if (records := self.logs.get(partition)) is None:
                    raise unknown_topics([partition.topic])
                begin = self.begins[partition]
                first = begin if start is None else start
                if not begin <= first <= len(records):
                    raise out_of_range(partition, first, f", only {begin} to {len(records)}")
                found += records[first:]
        return iter(found)

    def append(self, outbound: Outbound) -> Delivery:
        """Put one record at the end of its partition, or tell why not."""
        partition = Partition(outbound.topic, outbound.partition)
        with self.changed:
            error = self.fault(outbound) if self.fault else None
            if error is None and partition not in self.logs:
                error = f"unknown partition {partition.topic}/{partition.number}"
            if error is not None:
                return Delivery(outbound.token, error=error)
            records = self.logs[partition]
            offset = len(records)
            headers = [(name, v.encode() if isinstance(v, str) else v) for name, v in outbound.headers]
            records.append(Record(partition.topic, partition.number, offset, outbound.key, outbound.value, headers))
            self.changed.notify_all()
            return Delivery(outbound.token, offset)

    def evict(self, consumer: MemoryConsumer) -> None:
        """Take a member's partitions away as if its session had expired: it is told `lost` in its next poll and joins again."""
        with self.changed:
            consumer.expire()
            self.changed.notify_all()


class MemoryConsumer:
    """A member of a group of one MemoryBroker. Nothing of topics that are `held` reaches it, nor anything if `unreachable`."""

    def __init__(self, broker: MemoryBroker, group: _Group, topics: Sequence[str], assignments: Assignments) -> None:
        self._broker, self._group, self._topics, self._assignments = broker, group, topics, assignments
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._expired = False
        self.held: set[str] = set()
        self.unreachable = False
        self._failed = self._closed = False
        group.join(self, topics)

    def poll(self, limit: int, timeout: float) -> list[Record]:
        if self._closed or self._failed:
            raise LifecycleError("this consumer is closed, or a callback failed: close it and open another one")
        self._refuse_unreachable()
        try:
            self._rebalance()
        except Exception:
            self._failed = True
            raise
        with self._broker.changed:
            self._broker.changed.wait_for(self._has_news, timeout)
            return self._take(limit)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        with self._broker.changed:
            mine = {p: offset for p, offset in offsets.items() if self._group.owners.get(p) is self}
            self._broker.offsets[self._group.name].update(mine)

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._paused.update(self._owned(partitions, "pause"))

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._paused.difference_update(self._owned(partitions, "resume"))

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        self._refuse_unreachable()
        return {partition: len(self._broker.logs[partition]) for partition in partitions}

    def ends_seen(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return {partition: len(self._broker.logs[partition]) for partition in partitions}

    def seek(self, partition: Partition, offset: int | None) -> None:
        (owned,) = self._owned([partition], "seek")
        self._positions[owned] = self._broker.begins[owned] if offset is None else offset

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._tell_lost()
            if self._positions:
                self._assignments.revoked(list(self._positions))
        finally:
            with self._broker.changed:
                self._group.leave(self)
                self._broker.changed.notify_all()

    def expire(self) -> None:
        """Lose everything without being asked, and hear of it in the next poll; the broker's lock is held."""
        self._expired = True
        self._group.leave(self)

    def _refuse_unreachable(self) -> None:
        if self.unreachable:
            raise BrokerError("the broker is out of reach", retriable=True)

    def _rebalance(self) -> None:
        self._tell_lost()
        share = self._group.share(self)
        if going := [p for p in self._positions if p not in share]:
            self._assignments.revoked(going)
            with self._broker.changed:
                self._release(going)
                self._broker.changed.notify_all()
        with self._broker.changed:
            coming = self._group.claim(self)
        if coming:
            starts = self._assignments.assigned(coming)
            begins = self._broker.begins
            self._positions |= {p: begins[p] if (start := starts[p]) is None else start for p in coming}

    def _tell_lost(self) -> None:
        if not self._expired:
            return
        self._expired, lost = False, list(self._positions)
        self._positions.clear()
        self._paused.clear()
        if lost:
            self._assignments.lost(lost)
        if not self._closed:
            self._group.join(self, self._topics)

    def _has_news(self) -> bool:
        ready = any(self._waiting(p) for p in self._positions)
        return ready or self._expired or self._group.is_due(self, self._positions)

    def _waiting(self, partition: Partition) -> bool:
        if partition in self._paused or partition.topic in self.held:
            return False
        return self._positions[partition] != len(self._broker.logs[partition])

    def _take(self, limit: int) -> list[Record]:
        waiting = [p for p in self._positions if self._waiting(p)]
        for partition in waiting:
            self._refuse_out_of_range(partition)
        taken: list[Record] = []
        while waiting and len(taken) < limit:
            partition = waiting.pop(0)
            position = self._positions.pop(partition)
            part = self._broker.logs[partition][position : position + limit - len(taken)]
            self._positions[partition] = position + len(part)  # now the last in order, so that the next poll is fair
            taken += part
        return taken

    def _refuse_out_of_range(self, partition: Partition) -> None:
        position, end = self._positions[partition], len(self._broker.logs[partition])
        if not self._broker.begins[partition] <= position <= end:
            self._positions[partition] = end
            self._paused.add(partition)
            raise out_of_range(partition, position)

    def _owned(self, partitions: Iterable[Partition], verb: str) -> list[Partition]:
        wanted = list(partitions)
        if foreign := [p for p in wanted if p not in self._positions]:
            raise BrokerError(
                f"cannot {verb} {', '.join(f'{p.topic}/{p.number}' for p in foreign)}: not assigned to this member"
            )
        return wanted

    def _release(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            del self._positions[partition]
            self._paused.discard(partition)
            self._group.owners.pop(partition, None)


class MemoryProducer:
    """Records are in the log when `send` returns; only their reports wait to be asked for."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._reported: list[Delivery] = []
        self._ended = False

    def send(self, records: Iterable[Outbound]) -> None:
        self._refuse_ended()
        self._reported += [self._broker.append(record) for record in records]

    def reports(self) -> list[Delivery]:
        self._refuse_ended()
        reported, self._reported = self._reported, []
        return reported

    def flush(self, timeout: float) -> None:
        self._refuse_ended()

    def purge(self) -> None:
        self._ended = True

    def _refuse_ended(self) -> None:
        if self._ended:
            raise LifecycleError("this producer was purged; open another one")


class _Group:
    """Members in the order in which they joined, what each should own (range assignment), and who owns what now."""

    def __init__(self, name: str, counts: Mapping[str, int]) -> None:
        self.name, self._counts = name, counts
        self.owners: dict[Partition, MemoryConsumer] = {}
        self._members: dict[MemoryConsumer, Sequence[str]] = {}
        self._shares: dict[MemoryConsumer, dict[Partition, None]] = {}

    def join(self, member: MemoryConsumer, topics: Sequence[str]) -> None:
        self._members[member] = topics
        self.share_anew()

    def leave(self, member: MemoryConsumer) -> None:
        self._members.pop(member, None)
        self.share_anew()
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner is not member}

    def share_anew(self) -> None:
        self._shares.clear()

    def share(self, member: MemoryConsumer) -> Collection[Partition]:
        if (known := self._shares.get(member)) is None:
            topics = self._members.get(member, ())
            known = self._shares[member] = {Partition(topic, n): None for topic in topics for n in self._range(member, topic)}
        return known

    def claim(self, member: MemoryConsumer) -> list[Partition]:
        free = [p for p in self.share(member) if p not in self.owners]
        self.owners |= dict.fromkeys(free, member)
        return free

    def is_due(self, member: MemoryConsumer, owned: Iterable[Partition]) -> bool:
        share = self.share(member)
        return any(p not in share for p in owned) or any(p not in self.owners for p in share)

    def _range(self, member: MemoryConsumer, topic: str) -> range:
        subscribed = [m for m, topics in self._members.items() if topic in topics]
        each, more = divmod(self._counts[topic], len(subscribed))
        index = subscribed.index(member)
        start = index * each + min(index, more)
        return range(start, start + each + (index < more))
