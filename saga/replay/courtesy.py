"""What a rebuild leaves to those who live beside it: bounds to its speed, and whether there is anybody to be polite to.

A participant is at work while its consumer group moves on. One whose workers are down, whose lanes are stopped or whose
database is gone has told Kafka offsets as well, but they stand still: a rebuild holds nobody up then, and takes all it can.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from saga.clock import Clock, SystemClock
from saga.contracts.topics import fact_topics, group
from saga.errors import BrokerError
from saga.transport.port import Partition

REST = 6.0
LONGEST = 5.0  # of a rest, since work may have been held up by something else
SOON, EVERY = 1.0, 3.0  # a look takes a tenth of a second, which is nothing where somebody else reads meanwhile
STILL = 10.0


class Groups(Protocol):
    """As much of a broker as is asked here."""

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]: ...


class Throttle:
    """Holds a process up that reads more than so many records a second.

    What was not read while the machine was busy is not caught up with, but for what takes a second.
    """

    def __init__(self, per_second: float, clock: Clock | None = None) -> None:
        self.per_second, self.clock = per_second, clock or SystemClock()
        self.read, self.due = 0, self.clock.monotonic()

    def __call__(self, read: int) -> None:
        now = self.clock.monotonic()
        self.due = max(self.due, now - 1) + (read - self.read) / self.per_second
        self.read = read
        if self.due > now:
            self.clock.sleep(self.due - now)


class Courtesy:
    """While it `is_due`, has a process rest `REST` times as long as each piece of work took, whatever that waited for.

    So it takes a share of the machine, not a number of records: where others are busy its work takes longer, and its rest too.
    """

    def __init__(self, is_due: Callable[[], bool], clock: Clock | None = None) -> None:
        self.is_due, self.clock = is_due, clock or SystemClock()
        self.since: float | None = None

    def __call__(self, read: int) -> None:
        now = self.clock.monotonic()
        if self.is_due() and self.since is not None:
            self.clock.sleep(min(REST * (now - self.since), LONGEST))
        self.since = self.clock.monotonic()


class Neighbour:
    """Whether the participant is at work: whether what its group told Kafka has moved in the last `STILL` seconds.

    `offsets` asks for that; `met` is called when it is found at work for the first time.
    """

    def __init__(
        self,
        offsets: Callable[[], Mapping[Partition, int]],
        met: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self.offsets, self.met, self.clock = offsets, met, clock or SystemClock()
        self.latest: Mapping[Partition, int] | None = None
        self.moved: float | None = None
        self.due = self.clock.monotonic()

    @classmethod
    def of(cls, broker: Groups, saga: str, participant: str, lanes: Collection[int], met: Callable[[], None]) -> Neighbour:
        """The live `participant` of this saga."""
        partitions = [Partition(topic, n) for topic in fact_topics(saga) for n in lanes]
        return cls(lambda: broker.committed(group(saga, participant), partitions), met)

    def is_at_work(self) -> bool:
        """As far as is known; looks again where the last look was a while ago."""
        now = self.clock.monotonic()
        if now >= self.due:
            self._look(now)
        return self.moved is not None and now - self.moved < STILL

    def _look(self, now: float) -> None:
        self.due = now + (SOON if self.latest is None else EVERY)
        try:
            found = self.offsets()
        except BrokerError:
            return  # what cannot be seen is as it was
        if self.latest is not None and found != self.latest:
            if self.moved is None:
                self.met()
            self.moved = now
        self.latest = found
