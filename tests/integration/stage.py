"""A saga on real servers for one test: hotels in processes that it can stop and kill, and here an agency and a bank.

Those two keep their books in SQLite, the hotels in the test's own PostgreSQL database, where they write down what they do.
Nobody plays the airline: a trip stays open until it is aborted, and then the bank's report lets the hotels undo theirs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from saga import Worker
from saga.contracts.message import Message, from_headers
from saga.contracts.topics import fact_topics, group, saga_topics
from saga.store.postgres import PostgresStore
from saga.store.postgres_tables import PostgresTables
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition, Record
from tests.integration.subject import TABLES, Orders
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

ROOT = Path(__file__).parents[2]
LANES = 6


@dataclass
class Hotels:
    """One process of the hotels."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, *, within: float = 60.0) -> int:
        """Send the signal and wait for the end; answers the exit code."""
        self.send(number)
        return self.process.wait(within)

    def said(self, words: str) -> bool:
        return words in self.log.read_text()


@dataclass
class Stage:
    """Topics, databases and the agency of saga `name`, and the processes started so far."""

    name: str
    kafka: str
    database: str
    folder: Path
    processes: list[Hotels] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = KafkaBroker(KafkaSettings(self.kafka))
        self.broker.create(saga_topics(self.name), LANES, {})
        self.agency, _, _, self.bank = fleet(Script(), name=self.name)
        self.books, self.ledger = (SqliteStore(self.folder / f"{name}.db", migrate=True) for name in ("agency", "bank"))
        for store in (self.books, self.ledger):
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
        PostgresTables(self.database).upgrade()
        with psycopg.connect(self.database) as connection:
            connection.execute(TABLES)

    @contextmanager
    def others_at_work(self) -> Iterator[None]:
        """The workers of agency and bank in threads of this process, each with all lanes."""
        settings = KafkaSettings(self.kafka, lanes="all")
        with ExitStack() as stack:
            for participant, store in ((self.agency, self.books), (self.bank, self.ledger)):
                worker = Worker(participant, store=store, broker=KafkaBroker(settings))
                stack.enter_context(worker.running())
                until(lambda worker=worker: len(worker.standing().lanes) == LANES, what="all lanes")  # type: ignore[misc]
            yield

    def book(self, count: int) -> list[str]:
        """Start so many workflows; answers their ids."""
        with self.books.transaction() as tx:
            ids = [f"w{number}" for number in range(len(self.started), len(self.started) + count)]
            for id in ids:
                self.agency.start(TripBooked(trip=id), tx, workflow_id=id)
        self.started += ids
        return ids

    def abort(self, ids: Sequence[str]) -> None:
        with self.books.transaction() as tx:
            for id in ids:
                self.agency.abort(id, tx, reason="the customer has called")

    def hotels(self, failpoints: str = "", **orders: Any) -> Hotels:
        """Start one more process of the hotels."""
        told = Orders(saga=self.name, kafka=self.kafka, database=self.database, **orders)
        log = self.folder / f"hotels-{len(self.processes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.subject", told.json()],
                cwd=ROOT,
                env={**os.environ, "SAGA_FAILPOINTS": failpoints},
                stdout=out,
                stderr=out,
            )
        self.processes.append(Hotels(process, log))
        return self.processes[-1]

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """What the hotels' database says."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql, values or None).fetchall()

    def owners(self) -> dict[int, int]:
        """Lane to process, by the last claim of each that was not given up."""
        last = "SELECT DISTINCT ON (lane) lane, pid, released FROM claims ORDER BY lane, epoch DESC"
        return {lane: pid for lane, pid, released in self.rows(last) if not released}

    def shared_by(self, *processes: Hotels) -> bool:
        """Whether these processes, and no others, own all lanes in equal parts, as they and the group's coordinator say."""
        owners, pids = self.owners(), {process.pid for process in processes}
        shares = sorted(sorted(lane for lane, owner in owners.items() if owner == pid) for pid in pids)
        equal = [len(share) for share in shares] == [LANES // len(processes)] * len(processes)
        return {*owners.values()} == pids and equal and self._assigned() == shares

    def handled(self, ids: Sequence[str], act: str = "action") -> bool:
        """Whether the hotels have committed this effect for all of these workflows."""
        found = self.rows("SELECT DISTINCT workflow FROM effects WHERE act = %s AND workflow = ANY(%s)", act, [*ids])
        return len(found) == len(ids)

    def effects(self) -> Counter[tuple[str, str]]:
        return Counter(tuple(row) for row in self.rows("SELECT workflow, act FROM effects"))

    def records(self) -> list[Record]:
        """Everything on the saga's topics, partition by partition."""
        every: dict[Partition, int | None] = {Partition(t, n): None for t in fact_topics(self.name) for n in range(LANES)}
        return sorted(self.broker.read(every), key=lambda record: record[:3])

    def stated(self) -> dict[str, set[str]]:
        """Workflow to the facts about the step `hotel` that are on the topics."""
        found: dict[str, set[str]] = defaultdict(set)
        for message in map(message_of, self.records()):
            if message.kind.step == "hotel":
                found[message.workflow_id].add(message.kind.status)
        return found

    def pending(self) -> int:
        """Rows of the hotels' outbox that are not marked as published."""
        store = PostgresStore(self.database)
        try:
            return sum(len(store.pending(self.name, lane, 1000)) for lane in range(LANES))
        finally:
            store.close()

    def close(self) -> None:
        for hotels in self.processes:
            if hotels.process.poll() is None:
                hotels.process.kill()  # a stopped process dies of this too
                hotels.process.wait()
        self.books.close()
        self.ledger.close()

    def _assigned(self) -> list[list[int]]:
        """The lanes of each member of the hotels' group, as the broker has assigned them; fails where twins are apart."""
        admin, name = self._admin(), group(self.name, "hotels")
        described = admin.describe_consumer_groups([name], request_timeout=10)[name].result()
        shares = []
        for member in described.members:
            topics: dict[str, set[int]] = defaultdict(set)
            for partition in member.assignment.topic_partitions:
                topics[partition.topic].add(partition.partition)
            shares.append(sorted(set.intersection(*(topics[topic] for topic in saga_topics(self.name)))))
        return sorted(shares)

    def offsets(self) -> dict[tuple[str, int], int]:
        """The offsets that the hotels' group has committed."""
        admin, name = self._admin(), group(self.name, "hotels")
        found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result()
        return {(p.topic, p.partition): p.offset for p in found.topic_partitions if p.offset >= 0}

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.kafka, "log_level": 0})


