"""A participant's store, made of its saga's topics: batch by batch, each as one transaction with the offsets behind it.

After every commit the database is what a live one would be that had read so far, so it can be killed, gone on with and put in
place at any such moment. It reads the topics outside of any group. There is no outbox, no handler and no producer in here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import merge
from itertools import islice
from threading import Event, Lock
from typing import Any, Protocol

from saga.clock import Clock, SystemClock
from saga.contracts.topics import fact_topics
from saga.errors import CommitUnknown, DefinitionError, LaneStopped, SagaError, StatementFailed, StoreConflict
from saga.handling.intake import Intake
from saga.participant.participant import Participant
from saga.replay.batch import Batch, Held, Reading
from saga.replay.gathering import Pace
from saga.replay.holes import Hole, ranges
from saga.replay.restoring import Restoring
from saga.replay.shadow import Seen, Shadow, written
from saga.store.port import Lane, Store
from saga.transport.port import Partition, Record, unknown_topics

BATCH = 2_000
CONFLICTS = 10
CONFLICT_PAUSE = 0.05


class Topics(Protocol):
    """As much of a broker as a rebuild is given: it can read, and nothing else."""

    def partitions(self, topics: Sequence[str]) -> dict[str, int | None]: ...
    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]: ...
    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]: ...


class Flag(Protocol):
    """An event of threading or of multiprocessing."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...


class Turns:
    """How several rebuilds of one database keep out of each other's way: freely, until they were in it once.

    `contended` and `lock` are shared by them all. Rows of the service's own, such as one for each item, may be written for
    every lane, and transactions that take them in different orders would wait for each other in a circle.
    """

    def __init__(self, contended: Flag, lock: AbstractContextManager[Any]) -> None:
        self.contended, self.lock = contended, lock

    def take(self) -> AbstractContextManager[Any]:
        """Around a transaction."""
        return self.lock if self.contended.is_set() else nullcontext()


@dataclass(slots=True)
class _Lane:
    """A lane in hand: as the database has it, what waits for facts not read yet, and what was read of open workflows."""

    lane: Lane
    held: Held
    seen: dict[str, Seen]


