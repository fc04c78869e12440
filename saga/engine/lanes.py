"""Which lanes this thread owns: assignments of partitions turned into claims in the store, twins kept together."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from saga.clock import Clock
from saga.contracts.topics import fact_topics, group, saga_topics
from saga.count import many
from saga.delivery.recreated import Ids, changed, learn, refusal
from saga.engine.health import Part, State
from saga.engine.hindsight import Hindsight
from saga.errors import (
    BrokerError,
    DefinitionError,
    LaneFenced,
    LaneStopped,
    OffsetOutOfRange,
    StoreBehind,
    StoreBusy,
    StoreError,
    StoreReplaced,
    TopicRecreated,
)
from saga.participant.versions import Versions
from saga.store.lane import Lane
from saga.store.port import Store
from saga.transport.port import Broker, Partition, Record

log = logging.getLogger("saga.lanes")

SPLIT_PATIENCE = 30.0
CLAIM_PAUSE = 1.0
FENCED_PAUSE = 6.0  # longer than a heartbeat, by which whoever was fenced rightly hears that its partitions are gone


@dataclass(slots=True)
class Owned:
    """A lane in this thread's hands; `stopped` says why it does not go on, `resume_at` (monotonic) when it may again.

    `resting` says why it does not go on until then, `look_again` (monotonic) when to see whether a stopped one is still ours.
    `ends` says where its topics ended when it was claimed unclean; `in_doubt`: it was not found to go with its topics then.
    """

    lane: Lane
    stopped: LaneStopped | None = None
    resume_at: float | None = None
    resting: str = ""
    look_again: float = 0.0
    ends: Mapping[str, int] = field(default_factory=dict)
    in_doubt: bool = False

    @property
    def at_rest(self) -> bool:
        return self.stopped is not None or self.resume_at is not None

    def part(self, full: str | None, behind: int | None) -> Part:
        """How the lane is; `full` says why no facts are taken in, if so, `behind` how many wait meanwhile, if that is known."""
        name, wait = f"lane {self.lane.number}", "" if behind is None else f" ({many(behind, 'record waits', 'records wait')})"
        if self.stopped is not None:
            return Part(name, State.STOPPED, f"{self.stopped.reason}{wait}")
        if self.resume_at is not None:
            return Part(name, State.DEGRADED, f"rests{wait}: {self.resting}")
        if full is not None:
            return Part(name, State.DEGRADED, f"nothing is taken in{wait}: {full}")
        return Part(name, State.READY, "owned")


class Lanes:
    """The lanes of one participant that one consumer was given; hears of rebalances.

    A lane is claimed when the partition of its number is there for every topic of the saga, and given up when one goes.
    `leaving` is called before lanes are released in an orderly way, and answers which may be; `reading` while a long look at
    one goes on, and when one could not be claimed. `again` holds those that are whole here and not owned, with the time
    (monotonic) at which to claim them: what keeps them may pass, and the group would not assign them anew.
    `refused` says what keeps them; `full` why no facts are taken in, if so.
    """

    def __init__(
        self,
        versions: Versions,
        participant: str,
        partitions: int,
        *,
        store: Store,
        broker: Broker,
        clock: Clock,
        registered: bool = False,
        leaving: Callable[[Sequence[Lane]], Sequence[Lane]],
        reading: Callable[[str], None],
    ) -> None:
        self.saga, self.participant, self.count = versions.name, participant, partitions
        self.store, self.broker, self.clock, self.leaving = store, broker, clock, leaving
        self.registered, self.reading = registered, reading
        self._hindsight = Hindsight(versions, participant, store, broker, reading)
        self.topics, self.facts = saga_topics(self.saga), fact_topics(self.saga)
        self.owned: dict[int, Owned] = {}
        self.claimed: list[Lane] = []
        self.rewound: dict[Partition, int | None] = {}
        self.again: dict[int, float] = {}
        self.refused: dict[int, str] = {}
        self.full: str | None = None
        self._assigned: set[Partition] = set()
        self._split_since: float | None = None
        self._asked: Ids = {}
        self._ask_again = -math.inf

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        """Claim the lanes that are whole now; an early twin is rewound once the other one is there."""
        self._assigned.update(partitions)
        for number in sorted({p.number for p in partitions}):
            if self._is_whole(number) and number not in self.owned:
                self._claim(number, at_hand=partitions)
        self._watch_splits()
        return {partition: self._start(partition) for partition in partitions}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Give the lanes up with everything in hand published, marked and released; where that fails, as if we had crashed."""
        going = self._leave(partitions)
        try:
            tidy = self.leaving([owned.lane for owned in going]) if going else ()
            for owned in going:
                if owned.lane in tidy and not owned.in_doubt:  # else its next owner is to look for himself
                    self.store.release(owned.lane)
        except StoreError as error:
            log.warning("lanes of %s were left as they are, their next owner will tidy up: %s", self.saga, error)

    def fenced(self, fenced: LaneFenced) -> None:
        """Let a lane go that another owner claimed; it is ours again if its partitions are still assigned here later on.

        One whose database was replaced is claimed again at once, and looked at as after an unclean end.
        """
        log.warning("%s", fenced)
        del self.owned[fenced.lane]
        self.claimed = [lane for lane in self.claimed if lane.number != fenced.lane]
        self.again[fenced.lane] = self.clock.monotonic() + (0.0 if isinstance(fenced, StoreReplaced) else FENCED_PAUSE)
        self.refused[fenced.lane] = str(fenced)

    def let_go(self) -> None:
        """Let stopped lanes go that somebody has taken from us in the store: an operator who let them go on elsewhere, e.g."""
        now = self.clock.monotonic()
        for owned in [*self.owned.values()]:
            if owned.stopped is not None and now >= owned.look_again:
                owned.look_again = now + FENCED_PAUSE
                try:
                    if not self.store.committed(owned.lane):
                        self.fenced(LaneFenced(owned.lane.saga, owned.lane.number, owned.lane.epoch))
                except StoreError as error:
                    log.warning("whether lane %s/%d is still ours cannot be seen: %s", self.saga, owned.lane.number, error)

    def claim_due(self) -> None:
        """Claim those lanes again whose time has come."""
        for number in [n for n, due in self.again.items() if self.clock.monotonic() >= due]:
            self._claim(number)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget the lanes: another owner may be at work, whose claim has fenced ours."""
        for owned in self._leave(partitions):
            log.warning("lane %s/%d was taken away without notice", self.saga, owned.lane.number)

    def split(self, records: Iterable[Record]) -> dict[int, list[Record]]:
        """The records by lane, without those of lanes that do not run here and those the store has already."""
        batches: dict[int, list[Record]] = {}
        for record in records:
            owned = self.owned.get(record.partition)
            if owned is None or owned.at_rest:
                continue
            if record.offset >= owned.lane.offsets.get(record.topic, 0):
                batches.setdefault(record.partition, []).append(record)
        return batches

    def at_work(self) -> dict[int, Lane]:
        """The lanes that go on now, by number."""
        return {number: owned.lane for number, owned in self.owned.items() if not owned.at_rest}

    def running(self) -> list[Lane]:
        """The lanes that this thread owns, stopped ones included: their outbox is published all the same, if its topics are."""
        return [owned.lane for owned in self.owned.values() if not isinstance(owned.stopped, TopicRecreated)]

    def unread(self) -> dict[int, Lane]:
        """Those of which no facts are fetched now; called from any thread."""
        full = self.full is not None
        return {number: owned.lane for number, owned in self.owned.copy().items() if owned.at_rest or full}

    def parts(self, behind: Mapping[int, int]) -> list[Part]:
        """How the lanes are, those included that are to be claimed again, and how far `behind`; called from any thread."""
        found = [owned.part(self.full, behind.get(number)) for number, owned in self.owned.copy().items()]
        return found + [Part(f"lane {n}", State.DEGRADED, f"cannot be taken: {why}") for n, why in self.refused.copy().items()]

    def twins(self, number: int) -> list[Partition]:
        """The partitions that make up a lane."""
        return [Partition(topic, number) for topic in self.topics]

    def sources(self, number: int) -> list[Partition]:
        """Those of them on which facts come."""
        return [Partition(topic, number) for topic in self.facts]

    def waiting(self) -> list[Partition]:
        """Assigned partitions from which nothing may be read now."""
        return [p for p in self._assigned if self._must_wait(p)]

    def _must_wait(self, partition: Partition) -> bool:
        owned = self.owned.get(partition.number)
        return owned is None or owned.at_rest or (self.full is not None and partition.topic in self.facts)

    def check_splits(self) -> None:
        """Raise DefinitionError if twins have been in different hands for longer than any rebalance lasts."""
        if self._split_since is not None and self.clock.monotonic() - self._split_since > SPLIT_PATIENCE:
            alone = ", ".join(f"{p.topic}/{p.number}" for p in sorted(self._assigned) if not self._is_whole(p.number))
            raise DefinitionError(
                f"for {SPLIT_PATIENCE:.0f} s the group {self.saga}.{self.participant} has assigned {alone} here and the twin "
                f"partitions elsewhere; lanes need the range assignor. Run all members with this library's consumer settings."
            )

    def _is_whole(self, number: int) -> bool:
        return all(twin in self._assigned for twin in self.twins(number))

    def _claim(self, number: int, *, at_hand: Collection[Partition] = ()) -> None:
        """Own the lane, or try again later; partitions that are not `at_hand` may have been read past the lane's fence."""
        self.again.pop(number, None)
        try:
            ids = self._ids()
            self._require_ids_of_one_kind()
            lane = self.store.claim(self.saga, number, self.count, self.participant, self.registered)
            learn(lane, ids)
            recreated = self.recreated(lane, ids)
            stopped, ends = (recreated, {}) if recreated is not None else self._look(lane)
            lane.acks = {**lane.acks, "timeline": lane.timeline}
        except (StoreError, BrokerError) as error:
            if isinstance(error, StoreBusy) or (isinstance(error, BrokerError) and not error.retriable):
                raise
            log.warning("lane %s/%d cannot be taken (%s); trying again in %.0f s", self.saga, number, error, CLAIM_PAUSE)
            self.again[number] = self.clock.monotonic() + CLAIM_PAUSE
            self.refused[number] = str(error)
            self.reading(f"cannot take lane {number}: {error}")  # each of many may be waited for
            return
        self.refused.pop(number, None)
        if stopped is not None:
            log.error("%s", stopped)
        self.owned[number] = Owned(lane, stopped, ends=ends, in_doubt=stopped is not None)
        self.claimed.append(lane)
        self.rewound.update((twin, self._start(twin)) for twin in self.twins(number) if twin not in at_hand)

    def _require_ids_of_one_kind(self) -> None:
        """Without the registry of those before nothing that comes could be read: all of it would be parked, for a person."""
        if self.registered:
            return
        with self.store.unit() as unit:
            was_registered = unit.registered(self.saga)
        if was_registered:
            raise DefinitionError(
                f"found no registry, while the worker of {self.participant!r} that last had a lane of this database took the "
                f"ids of schemas from one: nothing that others state could be read here, nor by them what is stated here. "
                f"Set the same SAGA_REGISTRY as before"
            )

    def recreated(self, lane: Lane, ids: Ids) -> TopicRecreated | None:
        """Why the lane must not go on if its topics have these ids."""
        if not (topics := changed(lane, ids)):
            return None
        return refusal(lane, topics)

    def _ids(self) -> Ids:
        """Those of the topics, asked once for all lanes that are claimed at about the same time."""
        if self.clock.monotonic() >= self._ask_again:
            self._asked, self._ask_again = self.broker.ids(self.topics), self.clock.monotonic() + CLAIM_PAUSE
        return self._asked

    def _look(self, lane: Lane) -> tuple[LaneStopped | None, Mapping[str, int]]:
        """Why the lane must not go on, if so; where its topics end, if what lies behind its fence was looked at."""
        try:
            if lane.clean and not lane.has_moved and not self._is_behind_the_group(lane):
                return None, {}
            return None, self._hindsight.look(lane)
        except (StoreBehind, OffsetOutOfRange) as error:
            return LaneStopped(self.saga, lane.number, str(error)), {}

    def _is_behind_the_group(self, lane: Lane) -> bool:
        """Whether the store cannot be the one that was left clean: a backup may have been taken after a clean end, too."""
        if not lane.offsets:
            return True
        told = self.broker.committed(group(self.saga, self.participant), self.sources(lane.number))
        return any(offset > lane.offsets.get(partition.topic, 0) for partition, offset in told.items())

    def _start(self, partition: Partition) -> int | None:
        owned = self.owned.get(partition.number)
        return owned.lane.offsets.get(partition.topic) if owned else None

    def _leave(self, partitions: Sequence[Partition]) -> list[Owned]:
        self._assigned.difference_update(partitions)
        numbers = {p.number for p in partitions}
        going = [self.owned.pop(number) for number in sorted(numbers) if number in self.owned]
        self.claimed = [lane for lane in self.claimed if lane.number not in numbers]
        self.rewound = {p: offset for p, offset in self.rewound.items() if p.number not in numbers}
        for number in numbers:
            self.again.pop(number, None)
            self.refused.pop(number, None)
        self._watch_splits()
        return going

    def _watch_splits(self) -> None:
        split = any(not self._is_whole(p.number) for p in self._assigned)
        self._split_since = (self._split_since or self.clock.monotonic()) if split else None
