"""The runtime of a participant inside its service: threads that own lanes, from the wait for topics to the drain."""

from __future__ import annotations

import logging
import random
import threading
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from saga.contracts.topics import saga_topics
from saga.count import many
from saga.delivery.unhandled import OVERDUE
from saga.engine.health import Health, Part, State
from saga.engine.loop import Loop
from saga.engine.progress import lag_unread
from saga.engine.pulse import Pulse
from saga.engine.retention import Retention
from saga.engine.watch import Stock, Watch
from saga.errors import BrokerError, DefinitionError, LaneStopped, LifecycleError, RegistryUnavailable
from saga.handling.breaker import Circuit
from saga.handling.breakers import Breakers, BreakerStanding
from saga.handling.intake import Counts
from saga.handling.tracing import Tracer
from saga.participant.participant import Participant
from saga.signals import asked_to_end
from saga.store.port import Store
from saga.transport.port import Broker, Partition

if TYPE_CHECKING:
    from saga.contracts.registry import Registry

log = logging.getLogger("saga.worker")

TOPIC_PATIENCE = 30.0
STORE_PATIENCE = 5.0
KEEP_LETTERS = timedelta(days=30)
_LOOK_AGAIN = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """How a worker stands: lanes owned by number, those that stopped with the reason, and what became of the facts.

    `breakers` are those of its dependencies, by name. `resting` lanes begin again by themselves; `lag` is how many records of a
    lane are not taken in, and `stock` what waits in the store, both as they were seen last.
    `lost` counts the events that were passed over in silence and sent again, `pruned` the workflows that were deleted long
    after their end; `unhandled_since` is when the oldest published event was written that somebody has still to acknowledge.
    """

    lanes: tuple[int, ...]
    stopped: dict[int, LaneStopped]
    counts: Counts
    breakers: dict[str, BreakerStanding] = field(default_factory=dict)
    resting: tuple[int, ...] = ()
    lag: dict[int, int] = field(default_factory=dict)
    stock: Stock = field(default_factory=Stock)
    lost: int = 0
    pruned: int = 0
    unhandled_since: datetime | None = None