class Rebuild:
    """Rebuilds the store of `participant` into `store`, from the topics at `broker`; one thread.

    `evolve`: fill the service's own tables as well, by the functions that it declared. `until`: only facts stated by then.
    `partial`: workflows of which facts are missing are rebuilt as far as they go, and marked, else `finish` refuses them.
    `lanes` are those to rebuild here, by default all; others may be rebuilt elsewhere at the same time.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store,
        broker: Topics,
        *,
        evolve: bool = True,
        until: datetime | None = None,
        partial: bool = False,
        lanes: Collection[int] | None = None,
        clock: Clock | None = None,
        batch: int = BATCH,
        turns: Turns | None = None,
        pace: Pace = lambda _: None,
    ) -> None:
        if evolve and (missing := participant.evolution.missing()):
            raise DefinitionError(
                f"it is not known what {', '.join(missing)} left in the tables of {participant.name!r}; declare a function for "
                f"each with @{participant.name}.evolve(...), or .unchanged_by(...), or rebuild with --engine-tables-only"
            )
        self.participant, self.store, self.broker, self.pace = participant, store, broker, pace
        self.turns = turns or Turns(Event(), Lock())
        self.evolve, self.until, self.partial, self.batch = evolve, until, partial, batch
        self.clock, self.saga = clock or SystemClock(), participant.saga.name
        self.shadow = Shadow(store, self.saga, participant.name)
        self.count = self._partitions()
        intake = Intake(participant.versions, participant.name, self.count)
        self.restoring = Restoring(participant.versions, participant.name, intake)
        self.numbers = sorted(range(self.count) if lanes is None else lanes)
        self.read = 0
        self.lanes: dict[int, _Lane] = {}

    @property
    def how(self) -> dict[str, str | None]:
        """What a rebuild that was begun must be gone on with."""
        return {"tables": "all" if self.evolve else "engine", "until": written(self.until)}

    def prepare(self, scripts: Sequence[str] = ()) -> None:
        """Make an empty database, whose tables are laid, one that is being rebuilt; `scripts` make the service's own tables."""
        self.shadow.create(scripts, self.how)

    def start(self) -> None:
        """Own the lanes. Raises DefinitionError where a worker has begun to live on the database."""
        known = self.shadow.resume(self.how)
        spans = self.broker.spans([Partition(topic, n) for topic in fact_topics(self.saga) for n in self.numbers])
        for number in self.numbers:
            lane = self.store.claim(self.saga, number, self.count, self.participant.name)
            if lane.epoch != known.get(number, 0) + 1:
                raise DefinitionError(
                    f"lane {self.saga}/{number} of this database has had another owner since the rebuild: a worker lives on "
                    f"it, and its rows may not be on the topics yet. Begin with an empty database"
                )
            self.shadow.claimed(number, lane.epoch)
            lane.gaps = {p.topic: [(0, span.start)] for p, span in spans.items() if p.number == number and span.start}
            read = {topic: lane.offsets[topic] for topic in fact_topics(self.saga) if topic in lane.offsets}
            self.lanes[number] = _Lane(lane, Held(upto=read), self.shadow.seen(number))

    def left(self) -> int:
        """How many records there are still to be read."""
        spans = self.broker.spans([Partition(topic, n) for topic in fact_topics(self.saga) for n in self.lanes])
        return sum(max(0, s.stop - max(s.start, self.lanes[p.number].lane.offsets.get(p.topic, 0))) for p, s in spans.items())

    def catch_up(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Read what is on the topics now, or until told to stop; answers how many records that was."""
        before = self.read
        for one in self.lanes.values():
            records = self._ahead(one)
            while not stopping() and (batch := [*islice(records, self.batch)]):
                self._carefully(one, batch)
                self.read += len(batch)
                self.pace(self.read)
        return self.read - before

    def finish(self) -> dict[str, tuple[Hole, ...]]:
        """Look for what is missing, now that everything was read; answers it by workflow, if that is to be taken as it is.

        Raises SagaError otherwise: nothing is put in place then.
        """
        if self.until is not None:
            return {}
        suspects = self.missing()
        if suspects:
            self.catch_up()  # partitions were read one after the other, so the end of one may lack what the other has
            again = self.missing()
            suspects = {workflow: holes for workflow, holes in suspects.items() if again.get(workflow) == holes}
        if suspects and not self.partial:
            workflow, holes = next(iter(suspects.items()))
            others = f", and {len(suspects) - 1} more workflows are not whole" if len(suspects) > 1 else ""
            raise SagaError(
                f"workflow {workflow} is not whole: {holes[0].text}{others}. Older records may have aged out; this database is "
                f"not to be put in place. Add --partial to take what is there, and to have such workflows marked"
            )
        for one in self.lanes.values():
            if marked := {id: holes for id, holes in suspects.items() if id in one.seen or id in one.held.own}:
                self._patiently(one, [], eager=False, marked=marked)
        return suspects

    def close(self) -> None:
        """Give the lanes up in an orderly way."""
        for one in self.lanes.values():
            self.store.release(one.lane)

    def missing(self) -> dict[str, tuple[Hole, ...]]:
        """What is missing of workflows that have not ended here, or ended without it."""
        found: dict[str, list[Hole]] = {}
        for one in self.lanes.values():
            for workflow, own in one.held.own.items():
                found.setdefault(workflow, []).extend(Hole("trigger", own[number].why) for number in sorted(own))
            for workflow, seen in one.seen.items():
                for source, bits in sorted(seen.items()):
                    if gaps := _gaps(bits):
                        text = f"{ranges(gaps)} of {source} {'is' if len(gaps) == 1 else 'are'} missing"
                        found.setdefault(workflow, []).append(Hole("sequence", f"fact {text}"))
        return {workflow: tuple(holes) for workflow, holes in found.items()}

    def _ahead(self, one: _Lane) -> Iterator[Record]:
        """What the lane has not read yet, its twins merged by the time that records carry, so that few facts have to wait.

        Of twins, the end of the compensations is asked first, so nothing is read before its cause.
        """
        done, other = fact_topics(self.saga)
        upto, number = one.held.upto, one.lane.number
        last = self.broker.read({Partition(other, number): upto.get(other)})
        first = self.broker.read({Partition(done, number): upto.get(done)})
        return merge(first, last, key=_moment)

    def _carefully(self, one: _Lane, batch: Sequence[Record]) -> None:
        """One transaction, or, if a statement fails in it and it is not known whose, one for each part."""
        try:
            self._patiently(one, batch, eager=len(batch) == 1)
        except StatementFailed as error:
            if len(batch) == 1:
                record = batch[0]
                place = f"{record.topic}/{record.partition}@{record.offset}"
                raise LaneStopped(one.lane.saga, one.lane.number, f"record {place}: {error}") from error
            middle = len(batch) // 2
            self._carefully(one, batch[:middle])
            self._carefully(one, batch[middle:])

    def _patiently(
        self, one: _Lane, records: Sequence[Record], *, eager: bool, marked: dict[str, tuple[Hole, ...]] | None = None
    ) -> None:
        reading = Reading.of(self.restoring, one.lane, records, self.until, self.clock.now())
        for attempt in range(CONFLICTS):
            batch = Batch(self.participant, self.restoring, one.lane, one.held, one.seen, self.clock.now(), self.evolve)
            try:
                with self.turns.take(), self.store.unit(eager=eager) as unit:
                    batch.load(unit, reading, marked or {})
                    batch.take(reading)
                    batch.settle(marked or {})
                    batch.save(unit, self.shadow)
                    ahead = replace(one.lane, batch=one.lane.batch + 1, offsets=batch.held.fence())
                    unit.advance(ahead)
            except StoreConflict:
                if attempt == CONFLICTS - 1:
                    raise
                self.turns.contended.set()
                self.clock.sleep(CONFLICT_PAUSE)
                continue
            except CommitUnknown:
                if not self.store.committed(ahead):
                    raise
            break
        one.lane, one.held = ahead, batch.held
        one.seen.update(batch.seen)
        for workflow in batch.forgotten:
            one.seen.pop(workflow, None)

    def _partitions(self) -> int:
        counts = self.broker.partitions(fact_topics(self.saga))
        if missing := [topic for topic, count in counts.items() if count is None]:
            raise unknown_topics(missing)
        if len(set(counts.values())) > 1:
            raise DefinitionError(f"found {counts} partitions; expected the same count for both topics of a saga")
        return next(count for count in counts.values() if count is not None)


def _moment(record: Record) -> bytes:
    """Good enough to merge by: nothing depends on it."""
    return next((value for name, value in record.headers if name == "ce_time" and value), b"")


def _gaps(bits: int) -> list[int]:
    """The numbers from 1 up to the highest that are not there."""
    return [number for number in range(1, bits.bit_length()) if not bits >> number & 1]
