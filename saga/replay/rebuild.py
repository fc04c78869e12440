"""A participant's store, made of its saga's topics: batch by batch, each as one transaction with the offsets behind it.

A batch is long, so that most workflows begin and end within one and are written once; of what was read of it, records are let
go of piece by piece.

After every commit the database is what a live one would be that had read so far, so it can be killed, gone on with and put in
place at any such moment. Its lanes are never left as clean, so a worker looks first whether its participant has stated anything
since. It reads the topics outside of any group. There is no outbox, no handler and no producer in here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from saga.clock import Clock, SystemClock
from saga.contracts.topics import fact_topics
from saga.delivery.recreated import require_same
from saga.errors import (
    CommitUnknown,
    DefinitionError,
    LaneStopped,
    OffsetOutOfRange,
    SagaError,
    StatementFailed,
    StoreConflict,
)
from saga.handling.intake import Intake
from saga.participant.participant import Participant
from saga.replay.aged import forgotten
from saga.replay.batch import Batch
from saga.replay.contracts import Contracts
from saga.replay.course import Course
from saga.replay.endings import Endings
from saga.replay.gathering import Pace, histories
from saga.replay.holes import Hole, holes, ranges
from saga.replay.met import Met
from saga.replay.raised import refuse_raised, require_count
from saga.replay.reading import Held, Reading
from saga.replay.restoring import Restoring
from saga.replay.shadow import Seen, Shadow, written
from saga.replay.source import Topics, TopicSource
from saga.store.dead_letter import DeadLetter, Reason
from saga.store.lane import Lane
from saga.store.port import Store
from saga.store.workflow import Workflow
from saga.transport.port import Partition, Record, unknown_topics

BATCH = 20_000
PIECE = 200
MOST_BYTES = 32_000_000
CONFLICTS = 10
CONFLICT_PAUSE = 0.05
_ANEW = "Begin with an empty database, and with --partial if what is there now is not whole"


@dataclass(slots=True)
class _Lane:
    """A lane in hand: as the database has it, what waits for facts not read yet, and what was read of open workflows.

    `met` are the workflows of which there may be rows, None if there may be rows of any. Before the offsets of `through`
    nothing is left to be read: the last of a partition may be those of a foreign transaction's marker.
    """

    lane: Lane
    held: Held
    seen: dict[str, Seen]
    met: Met | None
    through: Mapping[Partition, int] = field(default_factory=dict)

    def left(self, where: Partition, span: range) -> int:
        """How many of these offsets are still to be read."""
        return max(0, span.stop - max(span.start, self.lane.offsets.get(where.topic, 0), self.through.get(where, 0)))


class Rebuild:
    """Rebuilds the store of `participant` into `store`, from the topics at `broker`; one thread.

    `evolve`: fill the service's own tables as well, by the functions that it declared. `until`: only facts stated by then.
    `partial`: workflows of which facts are missing are rebuilt as far as they go, and marked, else `finish` refuses them.
    `lanes` are those to rebuild here, by default all; others may be rebuilt elsewhere at the same time. Then `turns` is a lock
    of them all, held while the service's own tables are written: rows such as one for each item are written for every lane, and
    transactions that take them in different orders would wait for each other in a circle.
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
        turns: AbstractContextManager[Any] | None = None,
        pace: Pace = lambda _: None,
    ) -> None:
        if evolve and (missing := participant.evolution.missing()):
            raise DefinitionError(
                f"it is not known what {', '.join(missing)} left in the tables of {participant.name!r}; declare a function for "
                f"each with @{participant.name}.evolve(...), or .unchanged_by(...), or rebuild with --engine-tables-only"
            )
        self.participant, self.store, self.broker, self.pace = participant, store, broker, pace
        self.turns = turns if turns is not None and evolve else nullcontext()
        self.evolve, self.until, self.partial, self.batch = evolve, until, partial, batch
        self.clock, self.saga = clock or SystemClock(), participant.saga.name
        self.shadow = Shadow(store, self.saga, participant.name)
        self.count = self._partitions()
        intake = Intake(participant.versions, participant.name, self.count)
        self.restoring = Restoring(participant.versions, participant.name, intake)
        self.endings = Endings(Course(participant, self.restoring, evolve))
        self.numbers = sorted(range(self.count) if lanes is None else lanes)
        self.read = 0
        self.unread: dict[str, dict[str, Hole]] = {}
        self.lanes: dict[int, _Lane] = {}

    @property
    def how(self) -> dict[str, str | None]:
        """What a rebuild that was begun must be gone on with."""
        return {"tables": "all" if self.evolve else "engine", "until": written(self.until)}

    def prepare(self, scripts: Sequence[str] = ()) -> None:
        """Make an empty database, whose tables are laid, one that is being rebuilt; `scripts` make the service's own tables."""
        self.shadow.create(scripts, self.how)

    def start(self) -> None:
        """Own the lanes. Raises DefinitionError where a worker has begun to live on the database, or partitions were added."""
        if not self.partial:
            refuse_raised(self.broker, self.saga, self.numbers, self.count)
        standing, name = self._standing(), self.participant.name
        self.shadow.claiming(standing)
        registered = self.participant.codec.registry is not None
        spans = self.broker.spans([Partition(topic, n) for topic in fact_topics(self.saga) for n in self.numbers])
        for number in self.numbers:
            lane = self.store.claim(self.saga, number, self.count, name, registered)
            if lane.epoch != standing[number][0] + 1:
                raise self._other_owner(number)
            self.shadow.claimed(number, lane.epoch)
            read = {topic: lane.offsets[topic] for topic in fact_topics(self.saga) if topic in lane.offsets}
            expected = sum(map(len, (span for p, span in spans.items() if p.number == number)))
            met = None if lane.batch else Met(expected)
            self.lanes[number] = _Lane(lane, Held(upto=read), self.shadow.seen(number), met)

    def _standing(self) -> dict[int, tuple[int, int]]:
        """Epochs and batches of the lanes, which nobody but a rebuild has claimed, maybe one that was killed at it."""
        known, tried = self.shadow.resume(self.how), self.shadow.tried()
        with self.store.unit() as unit:
            found = unit.batches(self.saga)
        standing = {number: found.get(number, (0, 0)) for number in self.numbers}
        for number, (epoch, batch) in standing.items():
            if epoch != known.get(number, 0) and tried.get(number) != (epoch - 1, batch):
                raise self._other_owner(number)
        return standing

    def _other_owner(self, number: int) -> DefinitionError:
        return DefinitionError(
            f"lane {self.saga}/{number} of this database has had another owner since the rebuild: a worker lives on "
            f"it, and its rows may not be on the topics yet. Begin with an empty database"
        )

    def left(self) -> int:
        """How many records there are still to be read."""
        return sum(self.lanes[where.number].left(where, span) for where, span in self._spans().items())

    def catch_up(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Read what is on the topics now, or until told to stop; answers how many records that was."""
        self._refuse_changed()
        before, ends = self.read, {where: span.stop for where, span in self._spans().items()}
        for one in self.lanes.values():
            if self._note_gaps(one):
                self._write(one, self._batch(one), {})  # there may be nothing left to read
            records = self._ahead(one)
            while not stopping() and self._forward(one, records, stopping):
                pass
            one.through = one.through if stopping() else ends
        return self.read - before

    def _refuse_changed(self) -> None:
        """Raises TopicRecreated where this has read other topics than those that are there, as the worker to come will do.

        PartitionCountChanged where partitions were added, of which nothing would be read.
        """
        require_count(self.broker, self.saga, self.count)
        lanes, ids = (one.lane for one in self.lanes.values()), self.broker.ids(fact_topics(self.saga))
        require_same(lanes, ids, f"what was read is of another topic of that name. {_ANEW}")

    def _note_gaps(self, one: _Lane) -> bool:
        """Pin where topics begin that are new to the lane; answers whether the beginning of one is gone.

        The worker that goes on does not acknowledge what is gone, nor take it for news should it be sent again.
        """
        new = [Partition(t, one.lane.number) for t in fact_topics(self.saga) if t not in one.held.upto]
        begins = {where.topic: span.start for where, span in self.broker.spans(new).items()} if new else {}
        one.held.upto |= begins
        gone = {topic: [(0, start)] for topic, start in begins.items() if start}
        one.lane.gaps |= gone
        aged = [Partition(topic, one.lane.number) for topic in gone]
        one.lane.forget(forgotten(self.broker, aged, self.participant.versions, self.clock.now()))
        return bool(gone)

    def _spans(self) -> dict[Partition, range]:
        return self.broker.spans([Partition(topic, n) for topic in fact_topics(self.saga) for n in self.lanes])

    def finish(self) -> dict[str, tuple[Hole, ...]]:
        """Look for what is missing, now that everything was read; answers it by workflow, if that is to be taken as it is.

        Raises SagaError otherwise: nothing is put in place then.
        """
        suspects = self.missing()
        if suspects and self.until is not None:
            suspects = self._never_whole(suspects)
        elif suspects:
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
                batch = self._batch(one)
                batch.learn(self._known(marked))
                self._write(one, batch, marked)
        return {id: (*suspects.get(id, ()), *self.unread.get(id, {}).values()) for id in {**suspects, **self.unread}}

    def _never_whole(self, suspects: Mapping[str, tuple[Hole, ...]]) -> dict[str, tuple[Hole, ...]]:
        """Those of which something is missing at any time: clocks differ, so a cause may be dated later than its effect."""
        source, contracts = TopicSource(self.broker, self.saga), Contracts([*self.participant.versions])
        found = histories(source, contracts, wanted=suspects, lanes=self.numbers)
        damaged = {history.workflow for history in found if not history.late and holes(history, contracts)}
        return {workflow: missed for workflow, missed in suspects.items() if workflow in damaged}

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
        try:
            last = self.broker.read({Partition(other, number): upto.get(other)})
            first = self.broker.read({Partition(done, number): upto.get(done)})
        except OffsetOutOfRange as gone:
            why = f"{gone.topic}/{gone.partition} has no offset {gone.offset} any more: what was still to be read is gone"
            raise LaneStopped(self.saga, number, f"{why}. {_ANEW}") from gone
        return merge(first, last, key=_moment)

    def _forward(self, one: _Lane, records: Iterator[Record], stopping: Callable[[], bool]) -> bool:
        """Take a batch in, unless there is nothing to read."""
        batch, read, size = self._batch(one), 0, 0
        while read < self.batch and size < MOST_BYTES and not (read and stopping()):
            piece = [*islice(records, min(PIECE, self.batch - read))]
            if not piece:
                break
            reading = Reading.of(self.restoring, one.lane, piece, self.until, self.clock.now())
            if not self.partial:
                self._refuse_unknown(reading.letters)
            asked = [id for id in reading.workflows if id not in batch.workflows and id not in batch.aside]
            batch.learn(self._known(asked if one.met is None else [id for id in asked if id in one.met]))
            batch.take(reading)
            read, size = read + len(piece), size + sum([len(record.value) for record in piece if record.value])
            self.pace(self.read + read)
        if read:
            self._write(one, batch, {})
        self.read += read
        return read > 0

    def _refuse_unknown(self, letters: Iterable[DeadLetter]) -> None:
        """What was published is never stated again: a later release would take up such a workflow as if it were new."""
        name = self.participant.name
        for letter in letters:
            if letter.reason is Reason.UNKNOWN_VERSION and ("ce_source", name.encode()) in letter.headers:
                known = ", ".join(map(str, self.participant.versions.numbers))
                raise SagaError(
                    f"{letter.place} is of version {letter.version}, stated by {name!r}, which knows {known} here: a release "
                    f"that knows it would do such workflows anew. Rebuild with a release that knows it; if none ever will "
                    f"again, add --partial to leave them out"
                )

    def _batch(self, one: _Lane) -> Batch:
        given = self.participant, self.restoring, one.lane, one.held, one.seen, self.clock.now(), self.evolve
        return Batch(*given, self.endings, self.partial)

    def _known(self, workflows: Collection[str]) -> dict[str, Workflow]:
        """What the database has of these; nobody else writes to it, as the epochs of the lanes will prove."""
        if not workflows:
            return {}
        with self.store.unit() as unit:
            return unit.load(self.saga, workflows)

    def _write(self, one: _Lane, batch: Batch, marked: Mapping[str, tuple[Hole, ...]]) -> None:
        batch.settle(marked)
        try:
            self._patiently(one, batch, eager=False)
        except StatementFailed:  # of some function, which is found where each is answered at once
            self._find_fault(one, batch)
        one.held = batch.held
        one.seen.update(batch.seen)
        for id, unread in batch.unread.items():
            self.unread.setdefault(id, {}).update(unread)
        if one.met is not None:
            for id in batch.written:
                one.met.add(id)
        for workflow in batch.forgotten:
            one.seen.pop(workflow, None)

    def _find_fault(self, one: _Lane, batch: Batch) -> None:
        try:
            self._patiently(one, batch, eager=True)
        except StatementFailed as error:
            first, last = batch.evolved[0].place, batch.evolved[-1].place
            why = f"what some function of evolve wrote, of {first} to {last}, is refused at the end of the transaction: {error}"
            raise LaneStopped(one.lane.saga, one.lane.number, why) from error

    def _patiently(self, one: _Lane, batch: Batch, *, eager: bool) -> None:
        ahead = replace(one.lane, batch=one.lane.batch + 1, offsets=batch.held.fence())
        for attempt in range(CONFLICTS):
            try:
                with self.turns, self.store.unit(eager=eager) as unit:
                    batch.save(unit, self.shadow, singly=eager)
                    unit.advance(ahead)
            except StoreConflict:
                if attempt == CONFLICTS - 1:
                    raise
                self.clock.sleep(CONFLICT_PAUSE)
                continue
            except CommitUnknown:
                if not self.store.committed(ahead):
                    raise
            break
        one.lane = replace(ahead, committed=ahead.batch)

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
