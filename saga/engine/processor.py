"""The heart: what comes in for a lane, in micro-batches of one transaction each, until nothing is in the air.

If a batch fails it is split, where a handler raised or in halves: only a batch of one may blame, and parks its workflow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from saga.clock import Clock
from saga.count import many
from saga.delivery.acks import Acks
from saga.delivery.relay import Relay
from saga.engine.flight import parts
from saga.engine.units import Units
from saga.errors import Overstayed, StatementFailed
from saga.handling.breakers import Breakers
from saga.handling.external import QUICK_PAUSE, Externals, Intent
from saga.handling.handling import Handling, Item
from saga.handling.intake import Incoming, Intake
from saga.handling.invocation import HandlerFailure, Invocation
from saga.handling.parking import Resume, Setback, in_the_air
from saga.handling.quarantine import DEATHS, Caution, Suspect, name_of, quarantined
from saga.handling.timers import Late
from saga.handling.tracing import Tracer
from saga.handling.vector import VectorFailure
from saga.participant.participant import Participant
from saga.store.dead_letter import DeadLetter
from saga.store.lane import Lane
from saga.store.port import Store
from saga.store.workflow import Workflow
from saga.transport.port import Record

log = logging.getLogger("saga.processor")

LETTERS_PATIENCE = 0.5
READ_AHEAD = 2  # of what is polled about half is for others, or one's own coming back


class Processor:
    """Processes the lanes of one participant; belongs to one thread.

    `partitions` is the count of the saga's topics, `batch` bounds the messages of one transaction, `chance` draws from [0, 1)
    for the jitter of retries. `passing` holds, by lane, what concerns nobody here: it is passed by the next transaction that
    has more to do, or by `note`. Lanes that are `owing` have calls to the world committed for which there was no time.
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
        self.store, self.acks, self.clock, self.chance = store, acks, clock, chance
        self.invocation = Invocation(participant)
        self.externals = Externals(self.versions.name, self.invocation, breakers, tracer, clock, chance)
        self.intake = Intake(self.versions, participant.name, partitions)
        self.handling = Handling(participant, self.invocation, breakers, self.intake.counts, tracer, clock, chance)
        self.units = Units(participant, store, self.handling, relay, acks, clock, tracer, chance)
        self.passing: dict[int, Sequence[Incoming]] = {}
        self.owing: set[int] = set()
        self._cautions: dict[int, Caution] = {}

    def process(self, lane: Lane, records: Sequence[Record], until: float) -> bool:
        """Take the records in, in order; `lane` is advanced as transactions commit, the last of which `settle` waits for.

        Ends behind the transaction in which `until` (monotonic) passes; answers False if others are left, to be read again.
        A handler that fails parks its workflow, a record that cannot be read becomes a dead letter. Raises LaneFenced,
        StoreError.
        """
        self._take_in(lane, self.intake.read(lane, records, self.clock.now()), until)
        if self.clock.monotonic() <= until:
            return True
        self.settle(lane)
        passing = {item.record.topic: item.record.offset + 1 for item in self.passing.get(lane.number, ())}
        reached = lane.offsets | passing
        return all(record.offset < reached.get(record.topic, 0) for record in records)

    def beware(self, lane: Lane, ends: Mapping[str, int]) -> None:
        """Treat a lane that was not left in an orderly way with caution, up to these ends of its topics."""
        if not lane.clean:
            self._cautions[lane.number] = Caution(lane, READ_AHEAD * self.batch, ends)

    def take_back(self, lane: Lane) -> None:
        """Take those dead letters in that are requeued, or of a version that is known by now, in the order they came in.

        No longer than a moment: while thousands are taken in nothing is published, and who does not poll loses the lane.
        """
        until = self.clock.monotonic() + LETTERS_PATIENCE
        while letters := self._recalled(lane):
            self._take_in(lane, self.intake.again(lane, letters, self.clock.now()), until)
            if self.clock.monotonic() > until:
                self.settle(lane)
                return

    def _recalled(self, lane: Lane) -> list[DeadLetter]:
        self.settle(lane)
        with self.store.unit() as unit:
            return unit.recalled(self.versions.name, [lane.number], self.versions.numbers, self.batch)

    def _take_in(self, lane: Lane, items: Sequence[Incoming], until: float) -> None:
        self.settle(lane)
        passed = self.passing.pop(lane.number, ())
        caution = self._caution(lane)
        items = [*passed, *items] if caution is None else self._take_in_singly(lane, passed, items, caution, until)
        if len(items) < self.batch and all(item.is_idle for item in items):
            self.passing[lane.number] = items
            return
        for part in parts(items, self.batch):
            self.settle(lane)
            self._carry_on(lane, self._commit(lane, part, departing=True, until=until), until)
            if self.clock.monotonic() > until:
                break

    def _take_in_singly(
        self, lane: Lane, passed: Sequence[Incoming], items: Sequence[Incoming], caution: Caution, until: float
    ) -> Sequence[Incoming]:
        """Each message alone, of which the last process may have died; answers what is left and has nothing of them in it.

        What was `passed` is older.
        """
        ordinary = [*passed]
        for item in items:
            if item.message is None or not caution.holds(item):
                ordinary.append(item)
            else:
                for part in parts(ordinary, self.batch):
                    self._carry_on(lane, self._commit(lane, part, until=until), until)
                    if self.clock.monotonic() > until:
                        return ()
                ordinary = []
                self._try(lane, caution, item)
            caution.passed(item)
            if not ordinary and self.clock.monotonic() > until:
                break
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

    def resume(self, lane: Lane, until: float) -> None:
        """Acknowledge what was taken in; ask again, with the same idempotency keys, what the last owner left in the air."""
        self.settle(lane)
        self.passing.pop(lane.number, None)  # it comes again
        with self.store.unit() as unit:
            self.acks.begin(lane, unit)
        self.call(lane, until)

    def call(self, lane: Lane, until: float) -> None:
        """Make the calls to the world that are committed and not answered; of what `until` leaves the lane is `owing`."""
        self.settle(lane)
        self.owing.discard(lane.number)
        with self.store.unit() as unit:
            workflows = self.units.ledger(unit).load(unit.running(self.versions.name, lane.number))
            intents, unreadable = self._in_the_air(workflows.values())
        for failure in unreadable:
            self._carry_on(lane, self._park(lane, Setback(failure, failure.tried + 1)), until)
        if lane.clean:
            self._carry_on(lane, intents, until)
            return
        for place, intent in enumerate(intents, 1):
            self._call_again(lane, intent)
            if self.clock.monotonic() > until and place < len(intents):
                self.owing.add(lane.number)
                return

    def _in_the_air(self, workflows: Iterable[Workflow]) -> tuple[list[Intent], list[HandlerFailure]]:
        """The calls that are committed and not answered; of those that this release cannot read, why."""
        intents, unreadable = [], []
        for workflow in workflows:
            if workflow.version not in self.versions:
                continue  # it waits for the release that knows it
            for fence in workflow.fences.values():
                if in_the_air(fence) and fence.error is None:
                    try:
                        intents.append(self.handling.intent(workflow, fence))
                    except HandlerFailure as failure:
                        failure.tried = fence.attempt
                        unreadable.append(failure)
        return intents, unreadable

    def settle(self, lane: Lane) -> None:
        """Wait for what departed for this lane, and do again what has to be."""
        if again := self.units.settle(lane):
            self._carry_on(lane, self._commit(lane, again))

    def note(self, lane: Lane) -> None:
        """Keep what was heard of acknowledgments, and write what is due and what was passed."""
        self.settle(lane)
        self.units.persist(lane, self.passing.pop(lane.number, ()))

    @property
    def doing(self) -> str | None:
        """The handler that runs now, in words; called from any thread."""
        if (calling := self.invocation.calling) is not None:
            return f"{calling[0].title} for workflow {calling[1]}"
        if intents := self.externals.calling:
            return f"{intents[0].handler.title}, which calls the world for {many(len(intents), 'workflow')}"
        return None

    def close(self) -> None:
        self.externals.close()
        self.invocation.close()

    def retry(self, lane: Lane, workflow_ids: Sequence[str], until: float) -> None:
        """Try parked workflows again whose time has come; those that are left when `until` passes are due as before."""
        self._see_to(lane, [Resume(id) for id in workflow_ids], until)

    def expire(self, lane: Lane, workflow_ids: Sequence[str], until: float, moment: datetime) -> None:
        """See to timeouts of these workflows that have passed at a moment before which nothing waits on the lane's topics."""
        self._see_to(lane, [Late(id, moment) for id in workflow_ids], until)

    def _see_to(self, lane: Lane, items: Sequence[Resume] | Sequence[Late], until: float) -> None:
        self.settle(lane)
        if (caution := self._caution(lane)) is None:
            self._carry_on(lane, self._commit(lane, items, until=until), until)
            return
        for item in items:
            self._try(lane, caution, item)
            if self.clock.monotonic() > until:
                return

    def _carry_on(self, lane: Lane, intents: list[Intent], until: float = math.inf) -> None:
        """Call the world for committed intents and commit its answers, until nothing is in the air, or no time is left."""
        while intents:
            self.settle(lane)
            answers, failures = self.externals.carry_out(intents, until)
            if len(answers) + len(failures) < len(intents):
                self.owing.add(lane.number)
            intents = self._commit(lane, answers) if answers else []
            waiting = [Setback(failure, failure.tried) for failure in failures if failure.dependency is not None]
            intents += self._commit(lane, waiting) if waiting else []
            for failure in failures:
                if failure.dependency is None:
                    intents += self._park(lane, Setback(failure, failure.tried + 1))

    def _commit(self, lane: Lane, items: Sequence[Item], *, departing: bool = False, until: float = math.inf) -> list[Intent]:
        """Commit the items together, or, if one of them fails, in parts; the last part may be left under way.

        Ends behind the part in which `until` passes: what comes after it is left.
        """
        intents: list[Intent] = []
        ahead = [items]  # the next one last
        while ahead:
            if not (part := ahead.pop()):
                continue
            try:
                intents += self.units.persist(lane, part, departing=departing and not any(ahead))
                ahead.append(part[self.handling.handled :])
            except (HandlerFailure, VectorFailure, StatementFailed, Overstayed) as failure:
                if instead := self._in_parts(part, failure):
                    ahead += reversed(instead)
                    continue
                if not isinstance(failure, HandlerFailure):
                    raise  # and no handler has run
                intents += self._retry(lane, part[0], failure)
            if self.clock.monotonic() > until:
                break
        return intents

    def _in_parts(
        self, items: Sequence[Item], failure: HandlerFailure | VectorFailure | StatementFailed | Overstayed
    ) -> list[Sequence[Item]]:
        """What to commit, in order, in place of items of which one failed; nothing where that one is alone and to blame.

        One that met a dependency that is away is known, waits and is not run again: so no handler runs more than twice.
        """
        at = self.handling.reached
        match failure:
            case HandlerFailure() if failure.dependency is not None:
                log.info("%s", failure)
                return [[*items[:at], Setback.of(failure, failure.tried, items[at])], items[at + 1 :]]
            case VectorFailure() if failure.is_awaited:
                log.info("%s", failure)
                waiting = {place: Setback.of(each, each.tried, items[place]) for place, each in failure.failures.items()}
                return [[waiting.get(place, item) for place, item in enumerate(items)]]
            case _ if len(items) == 1:
                return []
            case HandlerFailure():  # whoever raised is the first to be looked at alone
                return [items[:at], items[at : at + 1], items[at + 1 :]]
        return [items[: len(items) // 2], items[len(items) // 2 :]]

    def _retry(self, lane: Lane, item: Item, failure: HandlerFailure) -> list[Intent]:
        """A batch of one: its handler is to blame, gets its quick retries here, and then parks its workflow."""
        attempt = failure.tried + 1
        while failure.is_quick(attempt):
            log.info("attempt %d: %s; trying again", attempt, failure)
            self.clock.sleep(self.chance() * QUICK_PAUSE)
            attempt += 1
            try:
                return self.units.persist(lane, [item])
            except HandlerFailure as again:
                failure = again
        return self._park(lane, Setback.of(failure, failure.spent(attempt), item))

    def _park(self, lane: Lane, setback: Setback) -> list[Intent]:
        first = setback.failure.shown_cause if setback.failure.tried == 0 else None
        if setback.failure.dependency is None:
            log.warning("parked after attempt %d: %s", setback.attempt, setback.failure, exc_info=first)
        while True:
            try:
                return self.units.persist(lane, [setback])
            except HandlerFailure as failure:
                log.warning("and then, after attempt %d: %s", failure.tried + 1, failure, exc_info=failure.shown_cause)
                setback = setback.led_to(failure)
