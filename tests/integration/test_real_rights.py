"""A Kafka that asks who one is and allows what ACLs say: enough is what the page says, and what is taken away is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from saga import Participant, Worker
from saga.contracts.topics import fact_topics, saga_topics
from saga.engine.health import Health, State
from saga.errors import BrokerError
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from servers import LocalServer
from servers import kafka as kafka_server
from servers.process import LOOPBACK, free_port
from tests.serving import own
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
LANES = 4


@dataclass
class Guarded:
    """A Kafka with a listener at which everybody must say who they are; here one may change who may do what."""

    server: LocalServer
    address: str

    def __post_init__(self) -> None:
        self.admin = AdminClient({"bootstrap.servers": self.server.address, "log_level": 0})

    def let_in(self, user: str, password: str) -> None:
        """Give a user this password from now on; connections learn of it as they say again who they are."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        asked = self.admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, how, password.encode())])
        for answer in asked.values():
            answer.result(20)

    def allow(self, rights: Sequence[AclBinding]) -> None:
        for answer in self.admin.create_acls([*rights]).values():
            answer.result(20)

    def forbid(self, rights: Sequence[AclBinding]) -> None:
        found = [
            AclBindingFilter(r.restype, r.name, r.resource_pattern_type, r.principal, r.host, r.operation, r.permission_type)
            for r in rights
        ]
        for answer in self.admin.delete_acls(found).values():
            answer.result(20)

    def as_user(self, user: str, password: str, timeout: float = 2.0) -> KafkaBroker:
        client = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256"}
        return KafkaBroker(
            KafkaSettings(self.address, timeout=timeout, client={**client, "sasl.username": user, "sasl.password": password})
        )


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    address = f"{LOOPBACK}:{free_port()}"
    with own(partial(kafka_server.local, guarded=address)) as server:
        server.start()
        yield Guarded(server, address)


def rights(saga: str, participant: str, *who: str) -> list[AclBinding]:
    """What the page's table says that these need, for this participant."""
    table = PAGE.read_text().partition("## What Kafka must allow")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
    found = []
    for name, resource, operations, *_ in rows:
        if name in who:
            kind = ResourceType.GROUP if resource.startswith("group") else ResourceType.TOPIC
            alike = ResourcePatternType.PREFIXED if "begin with" in resource else ResourcePatternType.LITERAL
            names = [n.replace("SAGA", saga).replace("PARTICIPANT", participant) for n in re.findall(r"`([^`]+)`", resource)]
            asked = [(n, AclOperation[op]) for n in names for op in re.findall(r"`(\w+)`", operations)]
            found += [right(participant, kind, n, op, alike) for n, op in asked]
    assert found
    return found


