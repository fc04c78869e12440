"""The transactions of one thread's lanes: what is taken in, decided and written together, and what follows from its commit.

Fences, inbox, outbox, delivery marks and the lane's offsets commit together or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from saga.clock import Clock
from saga.delivery.acks import Acks
from saga.delivery.relay import Relay
from saga.engine.flight import Flight, after, incoming_of
from saga.errors import CommitUnknown, Overstayed, StatementFailed, StoreConflict, StoreError
from saga.failpoints import Failpoint, failpoint
from saga.handling.external import Intent
from saga.handling.handling import Handling, Item, workflow_of
from saga.handling.tracing import Tracer
from saga.participant.escalation import parked_of
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.store.dead_letter import Place
from saga.store.lane import Lane
from saga.store.port import Store, Unit

log = logging.getLogger("saga.processor")
operators = logging.getLogger("saga.operator")

CONFLICT_ATTEMPTS = 10
CONFLICT_PAUSE = 0.05


class Units:
    """Belongs to one thread; `chance` draws from [0, 1) for the pause after a conflict.

    `departed` holds, by lane, the transactions whose commit is not known yet, one for each at most.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store,
        handling: Handling,
        relay: Relay,
        acks: Acks,
        clock: Clock,
        tracer: Tracer,
        chance: Callable[[], float],
    ) -> None:
        self.participant, self.versions, self.store, self.handling = participant, participant.versions, store, handling
        self.relay, self.acks, self.clock, self.tracer, self.chance = relay, acks, clock, tracer, chance
        self.departed: dict[int, Flight] = {}

    def persist(self, lane: Lane, items: Sequence[Item], *, departing: bool = False) -> list[Intent]:
        """One unit, done again whole if it got into another transaction's way; answers the calls to the world that follow.

        Where handlers take long, `Handling.handled` of the items are in it, and the others are left. A unit that is `departing`
        may leave its COMMIT under way. Raises what `Handling.apply` does, LaneFenced, StoreError.
        """
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
            if not flight.is_known(self.store):
                raise
        except (StatementFailed, Overstayed) as failed:
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
            lane.require_same_server(unit.timeline)
            flight.unit, flight.ledger = unit, (ledger := self.ledger(unit))
            ledger.load({id for item in items if (id := workflow_of(item)) is not None})
            flight.unpublished = {id: set(w.unpublished) for id, w in ledger.workflows.items() if w.unpublished}
            flight.intents = self.handling.apply(ledger, lane, items)
            if left := len(items) - self.handling.handled:
                flight.leave(left)
            ledger.write()
            self._sort_letters(unit, lane, flight.items)
            self._land()  # what it noted of deliveries is not to be noted again
            flight.due = self.relay.settle()
            flight.due.write(unit)
            unit.advance(flight.ahead)
            failpoint(Failpoint.UNIT_INSIDE)
            if departing and not flight.intents and not left:
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

    def settle(self, lane: Lane) -> Sequence[Item]:
        """Wait for what departed for this lane; answers what is to be done again, whole: others were in its way, e.g."""
        if (flight := self.departed.pop(lane.number, None)) is None:
            return ()
        try:
            flight.land(self.store)
        except (StoreConflict, StatementFailed) as failed:
            log.info("lane %s/%d: %s; trying again", lane.saga, lane.number, failed)
            return flight.items
        self._finish(flight)
        return ()

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
        before, lane.offsets, lane.gaps = lane.offsets, ahead.offsets, ahead.gaps
        lane.batch = lane.committed = ahead.batch
        self.acks.kept(lane, ahead.acks)
        self.acks.took_in(lane, before, flight.told)
        self.relay.settled(flight.due)
        self.relay.publish(lane, flight.ledger.outbox, flight.unpublished)
        self._escalate(flight.ledger)
        kept = {letter.place for letter in flight.letters}
        for letter in (i.asked for i in map(incoming_of, flight.items) if i is not None and i.asked is not None):
            if letter.place not in kept:  # nothing else says so from now on
                operators.warning("dead letter %s is taken in, requeued by %s", letter.place, letter.changed_by)

    def _escalate(self, ledger: Ledger) -> None:
        if self.participant.escalation:
            for workflow, fence in ledger.parked():
                self.participant.escalation.tell(parked_of(self.versions.name, self.participant.name, workflow, fence))

    def _sort_letters(self, unit: Unit, lane: Lane, items: Sequence[Item]) -> None:
        """Keep what cannot be taken in, and forget what was taken back, in the transaction that does the rest."""
        kept = {letter.place for letter in self.handling.letters}
        back = {Place(lane.saga, *i.record[:3]) for i in map(incoming_of, items) if i is not None and i.again}
        if taken := back - kept:
            unit.exhume(taken)
        if kept:
            unit.bury(self.handling.letters)

    def ledger(self, unit: Unit) -> Ledger:
        """The changes that this transaction will make."""
        return Ledger(self.versions, self.participant.name, unit, self.clock.now())
