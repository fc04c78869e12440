"""A participant before a million events: what it holds in memory does not depend on how many wait."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from saga.contracts.message import Kind, Message, event_id, to_headers
from saga.contracts.topics import events_topic
from saga.protocol.facts import FactStatus
from saga.store.sqlite import SqliteStore
from saga.transport.kafka_settings import KafkaSettings
from tests.integration.stage import ROOT, Stage
from tests.travel import CREATE_EFFECTS, Script, fleet
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EVENTS = int(os.environ.get("SAGA_TEST_EVENTS", "1000000"))
HANDLED = 10_000
COUNT = "SELECT count(*) FROM effects"
MEGABYTE = 1024
MOST = 200 * MEGABYTE  # in kB, as the kernel counts


HOTELS = "from tests.integration.subject import hotels as made\nparticipant = made('memory')\n"
AIRLINE = "from tests.travel import CREATE_EFFECTS, Script, fleet\nparticipant = fleet(Script(), name='memory')[2]\n"


def test_a_participant_with_a_million_events_waiting_stays_below_200_megabytes(
    kafka: str, database: str, tmp_path: Path
) -> None:
    books = f"sqlite:///{tmp_path}/airline.db"
    with ExitStack() as stack:
        played = stack.enter_context(closing(Stage("memory", kafka, database, tmp_path)))
        file = stack.enter_context(closing(SqliteStore(tmp_path / "airline.db", migrate=True)))
        with file.transaction() as tx:
            tx.execute(CREATE_EFFECTS)
        publish("memory", kafka, EVENTS)

        on_postgres = peak(tmp_path, kafka, database, HOTELS, lambda: played.rows(COUNT)[0][0])
        on_sqlite = peak(tmp_path, kafka, books, AIRLINE, lambda: counted(file))

    print(f"peak on PostgreSQL {on_postgres / MEGABYTE:.0f} MB, on SQLite {on_sqlite / MEGABYTE:.0f} MB")
    assert on_postgres < MOST
    assert on_sqlite < MOST


def counted(file: SqliteStore) -> int:
    with file.transaction() as tx:
        return int(tx.execute(COUNT).fetchone()[0])


def peak(folder: Path, kafka: str, database: str, module: str, handled: Callable[[], int]) -> int:
    """The most memory (kB) that `saga run` held until it had handled a part, most of the events waiting all the time."""
    (folder / "hungry.py").write_text(module)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SAGA_BROKER": kafka, "SAGA_DATABASE": database}
    command = [sys.executable, "-B", "-c", "from saga.cli import main; main()", "run", "hungry:participant"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        until(lambda: handled() >= HANDLED, seconds=240, what="a part of the events")
        assert EVENTS - handled() > EVENTS // 2
        return peak_of(process.pid)
    finally:
        process.kill()
        process.wait()


def peak_of(pid: int) -> int:
    """The most that was ever resident, in kB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


def publish(saga: str, kafka: str, count: int) -> None:
    """So many first events, one for each of so many workflows, as the agency would have published them."""
    agency = fleet(Script(), name=saga)[0]
    payload = agency.codec.encode("travel.TripBooked", {"trip": "rome " * 50})
    kind, now = Kind("travel.TripBooked", "agency", saga, 1, "book", FactStatus.DONE), datetime.now(UTC)
    producer = Producer(KafkaSettings(kafka, client={"linger.ms": "50", "queue.buffering.max.messages": "200000"}).producer())
    topic = events_topic(saga)
    for number in range(count):
        workflow_id = f"trip-{number}"
        id = event_id(saga, workflow_id, "book", FactStatus.DONE)
        message = Message(kind=kind, id=id, workflow_id=workflow_id, time=now, sequence=1)
        headers = to_headers(message)
        while True:
            try:
                producer.produce(topic, payload, workflow_id.encode(), headers=[*headers])
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