@contextmanager
def staged(name: str, kafka: str, database: str, folder: Path) -> Iterator[Stage]:
    """The stage with agency and bank at work; every process is gone at the end."""
    stage = Stage(name, kafka, database, folder)
    with ExitStack() as stack:
        stack.callback(stage.close)
        stack.enter_context(stage.others_at_work())
        yield stage


def message_of(record: Record) -> Message:
    return from_headers(dict(record.headers), record.value or b"")


def one_epoch_after_the_other(stage: Stage) -> None:
    """No two owners' commits of a lane are interleaved, and none skips or repeats a batch number."""
    commits: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for lane, epoch, batch, pid in stage.rows("SELECT lane, epoch, batch, pid FROM commits ORDER BY lane, number"):
        commits[lane].append((epoch, batch, pid))
    owners = {(lane, epoch): pid for lane, epoch, pid in stage.rows("SELECT lane, epoch, pid FROM claims")}
    assert len(commits) == LANES
    for lane, found in commits.items():
        assert [batch for _, batch, _ in found] == [*range(1, len(found) + 1)], f"lane {lane}: {found}"
        assert [epoch for epoch, _, _ in found] == sorted(epoch for epoch, _, _ in found), f"lane {lane}: {found}"
        assert {owners[lane, epoch] == pid for epoch, _, pid in found} == {True}


def first_published_in_order(records: Sequence[Record]) -> dict[tuple[str, str], list[int]]:
    """(participant, workflow) to the sequence numbers on the topics, none missing; a repeated one counts at its first place."""
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    latest: dict[tuple[str, str, str], int] = defaultdict(int)
    for record in records:
        message = message_of(record)
        about = message.kind.source, message.workflow_id
        if message.sequence not in seen[about]:
            assert message.sequence > latest[*about, record.topic], (about, message.sequence, record.topic)
            latest[*about, record.topic] = message.sequence
            seen[about].add(message.sequence)
    for about, found in seen.items():
        assert found == {*range(1, len(found) + 1)}, (about, found)
    return {about: sorted(found) for about, found in seen.items()}
