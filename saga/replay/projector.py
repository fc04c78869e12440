"""What fills a projection: events and the offsets behind them in one transaction, so that each is folded exactly once.

The offsets are those of lanes named after the projection: whoever claims them fences the owner before, and the last statement
of each transaction fails for an owner that was fenced. Lanes keep the ids of their topics as well: offsets of one that was made
again under the same name say nothing of what was folded.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from itertools import islice

from saga.contracts.topics import astray, fact_topics
from saga.delivery.recreated import require_same
from saga.errors import (
    BrokerError,
    CommitUnknown,
    DefinitionError,
    LaneFenced,
    LaneStopped,
    OffsetOutOfRange,
    RegistryUnavailable,
    SagaError,
    StatementFailed,
    StoreConflict,
    StoreError,
)
from saga.participant.failure import infrastructure
from saga.replay.comparison import Database
from saga.replay.entry import Entry, entry
from saga.replay.gathering import Pace, histories
from saga.replay.history import in_causal_order, is_foreign, is_stray
from saga.replay.holes import holes
from saga.replay.projection import REBUILD, Projection, ProjectionTransaction
from saga.replay.raised import refuse_raised, require_count
from saga.replay.seen import Seen
from saga.replay.source import TopicSource
from saga.store.joining import is_sqlite
from saga.store.lane import PROJECTION, Lane
from saga.store.port import Unit
from saga.transport.port import Broker, Partition

log = logging.getLogger("saga.projector")

BATCH = 500
CONFLICTS = 10
SWAPS = 30
"""Each waits for whoever reads the live tables as long as the database lets it: what was built is worth it."""
_ANEW = "Make the tables anew of what is there, with --partial if that is not whole: saga project MODULE:PROJECTION --rebuild"
_VERSION, _PARTIAL, _EXACT, _SEEN = "version", "partial", "exact", "@seen"
_MADE = "made"
"""Beside the ids of topics, the names of the tables that the projection made."""


class Projector:
    """Fills one projection in `store` from the topics at `broker`; belongs to one thread.

    With `partial`, workflows that are not whole are folded as far as they go; else the first build refuses them.
    `leaving_out` are the places of records to do without: of one that nobody can decode there is no other end. `pace` is told
    how many records were read, once for the look at what is missing and once for the folding.
    """

    def __init__(
        self,
        projection: Projection,
        store: Database,
        broker: Broker,
        *,
        partial: bool = False,
        leaving_out: Collection[str] = (),
        batch: int = BATCH,
    ) -> None:
        projection.check()
        self.pace: Pace = lambda _: None
        self.projection, self.store, self.broker, self.partial, self.batch = projection, store, broker, partial, batch
        self.leaving_out = frozenset(leaving_out)
        self.contracts = projection.contracts
        self.source = TopicSource(broker, self.contracts.name)
        self.lanes: dict[int, Lane] = {}

    @property
    def is_partial(self) -> bool:
        """Whether the tables were begun on a history that was not asked to be whole."""
        return any(lane.offsets.get(_PARTIAL) for lane in self.lanes.values())

    def start(self) -> None:
        """Become the owner; makes the tables where there are none.

        Raises DefinitionError for tables of another version, whose owner may go on, and for those that it did not make.
        """
        self._refuse_others()
        self._are_there(self._known())
        self.lanes = self._claimed("")
        if not self._are_there(self.lanes.values()):
            self._refuse_holes()
            self._begin(self.lanes, rebuild=False)

    def _are_there(self, lanes: Collection[Lane]) -> bool:
        """Whether these lanes have tables, which are of the version at hand."""
        found = {lane.offsets.get(_VERSION, 0) for lane in lanes}
        if found - {0} and found != {self.projection.version}:
            raise DefinitionError(
                f"the tables of projection {self.projection.name!r} are of version {max(found)}, the code is of version "
                f"{self.projection.version}; run: saga project MODULE:PROJECTION --rebuild, or deploy the code that fits"
            )
        if not all(lane.offsets.get(_EXACT) for lane in lanes if found - {0}):
            raise DefinitionError(
                f"the tables of projection {self.projection.name!r} were filled by an earlier release, which did not know what "
                f"was sent again behind what came later; run: saga project MODULE:PROJECTION --rebuild"
            )
        return bool(found - {0})

    def _known(self) -> list[Lane]:
        """Its lanes as the database has them, which takes nothing from their owner."""
        name = self._owned("")
        return [lane for lane in self.store.lanes() if lane.saga == name]

    def _refuse_others(self) -> None:
        """Raises DefinitionError where a table that this projection did not make has one of the names that it would take."""
        known, live = self._known(), set(self._names(rebuild=False).values())
        made = _made(known)
        if not made and any(lane.offsets.get(_VERSION) for lane in known):
            return  # an earlier release made them and kept no list
        with self.store.unit() as unit:
            others = sorted(name for name in live - made if _is_there(unit, name))
        if others:
            raise DefinitionError(
                f"projection {self.projection.name!r} would take the place of {', '.join(others)}, which it did not make: the "
                f"service's own, or another projection's. Give its table another name, or drop what nobody needs any more"
            )

    def catch_up(self) -> int:
        """Fold everything that is on the topics now; answers how many records were read.

        After an outage (`is_outage`) it may be called again: what was not committed is read again. Raises LaneStopped for a
        record that cannot be folded.
        """
        return self._fold(self.lanes, rebuild=False)

    def rebuild(self) -> int:
        """Fold everything from the beginning into tables beside the live ones, then let these take their place at once.

        Whoever fills the live ones meanwhile goes on until that moment, and is fenced by it. Answers how many were read.
        """
        self._refuse_others()
        self._refuse_holes()
        beside = self._claimed(":rebuild")
        self._begin(beside, rebuild=True)
        count = self._fold(beside, rebuild=True)
        self._swap(beside)
        for lane in beside.values():
            self.store.release(lane)
        return count

    def close(self) -> None:
        """Give the lanes up."""
        for lane in self.lanes.values():
            self.store.release(lane)

    def _names(self, *, rebuild: bool) -> dict[str, str]:
        """Of the projection's tables, and of the one that remembers what was folded."""
        seen = f"projection_{self.projection.name.replace('-', '_')}_seen"
        return {**self.projection.names(rebuild=rebuild), _SEEN: f"{seen}{REBUILD * rebuild}"}

    def _owned(self, suffix: str) -> str:
        """What its lanes are called."""
        return f"{PROJECTION}{self.projection.name}{suffix}"

    def _claimed(self, suffix: str) -> dict[int, Lane]:
        name = self._owned(suffix)
        return {number: self.store.claim(name, number, self.source.count) for number in self.source.lanes()}

    def _refuse_holes(self) -> None:
        if self.partial:
            return
        refuse_raised(self.broker, self.contracts.name, self.source.lanes(), self.source.count)
        for history in histories(self.source, self.contracts, pace=self.pace):
            if not history.late and (missing := holes(history, self.contracts)):
                advice = f"look with `saga state {self.contracts.name}`, and add --partial to fold what is there"
                if history.versions - self.contracts.sagas.keys():
                    advice = "give the projection the contracts of that version too"
                what = f"workflow {history.workflow} is not whole, and maybe others: {missing[0].text}"
                raise SagaError(f"{what}. Nothing was folded; {advice}")
        if self.source.aged:
            log.warning("older records have aged out or were deleted: %s", "; ".join(self.source.aged))

    def _begin(self, lanes: Mapping[int, Lane], *, rebuild: bool) -> None:
        """Empty tables and the very beginning, in one transaction."""
        names, begins = self._names(rebuild=rebuild), self.source.begins()
        for lane in lanes.values():
            lane.acks = {_MADE: [*self._names(rebuild=False).values()]}
        self._refuse_changed(lanes)
        with self.store.unit() as unit:
            _drop(unit, names.values())
            Seen.create(unit, names[_SEEN])
            assert self.projection.creation is not None
            self.projection.creation(ProjectionTransaction(unit, names))
            marks = {_VERSION: self.projection.version, _EXACT: 1, **({_PARTIAL: 1} if self.partial else {})}
            self._move(unit, lanes, {n: replace(lane, offsets=marks | begins[n]) for n, lane in lanes.items()})

    def _swap(self, beside: Mapping[int, Lane]) -> None:
        """Whoever reads the live tables meanwhile is waited for."""
        live, built = self._claimed(""), {number: lane.copy() for number, lane in beside.items()}
        empty = {number: replace(lane, offsets={}) for number, lane in built.items()}
        for attempt in range(SWAPS):
            try:
                with self.store.unit() as unit:
                    self._rename(unit, _made(live.values()))
                    self._move(unit, live, built)
                    self._move(unit, beside, empty)
            except StoreConflict:
                if attempt == SWAPS - 1:
                    raise
                continue
            except CommitUnknown:
                if not all(map(self.store.committed, live.values())):
                    raise
            break
        self.lanes = live

    def _rename(self, unit: Unit, before: set[str]) -> None:
        """Put them in the place of all that were there before, also of those that this version does not have any more."""
        live = self._names(rebuild=False)
        _drop(unit, before | {*live.values()})
        for name, built in self._names(rebuild=True).items():
            unit.execute(f"ALTER TABLE {built} RENAME TO {live[name]}")

    def _move(self, unit: Unit, lanes: Mapping[int, Lane], to: Mapping[int, Lane]) -> None:
        for number, lane in lanes.items():
            lane.offsets, lane.acks, lane.batch = dict(to[number].offsets), to[number].acks, lane.batch + 1
            unit.advance(lane)

    def _refuse_changed(self, lanes: Mapping[int, Lane]) -> None:
        """Raises TopicRecreated where these lanes have read other topics than those that are there.

        PartitionCountChanged where partitions were added, of which nothing would be folded.
        """
        require_count(self.broker, self.contracts.name, self.source.count)
        ids = self.broker.ids(fact_topics(self.contracts.name))
        require_same(lanes.values(), ids, f"what was folded is of another topic of that name. {_ANEW}")

    def _fold(self, lanes: Mapping[int, Lane], *, rebuild: bool) -> int:
        count = 0
        self._refuse_changed(lanes)
        for number, lane in lanes.items():
            records = self._ahead(number, lane)
            while batch := self._judged(number, [*islice(records, self.batch)]):
                for one in batch:
                    if not self._is_readable(one):  # as every participant keeps it as a dead letter and goes on
                        log.warning("record left out: %s", one.fault or f"{one.place} is of saga {one.saga!r}")
                self._commit(lane, batch, self._names(rebuild=rebuild))
                count += len(batch)
                self.pace(count)
        return count

    def _judged(self, number: int, batch: Sequence[Entry]) -> list[Entry]:
        """The records, of which those that no participant would take for a fact of their workflow are told as faulty.

        So are those that are to be left out.
        """
        strays = astray({one.record.key for one in batch}, number, self.source.count)
        found = []
        for one in batch:
            key, fault = one.record.key, None
            if key != one.workflow.encode() or key in strays:
                fault = (
                    f"its key is {key!r}, in partition {number} of {self.source.count}; it speaks of workflow {one.workflow!r}"
                )
            elif one.place in self.leaving_out:
                fault = "it was to be left out"
            is_faulty = fault is not None and one.message is not None
            found.append(replace(one, message=None, fault=f"record {one.place}: {fault}") if is_faulty else one)
        return found

    def _ahead(self, number: int, lane: Lane) -> Iterator[Entry]:
        """What the lane has not folded yet, read as `TopicSource` reads: causes before effects."""
        first, last = fact_topics(self.contracts.name)
        try:
            after = self.broker.read({Partition(last, number): lane.offsets.get(last)})
            before = self.broker.read({Partition(first, number): lane.offsets.get(first)})
        except OffsetOutOfRange as gone:
            why = f"{gone.topic}/{gone.partition} has no offset {gone.offset} any more: what was still to be folded is gone"
            raise LaneStopped(lane.saga, lane.number, f"{why}. {_ANEW}") from gone
        return merge(map(entry, before), map(entry, after), key=lambda one: one.time)

    def _commit(self, lane: Lane, batch: Sequence[Entry], names: Mapping[str, str]) -> None:
        """One transaction, or if it fails one for each record up to the one that is to blame."""
        try:
            self._patiently(lane, batch, names, eager=False)
        except LaneFenced:
            raise
        except Exception as error:
            for one in batch:
                try:
                    self._patiently(lane, [one], names, eager=True)
                except Exception as blamed:
                    if isinstance(blamed, LaneFenced) or is_outage(blamed):
                        raise
                    why = f"record {one.place}, workflow {one.workflow}: {type(blamed).__name__}: {blamed}"
                    raise LaneStopped(lane.saga, lane.number, f"{why}. {_mend(one)}") from error

    def _patiently(self, lane: Lane, batch: Sequence[Entry], names: Mapping[str, str], *, eager: bool) -> None:
        for attempt in range(CONFLICTS):
            ahead = replace(lane, batch=lane.batch + 1, offsets={**lane.offsets, **_after(batch)})
            try:
                with self.store.unit(eager=eager) as unit:
                    self._take_in(batch, unit, names)
                    unit.advance(ahead)
            except StoreConflict:
                if attempt == CONFLICTS - 1:
                    raise
                continue
            except CommitUnknown:
                lane.batch = ahead.batch  # whatever the store says of it, no other one is given its number
                if self.store.committed(ahead):
                    break
                raise
            break
        lane.offsets, lane.batch = ahead.offsets, ahead.batch
        lane.committed = ahead.batch

    def _take_in(self, batch: Sequence[Entry], unit: Unit, names: Mapping[str, str]) -> None:
        readable = [one for one in batch if self._is_readable(one)]
        tx, seen = ProjectionTransaction(unit, names), Seen(unit, names[_SEEN], readable)
        try:
            for one in in_causal_order(readable):
                if seen.is_news(one):
                    self._apply(one, tx)
            seen.write()
        except Exception as error:
            if (outage := infrastructure(error, unit)) is None or outage is error:
                raise
            raise outage from error  # which a fold's statement says in the driver's words

    def _is_readable(self, one: Entry) -> bool:
        return one.message is not None and not is_stray(self.contracts.name, one)

    def _apply(self, one: Entry, tx: ProjectionTransaction) -> None:
        folds = self.projection.folds.get(one.type, ())
        saga = self.contracts.sagas.get(one.version)
        if not folds or (saga is not None and is_foreign(saga, one)):
            return
        if saga is None:
            raise DefinitionError(f"it is of saga version {one.version}; give the projection its contracts")
        fields = self.contracts.codec(one.version).decode(one.type, one.record.value or b"")
        tx.workflow_id = one.workflow
        for function, view in folds:
            function(view.model_validate(fields), tx)


