"""One thread of a worker: a consumer, its lanes, and the turns in which they are processed and published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from threading import Event as Flag

from saga.clock import Clock
from saga.contracts.topics import group
from saga.delivery.acks import Acks
from saga.delivery.deliveries import HOLD, Deliveries
from saga.delivery.relay import Relay
from saga.delivery.unhandled import OVERDUE, Unhandled
from saga.engine.agenda import DUE_EVERY, Agenda
from saga.engine.health import Part
from saga.engine.lanes import Lanes, Owned
from saga.engine.processor import READ_AHEAD, Processor
from saga.engine.progress import lag_unread
from saga.engine.pruning import Pruning
from saga.engine.pulse import Pulse
from saga.engine.topics import Topics
from saga.engine.watch import Watch
from saga.errors import (
    BrokerError,
    LaneFenced,
    LaneStopped,
    OffsetOutOfRange,
    RegistryUnavailable,
    SagaError,
    StatementFailed,
    StoreConflict,
    StoreError,
)
from saga.failpoints import Failpoint, failpoint
from saga.handling.breakers import Breakers
from saga.handling.tracing import Tracer, Untraced
from saga.participant.participant import Participant
from saga.store.lane import Lane
from saga.store.port import Store
from saga.transport.port import Broker, Consumer, Partition, Record

log = logging.getLogger("saga.worker")

IDLE_WAIT = 0.005
REST_AFTER = 1.0
RESTING = 4  # times as long a wait: a turn in which nothing moves costs a tenth of a millisecond, 200 times a second
MARK_AFTER = 0.2  # in a quiet moment; what is heard of others, and what concerns nobody here, can wait five times as long
FLUSH_PATIENCE = 5.0
TROUBLE_PAUSE = 1.0
TURN = 10.0  # of handlers, behind which a turn takes nothing more in: Kafka, health and SIGTERM wait for its end


class Loop:
    """Consumes, processes and publishes until `stopping` is set, then gives its lanes up in an orderly way."""

    def __init__(
        self,
        participant: Participant,
        store: Store,
        broker: Broker,
        partitions: int,
        *,
        batch: int,
        stopping: Flag,
        chance: Callable[[], float],
        breakers: Breakers | None = None,
        tracer: Tracer | None = None,
        clock: Clock | None = None,
        pulse: Pulse | None = None,
        watch: Watch | None = None,
        idle_wait: float = IDLE_WAIT,
        mark_after: float = MARK_AFTER,
        hold: float = HOLD,
        overdue: timedelta = OVERDUE,
        due_every: float = DUE_EVERY,
        keep_workflows: timedelta | None = None,
        may_prune: Callable[[], bool] = lambda: True,
    ) -> None:
        self.participant, self.store, self.broker, self.stopping, self.batch = participant, store, broker, stopping, batch
        self.clock, self.idle_wait = clock or participant.clock, idle_wait
        self.mark_after = mark_after
        self.pulse, self.watch = pulse or Pulse(participant.name, self.clock), watch
        self.acks, self.deliveries = Acks(participant), Deliveries(participant.versions, hold=hold)
        self.relay = Relay(store, broker, self.clock, self.acks, self.deliveries)
        self.breakers = breakers or Breakers(participant.dependencies.values(), self.clock)
        self.processor = Processor(
            participant, store, self.relay, self.acks, self.clock, self.breakers, partitions,
            batch=batch, chance=chance, tracer=tracer or Untraced(),
        )  # fmt: skip
        self.lanes = Lanes(
            participant.versions, participant.name, partitions, store=store, broker=broker, clock=self.clock,
            leaving=self._leave, reading=self.pulse.beat, registered=participant.codec.registry is not None,
        )  # fmt: skip
        self.unhandled = Unhandled(store, broker, self.clock, self.acks, self.deliveries, overdue=overdue)
        self.topics = Topics(self.lanes, self.acks, self.relay, self.watch)
        self._consumer: Consumer | None = None
        self._told: dict[Partition, int] = {}
        self.agenda = Agenda(
            participant, store, self.clock, self.lanes, self.processor,
            Pruning(store, self.clock, keep_workflows, may_prune),
            guard=self._guard, batch=batch, every=due_every,
        )  # fmt: skip
        self._publish_again = self._noted_at = self._acknowledge_again = self._tell_again = 0.0
        self._moved_at = self.clock.monotonic()

    @property
    def consumer(self) -> Consumer:
        assert self._consumer is not None
        return self._consumer

    def parts(self) -> list[Part]:
        """How this thread and its lanes are; called from any thread."""
        behind = lag_unread(self.lanes, self.watch.ends) if self.watch is not None else {}
        return [self.pulse.part(self.processor.doing, self.relay.failing), *self.lanes.parts(behind)]

    def run(self) -> None:
        """Turn until told to stop; what the lanes have in hand is published and marked before the group is left."""
        self.join()
        try:
            while not self.stopping.is_set():
                self.turn()
        finally:
            self.leave()

    def join(self) -> None:
        """Become a member of the participant's group, as soon as there is a broker, unless told to stop before."""
        name = group(self.participant.saga.name, self.participant.name)
        while self._consumer is None and not self.stopping.is_set():
            try:
                self._consumer = self.broker.consumer(name, self.lanes.topics, self.lanes)
            except BrokerError as error:
                if not error.retriable:
                    raise
                log.warning("the group %s cannot be joined (%s); trying again", name, error)
                self.pulse.beat(f"waiting for the broker: {error}")
                self._trouble("broker", error)
                self.clock.sleep(TROUBLE_PAUSE)
        self.relay.open()

    def leave(self) -> None:
        """Give the lanes up in an orderly way and end."""
        try:
            if self._consumer is not None:
                self._consumer.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End without giving anything up: what is committed and not published stays in the outbox, the lanes stay claimed."""
        self.relay.close()
        self.processor.close()

    def turn(self) -> bool:
        """One round: records that are there, then what is to be published, then what the broker may know of our progress.

        Answers whether anything moved or is on its way.
        """
        self.pulse.beat()
        full, records = self.lanes.full, self._poll()
        self._settle(all=not records)
        self.lanes.let_go()
        self.lanes.claim_due()
        if self.lanes.rewound:  # they come again, after those that were passed over
            records = [r for r in records if Partition(r.topic, r.partition) not in self.lanes.rewound]
        for number in self.topics.look():
            self.consumer.pause(self.lanes.twins(number))
        until = self.clock.monotonic() + TURN
        for owned in self._owing():
            self._guard(owned, partial(self.processor.call, owned.lane, until))
        self._greet(until)
        for number, batch in self.lanes.split(records).items():
            if self.stopping.is_set():
                break  # what is left is read again by the lanes' next owner
            owned = self.lanes.owned[number]
            self._guard(owned, partial(self._process, owned.lane, batch, until))
        if self.agenda.is_due and not self.stopping.is_set():
            self._settle()
            self.agenda.see_to_it(self.consumer)
        self._publish(quiet=not any(record.topic != self.acks.topic for record in records))
        self._tell_offsets()
        self._wake()
        waiting = self.relay.waiting or not self.relay.idle or self.unhandled.trials or self._owing()
        moving = bool(records or self.processor.units.departed or waiting or full != self.lanes.full)
        if moving:
            self._moved_at = self.clock.monotonic()
        return moving

    def _poll(self) -> list[Record]:
        self.lanes.check_splits()
        try:
            return self.consumer.poll(READ_AHEAD * self.batch, self._wait())
        except OffsetOutOfRange as error:
            self._stop(error)
            return []
        except BrokerError as error:
            if not error.retriable:
                raise
            is_known = self.watch is not None and "broker" in self.watch.away
            log.log(logging.DEBUG if is_known else logging.WARNING, "the broker cannot be read (%s); trying again", error)
            self._trouble("broker", error)
            self.clock.sleep(self.idle_wait)
            return []

    def _wait(self) -> float:
        """How long a record may be waited for; what is on its way or was started elsewhere is looked at after that only."""
        if self.processor.units.departed:
            return 0.0
        return self.idle_wait * (RESTING if self.clock.monotonic() - self._moved_at > REST_AFTER else 1)

    def _stop(self, error: OffsetOutOfRange) -> None:
        if (owned := self.lanes.owned.get(error.partition)) is not None:
            if error.topic == self.acks.topic:
                self._pass_over(error)
                return
            owned.stopped = self.topics.ask(owned.lane) or LaneStopped(owned.lane.saga, owned.lane.number, str(error))
            log.error("%s", owned.stopped)
            self.consumer.pause(self.lanes.twins(owned.lane.number))

    def _pass_over(self, error: OffsetOutOfRange) -> None:
        """Acknowledgments that are gone cost no more than events that are sent again."""
        log.warning("%s; going on from the first acknowledgment that is there", error)
        partition = Partition(error.topic, error.partition)
        self.consumer.seek(partition, None)
        self.consumer.resume([partition])

    def _greet(self, until: float) -> None:
        """Begin with the lanes that came in this poll: their outbox first, then what a previous owner left in the air."""
        claimed, self.lanes.claimed = self.lanes.claimed, []
        for lane in claimed:
            log.info("lane %s/%d is ours, epoch %d", lane.saga, lane.number, lane.epoch)
            self.relay.begin(lane)
            self.unhandled.begin(lane)
            owned = self.lanes.owned[lane.number]
            self.processor.beware(lane, owned.ends)
            if owned.stopped is None:
                self._guard(owned, partial(self._begin, lane, until))
        if claimed or self.lanes.again:
            waiting = self.lanes.waiting()
            self.consumer.pause(waiting)
            self.consumer.resume([p for lane in claimed for p in self.lanes.twins(lane.number) if p not in waiting])
        rewound, self.lanes.rewound = self.lanes.rewound, {}
        for partition, offset in rewound.items():
            self.consumer.seek(partition, offset)

    def _begin(self, lane: Lane, until: float) -> None:
        """What is left from before comes before what is new: calls in the air, for a moment letters that can be read now."""
        self.processor.resume(lane, until)
        self.processor.take_back(lane)

    def _owing(self) -> list[Owned]:
        return [owned for number, owned in self.lanes.owned.items() if number in self.processor.owing and not owned.at_rest]

    def _process(self, lane: Lane, batch: Sequence[Record], until: float) -> None:
        self.acks.hear(lane, (record for record in batch if record.topic == self.acks.topic))
        facts = [record for record in batch if record.topic != self.acks.topic]
        if facts and (lane.number in self.processor.owing or not self.processor.process(lane, facts, until)):
            for source in self.lanes.sources(lane.number):
                self.consumer.seek(source, lane.offsets.get(source.topic))

    def _settle(self, *, all: bool = True) -> None:
        """Wait for transactions that are under way, if `all`; nothing follows from those of lanes that are ours no more."""
        for flight in [*self.processor.units.departed.values()]:
            owned = self.lanes.owned.get(flight.lane.number)
            if owned is None or owned.lane is not flight.lane:
                self.processor.units.forget(flight.lane)
            elif all:
                self._guard(owned, partial(self.processor.settle, owned.lane))

    def _guard(self, owned: Owned, work: Callable[[], None]) -> None:
        """Keep one lane's trouble from the others: it stops, is let go, or rests and begins again at its fence."""
        lane = owned.lane
        try:
            work()
        except LaneStopped as stopped:
            owned.stopped = stopped
            log.error("%s", stopped, exc_info=stopped.__cause__)
        except LaneFenced as fenced:
            self.lanes.fenced(fenced)
        except (StoreError, RegistryUnavailable) as error:
            log.warning("lane %s/%d rests for %.0f s: %s", lane.saga, lane.number, TROUBLE_PAUSE, error)
            owned.resume_at, owned.resting = self.clock.monotonic() + TROUBLE_PAUSE, str(error)
            self.pulse.beat()  # it may have been waited for, and for the other lanes' sake as well
            self._trouble("registry" if isinstance(error, RegistryUnavailable) else "store", error)
        else:
            return
        self.consumer.pause(self.lanes.twins(lane.number))

    def _wake(self) -> None:
        """Lanes that have rested begin again at the store's fence, with what was in the air."""
        for number, owned in list(self.lanes.owned.items()):
            if owned.resume_at is None or self.clock.monotonic() < owned.resume_at:
                continue
            owned.resume_at = None
            self._guard(owned, partial(self._begin, owned.lane, self.clock.monotonic() + TURN))
            if self.lanes.owned.get(number) is owned and not owned.at_rest:
                self.relay.waiting.add(number)
                for twin in self.lanes.twins(number):
                    self.consumer.seek(twin, owned.lane.offsets.get(twin.topic))
                waiting = self.lanes.waiting()
                self.consumer.resume([twin for twin in self.lanes.twins(number) if twin not in waiting])

    def _publish(self, *, quiet: bool) -> None:
        if self.clock.monotonic() < self._publish_again:
            return
        try:
            self.relay.collect(self.lanes.owned)
            if self.store.woken():
                self.relay.waiting.update(self.lanes.owned)
            if self.relay.waiting:
                self._settle()
            self.relay.scan(self.lanes.running())
            self._acknowledge()
            self.unhandled.sweep(self.lanes.at_work(), self.consumer.ends)
            if quiet:
                self._note()
        except StoreError as error:
            log.warning("the outbox cannot be read or marked (%s); trying again in %.0f s", error, TROUBLE_PAUSE)
            self._publish_again = self.clock.monotonic() + TROUBLE_PAUSE  # a turn is short: a storm helps no database back
            self._trouble("store", error)
            self.relay.waiting.update(self.lanes.owned)

    def _trouble(self, what: str, error: SagaError) -> None:
        """Have health say at once that something is away; whether it is back is for the watch to find out."""
        if self.watch is not None and not isinstance(error, StoreConflict | StatementFailed):
            self.watch.trouble(what, str(error))

    def _tell_offsets(self) -> None:
        """Committed offsets serve lag and loss detection; the store's fence is the truth."""
        if self.clock.monotonic() < self._tell_again:
            return
        self._tell_again = self.clock.monotonic() + self.mark_after
        progress = self.acks.progress(owned.lane for owned in self.lanes.owned.values())
        news = {partition: offset for partition, offset in progress.items() if self._told.get(partition) != offset}
        if news:
            failpoint(Failpoint.OFFSETS_UNCOMMITTED)
            self.consumer.commit(news)
            self._told.update(news)

    def _note(self) -> None:
        """Nothing comes in that would carry it: write what was heard and delivered."""
        quiet = self.clock.monotonic() - self._noted_at
        due = quiet >= self.mark_after and self.relay.settle()
        if not due and quiet < 5 * self.mark_after:
            return
        self._noted_at = self.clock.monotonic()
        for number in {*self.acks.news, *self.processor.passing}:
            if (owned := self.lanes.owned.get(number)) is not None and not owned.at_rest:
                self._guard(owned, partial(self.processor.note, owned.lane))
        self.relay.write()

    def _acknowledge(self, *, now: bool = False) -> None:
        """Tell what was taken in; a moment later than it was, since most of it adds up to fewer records."""
        if now or self.clock.monotonic() >= self._acknowledge_again:
            self._acknowledge_again = self.clock.monotonic() + self.mark_after / 2
            self.relay.aside(self.acks.take())
        self.acks.arrived(self.relay.arrived())

    def _leave(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Called from a rebalance or at the end; answers those lanes of which nothing is left on its way."""
        tidy = [lane for lane in lanes if self._is_tidied(lane)]
        self._acknowledge(now=True)
        self.relay.flush(FLUSH_PATIENCE)
        self._acknowledge(now=True)
        offsets = self.acks.progress(tidy)
        for lane in lanes:
            self.relay.waiting.discard(lane.number)
            self.processor.owing.discard(lane.number)
            for twin in self.lanes.twins(lane.number):
                self._told.pop(twin, None)
            self.acks.give_up(lane.number)
            self.unhandled.give_up(lane.number)
        if offsets:
            self.consumer.commit(offsets)
        return tidy

    def _is_tidied(self, lane: Lane) -> bool:
        """Whether all that was in hand for a lane that is given up is committed; its next owner sees to what is not."""
        try:
            self.processor.settle(lane)
            if lane.number in self.processor.passing:
                self.processor.note(lane)
        except (StoreError, RegistryUnavailable, LaneStopped) as error:
            log.warning("lane %s/%d is left as it is: %s", lane.saga, lane.number, error)
            return False
        return True
