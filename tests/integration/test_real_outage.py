"""Broker, database or registry away, at the start and in the middle: what is begun waits, and then all goes out in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

from saga import Participant, Worker
from saga.contracts.registry import Registry
from saga.contracts.topics import fact_topics, saga_topics
from saga.engine.health import State
from saga.errors import RegistryUnavailable
from saga.evolution.plan import subjects
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from servers import LocalServer, postgres
from servers import kafka as kafka_server
from servers.process import LOOPBACK, free_port
from tests.integration.stage import first_published_in_order
from tests.serving import own
from tests.travel import Script, TripBooked, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

LANES = 4
GRACE = 30.0
"""Seconds in which a worker must have ended after it was told to, whatever is away: then orchestrators kill it."""


@pytest.fixture
def own_kafka() -> Iterator[LocalServer]:
    """A broker that only this test has, not started yet."""
    with own(kafka_server.local) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[LocalServer]:
    """A server that only this test has."""
    with own(postgres.local) as server:
        server.start()
        yield server


def test_what_is_begun_while_the_broker_is_away_goes_out_in_order_when_it_is_back(
    own_kafka: LocalServer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    agency, patient = fleet(Script(), name="outage")[0], KafkaBroker(KafkaSettings(own_kafka.address))
    broker = KafkaBroker(KafkaSettings(own_kafka.address, timeout=2.0))
    with closing(PostgresStore(database, migrate=True)) as store:
        own_kafka.start()
        patient.create(saga_topics("outage"), LANES, {})
        with Worker(agency, store=store, broker=broker).running() as worker:
            until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
            _begin(agency, store, "before", 20)
            until(lambda: not _pending(store), what="the first to be published")

            own_kafka.crash()
            _begin(agency, store, "away", 20)
            until(lambda: _is_degraded(worker, "broker"), what="health to say that the broker is away")
            own_kafka.start()
            until(lambda: not _pending(store), what="what was begun meanwhile to be published")
            until(lambda: worker.health().ready, what="health to say that all is well")
            own_kafka.crash()
            told = monotonic()
        assert monotonic() - told < GRACE
        _begin(agency, store, "nobody", 20)
        with Worker(agency, store=store, broker=broker).running() as worker:
            until(lambda: "waiting for the broker" in caplog.text, what="the worker to say what it waits for")
            _begin(agency, store, "waiting", 20)
            until(lambda: _is_degraded(worker, "broker"), what="health to say what is awaited")
            own_kafka.start()
            until(lambda: not _pending(store), what="everything to be published")
            assert len(worker.standing().lanes) == LANES
            assert not worker.standing().stopped
            until(lambda: worker.health().ready, what="health to say that all is well")

    records = [*patient.read({Partition(topic, n): None for topic in fact_topics("outage") for n in range(LANES)})]
    published = first_published_in_order(records)
    begun = {f"{when} {n}" for when in ("before", "away", "nobody", "waiting") for n in range(20)}
    assert published == {("agency", id): [1, 2] for id in begun}


def test_a_rebalance_while_the_database_is_away_costs_no_worker(
    kafka: str, own_postgres: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    participants = [fleet(Script(), name="rebalance-without-database")[0] for _ in range(2)]
    broker = _broker_of(participants[0], kafka)
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(PostgresStore(own_postgres.address, migrate=True))) for _ in participants]
        first, second = (Worker(p, store=store, broker=broker) for p, store in zip(participants, stores, strict=True))
        stack.enter_context(first.running())
        until(lambda: len(first.standing().lanes) == LANES, what="the lanes")

        own_postgres.crash()
        stack.enter_context(second.running())
        until(lambda: "cannot be taken" in caplog.text, what="a claim that fails")
        until(lambda: all(_is_degraded(w, "store") for w in (first, second)), what="health to say so")
        assert "cannot be taken" in str(second.health().reasons)
        own_postgres.start()

        until(lambda: [len(w.standing().lanes) for w in (first, second)] == [LANES // 2] * 2, what="both to share the lanes")
        _begin(participants[0], stores[0], "afterwards", 20)
        until(lambda: not _pending(stores[0]), what="everything to be published")
        until(lambda: first.health().ready and second.health().ready, what="health to say that all is well")
        assert "were left as they are, their next owner will tidy up" in caplog.text


def test_a_worker_waits_for_its_registry_and_goes_on_by_itself(
    kafka: str, registry: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agency, door = _registered("registry-away", registry), Door(registry)
    with closing(SqliteStore(tmp_path / "agency.db", migrate=True)) as store, closing(door):
        worker = Worker(agency, store=store, broker=_broker_of(agency, kafka), registry=Registry(door.url, timeout=1.0))
        with worker.running():
            until(
                lambda: "waiting for the registry" in str(worker.health().reasons), what="the worker to say what it waits for"
            )
            until(lambda: _is_degraded(worker, "registry"), what="health to say that the registry is away")
            assert worker.standing().lanes == ()
            assert "waiting for the registry" in caplog.text

            door.open()
            until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
            _begin(agency, store, "later", 5)
            until(lambda: not _pending(store), what="what was begun to be published")
            until(lambda: worker.health().ready, what="health to say that all is well")

            door.close()
            until(lambda: _is_degraded(worker, "registry"), what="health to say that the registry is away")
            _begin(agency, store, "meanwhile", 5)
            until(lambda: not _pending(store), what="what was begun meanwhile to be published")


def test_with_what_it_learnt_before_a_worker_needs_no_registry(kafka: str, registry: str, tmp_path: Path) -> None:
    agency, door, cache = _registered("registry-known", registry), Door(registry), tmp_path / "cache"
    before = fleet(Script(), name=agency.saga.name)[0]
    with closing(SqliteStore(tmp_path / "agency.db", migrate=True)) as store, closing(door):
        door.open()
        before.use(Registry(door.url, cache=cache))
        before.codec.warm()
        door.close()
        with pytest.raises(RegistryUnavailable):
            Registry(door.url, timeout=1.0).schema_of(1)

        worker = Worker(agency, store=store, broker=_broker_of(agency, kafka), registry=Registry(door.url, cache=cache))
        with worker.running():
            until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
            _begin(agency, store, "without", 5)
            until(lambda: not _pending(store), what="what was begun to be published")


class Door:
    """An address at which nobody answers until it is opened; then it leads to the real server."""

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self._target, self._port = (url.hostname, url.port), free_port()
        self._listener: socket.socket | None = None
        self.url = url._replace(netloc=f"{LOOPBACK}:{self._port}").geturl()

    def open(self) -> None:
        self._listener = socket.create_server((LOOPBACK, self._port))
        threading.Thread(target=self._admit, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _admit(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                for here, there in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=[here, there], daemon=True).start()


def _pass_on(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while data := here.recv(1 << 16):
            there.sendall(data)
    for side in (here, there):
        side.close()


def _registered(name: str, registry: str) -> Participant:
    """The agency of a saga whose schemas are registered."""
    agency, known = fleet(Script(), name=name)[0], Registry(registry)
    for subject, schema in subjects(agency.saga):
        known.register(subject, schema)
    return agency


def _broker_of(agency: Participant, kafka: str) -> KafkaBroker:
    broker = KafkaBroker(KafkaSettings(kafka))
    broker.create(saga_topics(agency.saga.name), LANES, {})
    return broker


def _begin(agency: Participant, store: PostgresStore | SqliteStore, when: str, count: int) -> None:
    """Start so many workflows and think better of it: two events each."""
    for number in range(count):
        with store.transaction() as tx:
            agency.start(TripBooked(trip=when), tx, workflow_id=f"{when} {number}")
        with store.transaction() as tx:
            agency.abort(f"{when} {number}", tx, reason="the customer has called")


def _is_degraded(worker: Worker, what: str) -> bool:
    """Whether health says so of this part, and that the worker is alive all the same."""
    health = worker.health()
    return health.alive and any(part.name == what and part.state is State.DEGRADED for part in health.parts)


def _pending(store: PostgresStore | SqliteStore) -> int:
    sagas = ("outage", "registry-away", "registry-known", "rebalance-without-database")
    return sum(len(store.pending(saga, lane, 1000)) for saga in sagas for lane in range(LANES))