class Worker:
    """Runs a participant against its store and a broker, with `threads` members of its consumer group.

    With a `registry` the ids of schemas are those registered there. `batch` bounds the messages of one transaction. An event
    that is not acknowledged after `overdue` is asked after, and sent again if it is lost. Dead letters that were discarded or
    exported are deleted after `keep_letters`, workflows `keep_workflows` after they were closed, which must be longer than the
    topics keep records; without it never. `tracer` records spans, such as `saga.observe.tracing.Spans`. A store is opened
    by the caller and stays open.
    """

    def __init__(
        self,
        participant: Participant,
        *,
        store: Store,
        broker: Broker,
        registry: Registry | None = None,
        threads: int = 1,
        batch: int = 500,
        overdue: timedelta = OVERDUE,
        keep_letters: timedelta = KEEP_LETTERS,
        keep_workflows: timedelta | None = None,
        tracer: Tracer | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        participant.check()
        if registry is not None:
            participant.use(registry)
        if threads < 1 or batch < 1:
            raise DefinitionError(f"found threads={threads} and batch={batch}; expected at least 1 of each")
        self.participant, self.store, self.broker = participant, store, broker
        self.threads, self.batch, self.chance, self.overdue = threads, batch, chance, overdue
        self.tracer = tracer
        self._breakers = Breakers(participant.dependencies.values(), participant.clock)
        self._stopping = threading.Event()
        self._loops: list[Loop] = []
        self._running = False
        self.failure: BaseException | None = None
        self.parts: list[Callable[[], Iterable[Part]]] = []
        self._retention = Retention(participant, broker, keep_workflows)
        self._watch = Watch(
            participant, store, broker, registry, keep_letters=keep_letters, unread=self._unread, retention=self._retention
        )
        self._pulses: list[Pulse] = []

    def run(self) -> None:
        """Run until SIGTERM, SIGINT or `stop`, then drain: finish what is in hand, publish, leave the group.

        Raises what ended a thread: DefinitionError for wrong settings, or topics that are not there after 30 s.
        """
        with asked_to_end(partial(_drain, self._stopping)), self.running():
            self._stopping.wait()

    @contextmanager
    def running(self, *, failed: Callable[[BaseException], None] | None = None) -> Iterator[Worker]:
        """Run in threads beside the caller's own work, drained at the end of the block, which raises what ended the worker.

        So that the caller need not wait for that end, `failed` is called at once with what ended the first thread, in that
        thread; `failure` says it too, and `health` is dead from then on.
        """
        threads = self._begin(failed)
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()
            if not self._watch.let_go(STORE_PATIENCE):
                log.warning(
                    "the store of %r has not answered for %.0f s; it is left alone", self.participant.name, STORE_PATIENCE
                )
            self._loops, self._pulses, self._running = [], [], False
            self._stopping = threading.Event()  # the watch of this run may still hold the old one
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Ask for the drain, from any thread or signal handler; returns at once. One that does not run yet begins and ends."""
        start_new_thread(self._stopping.set, ())  # whoever is interrupted by a signal may hold the event's lock

    def standing(self) -> Standing:
        """How things stand now, over all threads."""
        counts, lag = Counts(), dict[int, int]()
        owned = {number: lane for loop in self._loops for number, lane in loop.lanes.owned.copy().items()}
        for loop in self._loops:
            counts += loop.processor.intake.counts
            lag.update({**loop.agenda.lag, **lag_unread(loop.lanes, self._watch.ends)})
        since = [moment for loop in self._loops for lane, moment in [*loop.unhandled.since.items()] if lane in loop.lanes.owned]
        return Standing(
            lanes=tuple(sorted(owned)),
            stopped={number: lane.stopped for number, lane in owned.items() if lane.stopped is not None},
            counts=counts,
            breakers=self._breakers.standing(),
            resting=tuple(sorted(number for number, lane in owned.items() if lane.resume_at is not None)),
            lag={number: behind for number, behind in lag.items() if number in owned},
            stock=self._watch.stock,
            lost=sum(loop.unhandled.lost for loop in self._loops),
            pruned=sum(loop.agenda.pruning.gone for loop in self._loops),
            unhandled_since=min(since, default=None),
        )

    def health(self) -> Health:
        """How the worker and everything it depends on are, as seen last; asks nothing of anybody, so it never waits.

        Whoever has more to tell appends to `parts` a function that answers it.
        """
        found = [self._part(), *(part for loop in self._loops for part in loop.parts())]
        turning = {loop.pulse for loop in self._loops}
        found += [pulse.part(None) for pulse in self._pulses if pulse not in turning]
        found += self._watch.parts()
        found += [_dependency(name, standing) for name, standing in self._breakers.standing().items()]
        found += [part for parts in self.parts for part in parts()]
        return Health(self.participant.name, self.participant.saga.name, tuple(found))

    def _unread(self) -> list[Partition]:
        return [source for loop in self._loops for number in loop.lanes.unread() for source in loop.lanes.sources(number)]

    def _part(self) -> Part:
        if self.failure is not None:
            return Part("worker", State.DEAD, f"it ended: {type(self.failure).__name__}: {self.failure}")
        if not self._running:
            return Part("worker", State.STOPPED, "it does not run")
        if self._stopping.is_set():
            return Part("worker", State.STOPPED, "it drains")
        return Part("worker", State.READY, f"it runs with {many(self.threads, 'thread')}")

    def _begin(self, failed: Callable[[BaseException], None] | None) -> list[threading.Thread]:
        if self._running:
            raise LifecycleError(f"the worker of {self.participant.name!r} is running already")
        self._running, self.failure = True, None
        name = self.participant.name
        self._pulses = [Pulse(f"thread saga-{name}-{number}", self.participant.clock) for number in range(self.threads)]
        names = [f"saga-{name}-{number}" for number in range(self.threads)]
        threads = [
            threading.Thread(target=self._live, args=[pulse, failed], name=name)
            for name, pulse in zip(names, self._pulses, strict=True)
        ]
        for thread in threads:
            thread.start()
        # it may be asking somebody who does not answer when the worker ends: only for the store is it waited, and not for ever
        threading.Thread(target=self._watch.run, args=[self._stopping], name=f"saga-{name}-watch", daemon=True).start()
        return threads

    def _live(self, pulse: Pulse, failed: Callable[[BaseException], None] | None) -> None:
        """The life of one thread; what ends it ends the worker."""
        try:
            self._wait_for_schemas(pulse)
            if (partitions := self._wait_for_topics(pulse)) is not None and self._may_forget(pulse):
                loop = self._loop(partitions, pulse)
                self._loops.append(loop)
                loop.run()
        except BaseException as error:
            log.error("the worker of %r ends: %s", self.participant.name, error)
            first, self.failure = self.failure is None, self.failure or error
            self._stopping.set()
            if first and failed is not None:
                failed(error)

    def _loop(self, partitions: int, pulse: Pulse) -> Loop:
        return Loop(
            self.participant,
            self.store,
            self.broker,
            partitions,
            batch=self.batch,
            stopping=self._stopping,
            chance=self.chance,
            breakers=self._breakers,
            tracer=self.tracer,
            pulse=pulse,
            watch=self._watch,
            overdue=self.overdue,
            keep_workflows=self._retention.keep,
            may_prune=lambda: self._retention.allows,
        )

    def _wait_for_schemas(self, pulse: Pulse) -> None:
        """Have the ids of all schemas before the first record; a registry that is away is waited for."""
        told = False
        while not self._stopping.is_set():
            try:
                self.participant.warm()
                return
            except RegistryUnavailable as error:
                if not told:
                    log.warning("waiting for the registry: %s", error)
                told = True
                pulse.beat(f"waiting for the registry: {error}")
                self._watch.trouble("registry", str(error))
            self._stopping.wait(_LOOK_AGAIN)

    def _wait_for_topics(self, pulse: Pulse) -> int | None:
        """The partition count of the saga's topics; None if told to stop meanwhile. Waits for a broker as long as it takes."""
        clock, topics = self.participant.clock, saga_topics(self.participant.saga.name)
        patience, told = clock.monotonic() + TOPIC_PATIENCE, ""
        while not self._stopping.is_set():
            try:
                found = self.broker.partitions(topics)
            except BrokerError as error:
                news, patience = f"waiting for the broker: {error}", clock.monotonic() + TOPIC_PATIENCE
                self._watch.trouble("broker", str(error))
            else:
                missing = ", ".join(topic for topic, count in found.items() if count is None)
                if not missing:
                    return self._agreed(found)
                news = f"waiting for topic {missing}; run: saga topics apply"
                if clock.monotonic() > patience:
                    raise DefinitionError(f"after {TOPIC_PATIENCE:.0f} s still {news}")
            pulse.beat(news)
            if news != told:
                log.warning("%s", news)
                told = news
            self._stopping.wait(_LOOK_AGAIN)
        return None

    def _may_forget(self, pulse: Pulse) -> bool:
        """Whether to begin, once the broker has said that what is to be forgotten may be; False if told to stop meanwhile."""
        while not self._stopping.is_set():
            try:
                self._retention.require()
                return True
            except BrokerError as error:
                pulse.beat(f"waiting for the broker: {error}")
                self._watch.trouble("broker", str(error))
            self._stopping.wait(_LOOK_AGAIN)
        return False

    def _agreed(self, found: dict[str, int | None]) -> int:
        counts = set(found.values())
        if len(counts) != 1:
            raise DefinitionError(
                f"found partition counts {', '.join(f'{t}: {c}' for t, c in found.items())}; expected the same for all "
                f"topics of a saga, since a lane is one partition number of each. Look at: saga topics plan"
            )
        count = counts.pop()
        assert count is not None
        return count


def _drain(stopping: threading.Event, signal: str) -> None:
    log.info("%s: draining", signal)
    stopping.set()


def _dependency(name: str, breaker: BreakerStanding) -> Part:
    """How a declared dependency is, as its breaker sees it."""
    if breaker.circuit is Circuit.CLOSED:
        return Part(name, State.READY, f"{breaker.failure_rate:.0%} of the latest calls failed")
    probe = f", tried again at {breaker.next_probe:%T %Z}" if breaker.next_probe else ""
    return Part(name, State.DEGRADED, f"its breaker is {breaker.circuit.value} since {breaker.since:%F %T %Z}{probe}")
