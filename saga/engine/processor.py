"""The heart: a micro-batch of one lane in one database transaction.

Facts are taken in, `decide` is asked, handlers run, and fences, inbox, outbox, delivery marks and the lane's offsets commit
together or not at all. If a batch fails it is bisected: only a batch of one may blame a handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from saga.clock import Clock
from saga.contracts.acknowledged import Reason
from saga.engine.acks import Acks, Remark
from saga.engine.breakers import Breakers
from saga.engine.external import QUICK_PAUSE, Externals, Intent
from saga.engine.handling import Handling, Item, is_in_the_air
from saga.engine.intake import Incoming, Intake
from saga.engine.invocation import HandlerFailure, Invocation
from saga.engine.parking import Resume, Setback
from saga.engine.relay import Relay
from saga.engine.timers import Late
from saga.errors import CommitUnknown, StatementFailed, StoreConflict
from saga.failpoints import Failpoint, failpoint
from saga.participant.escalation import parked_of
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.store.port import Lane, Store, Unit
from saga.transport.port import Record

log = logging.getLogger("saga.processor")

CONFLICT_ATTEMPTS = 10
CONFLICT_PAUSE = 0.05


class Processor:
    """Processes the lanes of one participant; belongs to one thread.

    `batch` bounds the messages of one transaction, `chance` draws from [0, 1) for the jitter of retries.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store,
        relay: Relay,
        acks: Acks,
        clock: Clock,
        breakers: Breakers,
        *,
        batch: int,
        chance: Callable[[], float],
    ) -> None:
        self.participant, self.versions, self.batch = participant, participant.versions, batch
        self.store, self.relay, self.acks, self.clock, self.chance = store, relay, acks, clock, chance
        self.invocation = Invocation(participant)
        self.externals = Externals(self.versions.name, self.invocation, breakers, clock, chance)
        self.intake = Intake(self.versions, participant.name)
        self.handling = Handling(participant, self.invocation, breakers, self.intake.counts, chance)
        self._reached = 0

    def process(self, lane: Lane, records: Sequence[Record]) -> None:
        """Take the records in, in order; `lane` is advanced as transactions commit.

        A handler that fails parks its workflow. Raises LaneStopped for a record that cannot be read, LaneFenced, StoreError.
        """
        readable, unreadable = self.intake.read(lane, records)
        for part in self._parts(readable):
            self._carry_on(lane, self._commit(lane, part))
        if unreadable is not None:
            raise unreadable

    def resume(self, lane: Lane) -> None:
        """Acknowledge what was taken in; ask again, with the same idempotency keys, what the last owner left in the air."""
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
        self._carry_on(lane, intents)

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

    def _parts(self, items: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
        """Parts with at most a batch of messages each; records that concern others weigh nothing."""
        begin = weight = 0
        for end, item in enumerate(items):
            if item.message is not None:
                if weight == self.batch:
                    yield items[begin:end]
                    begin, weight = end, 0
                weight += 1
        if items:
            yield items[begin:]

    def retry(self, lane: Lane, workflow_ids: Sequence[str]) -> None:
        """Try parked workflows again whose time has come."""
        self._carry_on(lane, self._commit(lane, [Resume(id) for id in workflow_ids]))

    def expire(self, lane: Lane, workflow_ids: Sequence[str]) -> None:
        """See to workflows of which a timeout has passed; to be called when nothing older waits on the lane's topics."""
        self._carry_on(lane, self._commit(lane, [Late(id) for id in workflow_ids]))

    def _carry_on(self, lane: Lane, intents: list[Intent]) -> None:
        """Call the world for committed intents and commit its answers, until nothing is in the air."""
        while intents:
            answers, failures = self.externals.carry_out(intents)
            intents = self._commit(lane, answers) if answers else []
            waiting = [Setback(failure, failure.tried) for failure in failures if failure.dependency is not None]
            intents += self._commit(lane, waiting) if waiting else []
            for failure in failures:
                if failure.dependency is None:
                    intents += self._park(lane, Setback(failure, failure.tried + 1))

    def _commit(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """Commit the items together, or, if one of them fails, in parts."""
        intents: list[Intent] = []
        while items:
            try:
                return intents + self._persist(lane, items)
            except HandlerFailure as failure:
                if failure.dependency is None:
                    alone = len(items) == 1
                    return intents + (self._retry(lane, items[0], failure) if alone else self._halve(lane, items))
                met, items = items[: self._reached + 1], items[self._reached + 1 :]
                intents += self._put_off(lane, met, failure)
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
        return self._commit(lane, [*items[:-1], _setback(failure, failure.tried, items[-1])])

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
        setback = _setback(failure, failure.spent(attempt), item)
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

    def _persist(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """One unit, done again whole if it got into another transaction's way."""
        for attempt in range(1, CONFLICT_ATTEMPTS):
            try:
                return self._unit(lane, items)
            except StoreConflict as conflict:
                log.info("lane %s/%d: %s; trying again", lane.saga, lane.number, conflict)
                self.clock.sleep(self.chance() * CONFLICT_PAUSE * attempt)
        return self._unit(lane, items)

    def _unit(self, lane: Lane, items: Sequence[Item]) -> list[Intent]:
        """One transaction; the lane's own row is its last statement, so a fenced owner commits nothing."""
        intents: list[Intent] = []
        ahead = replace(lane, batch=lane.batch + 1, offsets=_offsets_after(lane, items))
        marks, self.handling.latest, self.handling.remarks = self.relay.delivered, None, []
        try:
            with self.store.unit(eager=len(items) == 1) as unit:
                ledger = self._ledger(unit)
                ledger.load({id for item in items if (id := _workflow_of(item)) is not None})
                unpublished = {id: set(w.unpublished) for id, w in ledger.workflows.items() if w.unpublished}
                for self._reached, item in enumerate(items):
                    intents += self.handling.apply(ledger, lane, item)
                ledger.write()
                unit.mark(marks)
                unit.advance(ahead)
                failpoint(Failpoint.UNIT_INSIDE)
        except CommitUnknown:
            if not self.store.committed(ahead):
                raise
        except StatementFailed as failed:
            if len(items) > 1 or (blamed := self.handling.blame(failed)) is None:
                raise
            raise blamed from failed
        failpoint(Failpoint.UNIT_COMMITTED)
        before, lane.batch, lane.offsets = lane.offsets, ahead.batch, ahead.offsets
        parked = [Remark(r.topic, r.offset, Reason.PARKED) for r in ledger.suspended]
        self.acks.took_in(lane, before, [*self.handling.remarks, *parked])
        self.relay.marked(marks)
        self.relay.publish(lane, ledger.outbox, unpublished)
        self._escalate(ledger)
        return intents

    def _escalate(self, ledger: Ledger) -> None:
        if self.participant.escalation:
            for workflow, fence in ledger.parked():
                self.participant.escalation.tell(parked_of(self.versions.name, self.participant.name, workflow, fence))

    def _ledger(self, unit: Unit) -> Ledger:
        return Ledger(self.versions, self.participant.name, unit, self.clock.now())


def _setback(failure: HandlerFailure, attempt: int, item: Item) -> Setback:
    return Setback(failure, attempt, item if isinstance(item, Incoming) else None)


def _workflow_of(item: Item) -> str | None:
    if isinstance(item, Incoming):
        return item.message.workflow_id if item.message else None
    return item.workflow_id


def _offsets_after(lane: Lane, items: Sequence[Item]) -> dict[str, int]:
    offsets = dict(lane.offsets)
    for item in items:
        incoming = item.incoming if isinstance(item, Setback) else item
        if isinstance(incoming, Incoming):
            offsets[incoming.record.topic] = incoming.record.offset + 1
    return offsets