def right(user: str, kind: Any, name: str, operation: Any, alike: Any = ResourcePatternType.LITERAL) -> AclBinding:
    return AclBinding(kind, name, alike, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


@pytest.fixture
def name(request: pytest.FixtureRequest, guarded: Guarded) -> str:
    """A saga of this test alone, with its topics."""
    name = re.sub(r"[^a-z]+", "-", request.node.name)[-60:].strip("-")
    KafkaBroker(KafkaSettings(guarded.server.address)).create(saga_topics(name), LANES, {})
    return name


def test_what_the_page_says_is_enough_for_a_fleet_and_for_those_who_read(guarded: Guarded, name: str, tmp_path: Path) -> None:
    participants = fleet(Script(), name=name)
    with ExitStack() as stack:
        for each in participants:
            guarded.let_in(each.name, "open sesame")
            guarded.allow(rights(name, each.name, "worker"))
            store = stack.enter_context(closing(SqliteStore(tmp_path / f"{each.name}.db", migrate=True)))
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
            worker = Worker(each, store=store, broker=guarded.as_user(each.name, "open sesame"))
            stack.enter_context(worker.running())
            if each.name == "agency":
                agency, books, at_work = each, store, worker
        until(lambda: len(at_work.standing().lanes) == LANES, what="the lanes")
        begin(agency, books, "1", "2", "3")
        until(lambda: closed(books) == 3, what="the trips to end")
        until(lambda: at_work.health().ready, what="health to say that all is well")

    guarded.let_in("reader", "let me read")
    guarded.allow(rights(name, "reader", "reader"))
    reading = guarded.as_user("reader", "let me read", timeout=20.0)
    partitions = [Partition(topic, n) for topic in fact_topics(name) for n in range(LANES)]
    until(lambda: may_read(reading, partitions), what="the broker to know the reader")
    records = [*reading.read(dict.fromkeys(partitions))]
    assert {record.key for record in records} == {b"1", b"2", b"3"}
    assert guarded.as_user("agency", "open sesame", timeout=20.0).committed(f"{name}.hotels", partitions)


def test_who_may_not_write_any_more_says_so_loses_nothing_and_goes_on_when_allowed(
    guarded: Guarded, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agency = fleet(Script(), name=name)[0]
    all_rights = rights(name, "agency", "worker")
    writing = [r for r in all_rights if r.operation == AclOperation.WRITE]
    guarded.let_in("agency", "secret")
    guarded.allow(all_rights)
    with closing(SqliteStore(tmp_path / "agency.db", migrate=True)) as store:
        worker = Worker(agency, store=store, broker=guarded.as_user("agency", "secret"))
        with worker.running():
            until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
            begin(agency, store, "before")
            until(lambda: not pending(store), what="the first to be published")

            guarded.forbid(writing)
            begin(agency, store, "meanwhile")
            until(lambda: tells(worker.health(), "nothing is published since"), what="health to say so")
            refused = worker.health()
            guarded.allow(writing)
            until(lambda: not pending(store), what="what waited to be published")
            until(lambda: worker.health().ready and worker.health().state is State.READY, what="health to say that all is well")

    assert refused.state is State.DEGRADED
    assert refused.alive
    assert tells(refused, "TOPIC_AUTHORIZATION_FAILED")
    assert caplog.text.count("publishing failed") < 60


def test_whose_password_is_taken_away_waits_for_it_and_says_so(guarded: Guarded, name: str, tmp_path: Path) -> None:
    agency = fleet(Script(), name=name)[0]
    guarded.let_in("agency", "secret")
    guarded.allow(rights(name, "agency", "worker"))
    with closing(SqliteStore(tmp_path / "agency.db", migrate=True)) as store:
        worker = Worker(agency, store=store, broker=guarded.as_user("agency", "secret"))
        with worker.running():
            until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
            guarded.let_in("agency", "another")
            begin(agency, store, "meanwhile")
            until(lambda: tells(worker.health(), "uthentication failed"), what="health to say so")
            refused = worker.health()
            guarded.let_in("agency", "secret")
            until(lambda: not pending(store), what="what waited to be published")
            until(lambda: worker.health().ready, what="health to say that all is well")

    assert (refused.alive, refused.ready) == (True, False)


def test_whose_topics_are_taken_away_ends_with_the_reason_and_a_successor_waits_for_them(
    guarded: Guarded, name: str, tmp_path: Path
) -> None:
    agency = fleet(Script(), name=name)[0]
    everything = rights(name, "agency", "worker")
    topics = [r for r in everything if r.restype == ResourceType.TOPIC]
    guarded.let_in("agency", "secret")
    guarded.allow(everything)
    with closing(SqliteStore(tmp_path / "agency.db", migrate=True)) as store:
        worker, ended = Worker(agency, store=store, broker=guarded.as_user("agency", "secret")), threading.Event()

        def be_shut_out() -> None:
            with worker.running(failed=lambda _: ended.set()):
                until(lambda: len(worker.standing().lanes) == LANES, what="the lanes")
                guarded.forbid(topics)
                begin(agency, store, "meanwhile")
                until(ended.is_set, what="the worker to end")

        with pytest.raises(BrokerError, match=r"(?i)authorization.failed"):  # librdkafka says it in words of its own too
            be_shut_out()
        assert worker.health().state is State.DEAD

        with worker.running():
            until(
                lambda: tells(worker.health(), "waiting for the broker", "AUTHORIZATION_FAILED"),
                what="the successor to say what it waits for",
            )
            waits = worker.health()
            guarded.allow(topics)
            until(lambda: not pending(store), what="what waited to be published")
            until(lambda: worker.health().ready, what="health to say that all is well")

    assert (waits.state, waits.alive, waits.ready) == (State.DEGRADED, True, False)


def may_read(broker: KafkaBroker, partitions: Sequence[Partition]) -> bool:
    """Whether the broker lets it; what it was told a moment ago it may not know yet."""
    try:
        return bool(broker.spans(partitions))
    except BrokerError:
        return False


def begin(agency: Participant, store: SqliteStore, *trips: str) -> None:
    with store.transaction() as tx:
        for trip in trips:
            agency.start(TripBooked(trip=trip), tx, workflow_id=trip)


def pending(store: SqliteStore) -> int:
    return counted(store, "SELECT count(*) FROM saga_outbox WHERE published IS NULL")


def closed(store: SqliteStore) -> int:
    return counted(store, "SELECT count(*) FROM saga_workflow WHERE closed IS NOT NULL")


def counted(store: SqliteStore, sql: str) -> int:
    with store.unit() as unit:
        return int(unit.execute(sql).fetchone()[0])


def tells(health: Health, *texts: str) -> bool:
    return all(text in str(health.reasons) for text in texts)
