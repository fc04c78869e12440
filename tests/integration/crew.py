"""The four participants of the trips at work, each with a database of its own: on Kafka and PostgreSQL, or embedded.

Workers are threads here; they share nothing but the topics, the script that they follow, and the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from saga import Participant, Worker
from saga.clock import SystemClock
from saga.contracts.message import Message
from saga.contracts.topics import fact_topics, saga_topics
from saga.protocol.facts import FactStatus, WorkflowStatus
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Workflow
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from servers import fresh_database
from tests.integration.stage import message_of
from tests.travel import CREATE_EFFECTS, TripBooked
from tests.waiting import until

LANES = 4
NAMES = ("agency", "hotels", "airline", "bank")

ArchivedStore = PostgresStore | SqliteStore


class JumpingClock(SystemClock):
    """The machine's clock, whose `now` can be put forward: what is due in minutes is due at once."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def jump(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class Crew:
    """Participants by name with their stores; `begin` and `end` are the life of one's process."""

    participants: Mapping[str, Participant]
    stores: Mapping[str, ArchivedStore]
    broker: KafkaBroker
    clock: JumpingClock = field(default_factory=JumpingClock)
    workers: dict[str, Worker] = field(default_factory=dict)
    _running: dict[str, ExitStack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.saga = self.participants["agency"].saga
        for name, participant in self.participants.items():
            participant.clock = self.clock
            with self.stores[name].transaction() as tx:
                tx.execute(CREATE_EFFECTS)

    def begin(self, *names: str, **options: Any) -> None:
        """Start these workers and wait until each owns all lanes; `options` are those of Worker."""
        for name in names:
            stack = self._running[name] = ExitStack()
            worker = Worker(self.participants[name], store=self.stores[name], broker=self.broker, **options)
            self.workers[name] = stack.enter_context(worker.running())
        for name in names:
            until(lambda name=name: len(self.workers[name].standing().lanes) == LANES, what=f"the lanes of {name}")  # type: ignore[misc]

    def end(self, *names: str) -> None:
        """Let these workers drain and wait for their end; without names, all of them."""
        for name in names or self._running:
            self.workers[name].stop()
        for name in names or [*self._running]:
            self._running.pop(name).close()

    def start(self, *trips: str) -> None:
        """Start one workflow for each trip, which is its id as well."""
        with self.stores["agency"].transaction() as tx:
            for trip in trips:
                self.participants["agency"].start(TripBooked(trip=trip), tx, workflow_id=trip)

    def workflow(self, name: str, trip: str) -> Workflow | None:
        """What this participant knows of the trip."""
        found = self.stores[name].find(trip)
        return found[0][1] if found else None

    def fence(self, name: str, trip: str, step: str) -> Fence | None:
        found = self.workflow(name, trip)
        return found.fences.get(step) if found else None

    def ends(self, trip: str) -> set[WorkflowStatus | None]:
        """How the trip ended, as all participants say; None is among them while one of them does not."""
        found = (self.workflow(name, trip) for name in self.participants)
        return {end.status if end and end.closed else None for end in found}

    def await_end(self, *trips: str) -> None:
        for trip in trips:
            until(lambda trip=trip: None not in self.ends(trip), what=f"everybody to know the end of {trip}")  # type: ignore[misc]

    def facts(self) -> list[Message]:
        """All that was stated on the topics so far."""
        every: dict[Partition, int | None] = {Partition(t, n): None for t in fact_topics(self.saga.name) for n in range(LANES)}
        return [*map(message_of, self.broker.read(every))]

    def sources(self, trip: str, status: FactStatus) -> list[str]:
        """Who stated a fact of this status about the trip, in no order."""
        return [m.kind.source for m in self.facts() if m.workflow_id == trip and m.kind.status is status]

    def effects(self, trip: str) -> list[tuple[str, str]]:
        """What handlers did for the trip, sorted: (step, act)."""
        found = []
        for store in self.stores.values():
            with store.transaction() as tx:
                rows = tx.execute("SELECT workflow, step, act FROM effects").fetchall()
            found += [(step, act) for workflow, step, act in rows if workflow == trip]
        return sorted(found)


@contextmanager
def on_servers(kafka: str, postgres: str, participants: list[Participant], **options: Any) -> Iterator[Crew]:
    """On Kafka and PostgreSQL, as members of their groups; all have ended when the block has. `options` are the stores'."""
    with ExitStack() as stack:
        urls = {p.name: stack.enter_context(fresh_database(postgres)) for p in participants}
        yield stack.enter_context(on_databases(kafka, urls, participants, **options))


@contextmanager
def on_databases(kafka: str, urls: Mapping[str, str], participants: list[Participant], **options: Any) -> Iterator[Crew]:
    """The same on databases, by participant, that somebody else has made."""
    broker = KafkaBroker(KafkaSettings(kafka))
    broker.create(saga_topics(participants[0].saga.name), LANES, {})
    with ExitStack() as stack:
        yield from _at_work(stack, broker, participants, lambda name: PostgresStore(urls[name], migrate=True, **options))


@contextmanager
def embedded(folder: Path, participants: list[Participant]) -> Iterator[Crew]:
    """On the embedded broker and SQLite."""
    with ExitStack() as stack:
        cluster = stack.enter_context(EmbeddedBroker(saga_topics(participants[0].saga.name)))
        broker = KafkaBroker(cluster.settings(lanes="all"))
        yield from _at_work(stack, broker, participants, lambda name: SqliteStore(folder / f"{name}.db", migrate=True))


def _at_work(
    stack: ExitStack, broker: KafkaBroker, participants: list[Participant], opened: Callable[[str], ArchivedStore]
) -> Iterator[Crew]:
    stores = {p.name: stack.enter_context(closing(opened(p.name))) for p in participants}
    crew = Crew({p.name: p for p in participants}, stores, broker)
    stack.callback(crew.end)
    yield crew
