"""The heart: a micro-batch of one lane in one database transaction.

Facts are taken in, `decide` is asked, handlers run, and fences, inbox, outbox, delivery marks and the lane's offsets commit
together or not at all. If a batch fails it is split, where a handler raised or in halves: only a batch of one may blame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from saga.clock import Clock
from saga.delivery.acks import Acks
from saga.delivery.relay import Relay
from saga.engine.flight import Flight, after, incoming_of, parts
from saga.errors import CommitUnknown, StatementFailed, StoreConflict, StoreError
from saga.failpoints import Failpoint, failpoint
from saga.handling.breakers import Breakers
from saga.handling.external import QUICK_PAUSE, Externals, Intent
from saga.handling.handling import Handling, Item, is_in_the_air, workflow_of
from saga.handling.intake import Incoming, Intake
from saga.handling.invocation import HandlerFailure, Invocation
from saga.handling.parking import Resume, Setback
from saga.handling.quarantine import DEATHS, Caution, Suspect, name_of, quarantined
from saga.handling.timers import Late
from saga.handling.tracing import Tracer
from saga.handling.vector import VectorFailure
from saga.participant.escalation import parked_of
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.store.dead_letter import DeadLetter, Place
from saga.store.port import Lane, Store, Unit
from saga.transport.port import Record

log = logging.getLogger("saga.processor")

CONFLICT_ATTEMPTS = 10
READ_AHEAD = 2  # of what is polled about half is for others, or one's own coming back
CONFLICT_PAUSE = 0.05


class Processor:
    """Processes the lanes of one participant; belongs to one thread.

    `partitions` is the count of the saga's topics, `batch` bounds the messages of one transaction, `chance` draws from [0, 1)
    for the jitter of retries. `departed` holds, by lane, the transactions whose commit is not known yet, one for each at most,
    and `passing` what concerns nobody here: it is passed by the next transaction that has more to do, or by `note`.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store,
        relay: Relay,
        acks: Acks,
        clock: Clock,
        breakers: Breakers,
        partitions: int,
        *,
        batch: int,
        chance: Callable[[], float],
        tracer: Tracer,
    ) -> None:
        self.participant, self.versions, self.batch = participant, participant.versions, batch
        self.store, self.relay, self.acks, self.clock, self.chance = store, relay, acks, clock, chance
        self.invocation, self.tracer = Invocation(participant), tracer
        self.externals = Externals(self.versions.name, self.invocation, breakers, tracer, clock, chance)
        self.intake = Intake(self.versions, participant.name, partitions)
        self.handling = Handling(participant, self.invocation, breakers, self.intake.counts, tracer, chance)
        self.departed: dict[int, Flight] = {}
        self.passing: dict[int, Sequence[Incoming]] = {}
        self._cautions: dict[int, Caution] = {}

    def process(self, lane: Lane, records: Sequence[Record]) -> None:
        """Take the records in, in order; `lane` is advanced as transactions commit, the last of which `settle` waits for.

        A handler that fails parks its workflow, a record that cannot be read becomes a dead letter. Raises LaneFenced,
        StoreError.
        """
        self._take_in(lane, self.intake.read(lane, records, self.clock.now()))

    def beware(self, lane: Lane, ends: Mapping[str, int]) -> None:
        """Treat a lane that was not left in an orderly way with caution, up to these ends of its topics."""
        if not lane.clean:
            self._cautions[lane.number] = Caution(lane, READ_AHEAD * self.batch, ends)

    def take_back(self, lane: Lane) -> None:
        """Take those dead letters in that are requeued, or of a version that is known by now, in the order they came in."""
        while letters := self._recalled(lane):
            self._take_in(lane, self.intake.again(lane, letters, self.clock.now()))

    def _recalled(self, lane: Lane) -> list[DeadLetter]:
        self.settle(lane)
        with self.store.unit() as unit:
            return unit.recalled(self.versions.name, [lane.number], self.versions.numbers, self.batch)

    def _take_in(self, lane: Lane, items: Sequence[Incoming]) -> None:
        self.settle(lane)
        if (caution := self._caution(lane)) is not None:
            items = self._take_in_singly(lane, items, caution)
        items = [*self.passing.pop(lane.number, ()), *items]
        if len(items) < self.batch and all(item.is_idle for item in items):
            self.passing[lane.number] = items
            return
        for part in parts(items, self.batch):
            self.settle(lane)
            self._carry_on(lane, self._commit(lane, part, departing=True))

    def _take_in_singly(self, lane: Lane, items: Sequence[Incoming], caution: Caution) -> Sequence[Incoming]:
        """Each message alone, of which the last process may have died; answers what is left and has nothing of them in it."""
        ordinary: list[Incoming] = []
        for item in items:
            if item.message is None or not caution.holds(item.record.topic, item.record.offset):
                ordinary.append(item)
            else:
                for part in parts(ordinary, self.batch):
                    self._carry_on(lane, self._commit(lane, part))
                ordinary = []
                self._try(lane, caution, item)
            caution.passed(item.record.topic)
        return ordinary

    def _caution(self, lane: Lane) -> Caution | None:
        """How to treat a lane whose last owner did not end in an orderly way."""
        if lane.clean:
            return None
        if (known := self._cautions.get(lane.number)) is None or known.lane is not lane:
            known = self._cautions[lane.number] = Caution(lane, READ_AHEAD * self.batch)
        return known

    def _try(self, lane: Lane, caution: Caution, item: Incoming | Resume | Late) -> None:
        """One item alone, its start counted before; not at all if the process has died of it too often."""
        if (deaths := caution.begin(name_of(item))) < DEATHS:
            self._count(lane)
            self._carry_on(lane, self._commit(lane, [item]))
        else:
            log.error("%s is in quarantine: the process died of it %d times", name_of(item), deaths)
            self._carry_on(lane, self._commit(lane, [Suspect(item, deaths)]))
            caution.clear()
            self._count(lane)

    def _count(self, lane: Lane) -> None:
        with self.store.unit() as unit:
            unit.count(lane)

    def _call_again(self, lane: Lane, intent: Intent) -> None:
        """Ask what the last owner left in the air, unless the process has died of it too often."""
        caution = self._caution(lane)
        assert caution is not None
        if (deaths := caution.begin(name_of(intent))) < DEATHS:
            self._count(lane)
            self._carry_on(lane, [intent])
        else:
            failure = quarantined(intent.handler, intent.workflow_id, deaths)
            self._carry_on(lane, self._park(lane, Setback(failure, intent.tried + deaths)))
            caution.clear()
            self._count(lane)

    def resume(self, lane: Lane) -> None:
        """Acknowledge what was taken in; ask again, with the same idempotency keys, what the last owner left in the air."""
        self.settle(lane)
        self.passing.pop(lane.number, None)  # it comes again
        with self.store.unit() as unit:
            self.acks.begin(lane, unit)
            ledger = self._ledger(unit)
            workflows = ledger.load(unit.running(self.versions.name, lane.number))
            intents = [
                self.handling.intent(workflow, fence)
                for workflow in workflows.values()
                for fence in workflow.fences.values()
                if is_in_the_air(fence) and fence.error is None
            ]
        if lane.clean:
            self._carry_on(lane, intents)
        else:
            for intent in intents:
                self._call_again(lane, intent)

    def note(self, lane: Lane) -> None:
        """Keep what was heard of acknowledgments, and write what is due and what was passed."""
        self.settle(lane)
        self._persist(lane, self.passing.pop(lane.number, ()))

    @property
    def doing(self) -> str | None:
        """The handler that runs now, in words; called from any thread."""
        if (calling := self.invocation.calling) is not None:
            return f"{calling[0].title} for workflow {calling[1]}"
        if intents := self.externals.calling:
            return f"{intents[0].handler.title}, which calls the world for {len(intents)} workflows"
        return None

    def close(self) -> None:
        self.externals.close()
        self.invocation.close()

    def retry(self, lane: Lane, workflow_ids: Sequence[str]) -> None:
        """Try parked workflows again whose time has come."""
        self._see_to(lane, [Resume(id) for id in workflow_ids])

    def expire(self, lane: Lane, workflow_ids: Sequence[str]) -> None:
        """See to workflows of which a timeout has passed; to be called when nothing older waits on the lane's topics."""
        self._see_to(lane, [Late(id) for id in workflow_ids])

    def _see_to(self, lane: Lane, items: Sequence[Resume] | Sequence[Late]) -> None:
        self.settle(lane)
        if (caution := self._caution(lane)) is None:
            self._carry_on(lane, self._commit(lane, items))
        else:
            for item in items:
                self._try(lane, caution, item)

    def _carry_on(self, lane: Lane, intents: list[Intent]) -> None:
        """Call the world for committed intents and commit its answers, until nothing is in the air."""
        while intents:
            self.settle(lane)
            answers, failures = self.externals.carry_out(intents)
            intents = self._commit(lane, answers) if answers else []
            waiting = [Setback(failure, failure.tried) for failure in failures if failure.dependency is not None]
            intents += self._commit(lane, waiting) if waiting else []
            for failure in failures:
                if failure.dependency is None:
                    intents += self._park(lane, Setback(failure, failure.tried + 1))

    def _commit(self, lane: Lane, items: Sequence[Item], *, departing: bool = False) -> list[Intent]:
        """Commit the items together, or, if one of them fails, in parts; the last part may be left under way."""
        intents: list[Intent] = []
        while items:
            try:
                return intents + self._persist(lane, items, departing=departing)
            except HandlerFailure as failure:
                if failure.dependency is None and len(items) == 1:
                    return intents + self._retry(lane, items[0], failure)
                at = self.handling.reached
                if failure.dependency is None:  # whoever raised is the first to be looked at alone
                    intents += self._commit(lane, items[:at])
                    intents += self._commit(lane, items[at : at + 1])
                else:
                    intents += self._put_off(lane, items[: at + 1], failure)
                items = items[at + 1 :]
            except VectorFailure as failure:
                if not failure.is_awaited:
                    return intents + self._halve(lane, items)
                log.info("%s", failure)
                waiting = {at: Setback.of(each, each.tried, items[at]) for at, each in failure.failures.items()}
                items = [waiting.get(at, item) for at, item in enumerate(items)]
            except StatementFailed:
                if len(items) == 1:
                    raise  # and no handler has run
                return intents + self._halve(lane, items)
        return intents

    def _halve(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        middle = len(items) // 2
        return self._commit(lane, items[:middle]) + self._commit(lane, items[middle:])

    def _put_off(self, lane: Lane, items: Sequence[Item], failure: HandlerFailure) -> list[Intent]:
        """Commit the items but the last, which has just met a dependency that is away, and that it waits.

        Who failed is known and is not run again, so nothing is searched for, and no handler runs more than twice.
        """
        log.info("%s", failure)
        return self._commit(lane, [*items[:-1], Setback.of(failure, failure.tried, items[-1])])

    def _retry(self, lane: Lane, item: Item, failure: HandlerFailure) -> list[Intent]:
        """A batch of one: its handler is to blame, gets its quick retries here, and then parks its workflow."""
        attempt = failure.tried + 1
        while failure.is_quick(attempt):
            log.info("attempt %d: %s; trying again", attempt, failure)
            self.clock.sleep(self.chance() * QUICK_PAUSE)
            attempt += 1
            try:
                return self._persist(lane, [item])
            except HandlerFailure as again:
                failure = again
        setback = Setback.of(failure, failure.spent(attempt), item)
        return self._persist(lane, [setback]) if failure.dependency is not None else self._park(lane, setback)

    def _park(self, lane: Lane, setback: Setback) -> list[Intent]:
        first = setback.failure.shown_cause if setback.failure.tried == 0 else None
        log.warning("parked after attempt %d: %s", setback.attempt, setback.failure, exc_info=first)
        while True:
            try:
                return self._persist(lane, [setback])
            except HandlerFailure as failure:
                log.warning("and then, after attempt %d: %s", failure.tried + 1, failure, exc_info=failure.shown_cause)
                another = Setback(failure, failure.spent(failure.tried + 1))
                setback = replace(setback, others=(*setback.others, another))

    def _persist(self, lane: Lane, items: Sequence[Item], *, departing: bool = False) -> list[Intent]:
        """One unit, done again whole if it got into another transaction's way."""
        for attempt in range(1, CONFLICT_ATTEMPTS):
            try:
                with self.tracer.unit(self.participant.name, lane, len(items)):
                    return self._unit(lane, items, departing=departing)
            except StoreConflict as conflict:
                log.info("lane %s/%d: %s; trying again", lane.saga, lane.number, conflict)
                self.clock.sleep(self.chance() * CONFLICT_PAUSE * attempt)
        return self._unit(lane, items)

    def _unit(self, lane: Lane, items: Sequence[Item], *, departing: bool = False) -> list[Intent]:
        """One transaction, whose COMMIT may be left under way if it is `departing` and calls nobody."""
        assert lane.number not in self.departed, f"lane {lane.number} has a transaction under way"
        offsets, gaps = after(lane, items)
        ahead = replace(lane, batch=lane.batch + 1, offsets=offsets, acks=self.acks.keep(lane), gaps=gaps)
        self.handling.latest, self.handling.remarks, self.handling.letters = None, [], []
        flight = Flight(lane, items, ahead, self.handling.remarks, self.handling.letters)
        try:
            self._write(flight, departing=departing and len(items) > 1)
        except CommitUnknown:
            if not self.store.committed(ahead):
                raise
        except StatementFailed as failed:
            if len(items) > 1 or (blamed := self.handling.blame(failed)) is None:
                raise
            raise blamed from failed
        if flight.unit.under_way:
            self.departed[lane.number] = flight
        else:
            self._finish(flight)
        return flight.intents

    def _write(self, flight: Flight, *, departing: bool) -> None:
        """All of it; the lane's own row is the last statement, so a fenced owner commits nothing."""
        lane, items = flight.lane, flight.items
        with self.store.unit(eager=len(items) == 1) as unit:
            flight.unit, flight.ledger = unit, (ledger := self._ledger(unit))
            ledger.load({id for item in items if (id := workflow_of(item)) is not None})
            flight.unpublished = {id: set(w.unpublished) for id, w in ledger.workflows.items() if w.unpublished}
            flight.intents = self.handling.apply(ledger, lane, items)
            ledger.write()
            self._sort_letters(unit, lane, items)
            self._land()  # what it noted of deliveries is not to be noted again
            flight.due = self.relay.settle()
            flight.due.write(unit)
            unit.advance(flight.ahead)
            failpoint(Failpoint.UNIT_INSIDE)
            if departing and not flight.intents:
                unit.depart()

    def _land(self) -> None:
        """Wait for what departed before; where it failed, `settle` will see to it."""
        for flight in [flight for flight in self.departed.values() if flight.unit.under_way]:
            try:
                flight.unit.arrive()
            except StoreError as error:
                flight.failed = error
            else:
                del self.departed[flight.lane.number]
                self._finish(flight)

    def settle(self, lane: Lane) -> None:
        """Wait for what departed for this lane. It is done again, whole, if others were in its way or a statement failed."""
        if (flight := self.departed.pop(lane.number, None)) is None:
            return
        try:
            flight.land(self.store)
        except (StoreConflict, StatementFailed) as failed:
            log.info("lane %s/%d: %s; trying again", lane.saga, lane.number, failed)
            self._carry_on(lane, self._commit(lane, flight.items))
            return
        self._finish(flight)

    def forget(self, lane: Lane) -> None:
        """The lane is another owner's: what departed for it may arrive, and nothing follows from it."""
        flight = self.departed.pop(lane.number)
        with suppress(StoreError):
            flight.unit.arrive()
            self.relay.settled(flight.due)

    def _finish(self, flight: Flight) -> None:
        """What follows from a commit."""
        failpoint(Failpoint.UNIT_COMMITTED)
        lane, ahead = flight.lane, flight.ahead
        before, lane.batch, lane.offsets, lane.gaps = lane.offsets, ahead.batch, ahead.offsets, ahead.gaps
        self.acks.kept(lane, ahead.acks)
        self.acks.took_in(lane, before, flight.told)
        self.relay.settled(flight.due)
        self.relay.publish(lane, flight.ledger.outbox, flight.unpublished)
        self._escalate(flight.ledger)

    def _escalate(self, ledger: Ledger) -> None:
        if self.participant.escalation:
            for workflow, fence in ledger.parked():
                self.participant.escalation.tell(parked_of(self.versions.name, self.participant.name, workflow, fence))

    def _sort_letters(self, unit: Unit, lane: Lane, items: Sequence[Item]) -> None:
        """Keep what cannot be taken in, and forget what was taken back, in the transaction that does the rest."""
        back = [i.record for i in map(incoming_of, items) if i is not None and i.again]
        if back:
            unit.exhume([Place(lane.saga, record.topic, record.partition, record.offset) for record in back])
        if self.handling.letters:
            unit.bury(self.handling.letters)

    def _ledger(self, unit: Unit) -> Ledger:
        return Ledger(self.versions, self.participant.name, unit, self.clock.now())