def _mend(one: Entry) -> str:
    return f"Correct the fold, or let the projection do without this record: --leave-out {one.place}"


def is_outage(error: Exception) -> bool:
    """Whether broker, database or registry is to blame for it, so that the same may succeed later."""
    if isinstance(error, BrokerError):
        return error.retriable
    return isinstance(error, StoreError | RegistryUnavailable) and not isinstance(error, LaneFenced | StatementFailed)


def _made(lanes: Iterable[Lane]) -> set[str]:
    """The tables that a projection with these lanes has made; none where an earlier release did, which kept no list."""
    return {name for lane in lanes for name in lane.acks.get(_MADE, ())}


def _drop(unit: Unit, tables: Iterable[str]) -> None:
    """All at once where the database knows how, since they may depend on each other."""
    names = list(tables)
    if not is_sqlite(unit.connection):
        names = [", ".join(names)]
    for name in names:
        unit.execute(f"DROP TABLE IF EXISTS {name}")


def _is_there(unit: Unit, table: str) -> bool:
    if is_sqlite(unit.connection):
        found = unit.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,))
    else:
        found = unit.execute("SELECT count(to_regclass(%s))", (table,))
    return bool(found.fetchall()[0][0])


def _after(batch: Sequence[Entry]) -> dict[str, int]:
    return {one.record.topic: one.record.offset + 1 for one in batch}
