"""A database restored from an older backup: its lanes stop and name the record, and nothing is run a second time."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from saga import Participant, Worker
from saga.contracts.topics import lane_of
from saga.store.port import Store
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from servers import fresh_database
from tests.integration.stage import LANES, Stage, message_of, staged
from tests.integration.subject import hotels
from tests.travel import CREATE_EFFECTS, Script, fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

SAYS = re.compile(
    r"restore-\w+\.events/\d@\d+ holds fact 1 of 'hotels' about workflow (w\d+), but this database knows 0: it was restored "
    r"from a backup, or is not the one that 'hotels' used\. Nothing was run again\. Put the right database back, "
    r"or make it anew from the topics: saga rebuild"
)


@pytest.mark.parametrize("taken", ["resting", "running"])
def test_postgres_from_a_backup_stops_the_lanes_that_went_on(
    kafka: str, postgres: str, database: str, tmp_path: Path, taken: str
) -> None:
    with staged(f"restore-{taken}", kafka, database, tmp_path) as stage:
        participant = hotels(stage.name)
        with closing(PostgresStore(database)) as store, _at_work(stage, participant, store):
            before = _booked(stage)
        with fresh_database(postgres, template=database.rpartition("/")[2]) as backup:
            if taken == "running":  # nobody may be connected to a template, but this is how its lanes would look
                with psycopg.connect(backup) as connection:
                    connection.execute("UPDATE saga_lane SET clean = false")
            with closing(PostgresStore(database)) as store, _at_work(stage, participant, store):
                after = _booked(stage)
            with closing(PostgresStore(backup)) as store:
                _nothing_is_run_twice(stage, participant, store, before, after)


def test_sqlite_from_a_copy_stops_the_lanes_that_went_on(kafka: str, database: str, tmp_path: Path) -> None:
    file, copy = tmp_path / "hotels.db", tmp_path / "copy.db"
    with staged("restore-sqlite", kafka, database, tmp_path) as stage:
        participant = fleet(Script(), name=stage.name)[1]
        with closing(SqliteStore(file, migrate=True)) as store:
            with store.transaction() as tx:
                tx.execute(CREATE_EFFECTS)
            with _at_work(stage, participant, store):
                before = _booked(stage)
                with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
                after = _booked(stage)
        with closing(SqliteStore(copy)) as store:
            _nothing_is_run_twice(stage, participant, store, before, after)


@contextmanager
def _at_work(stage: Stage, participant: Participant, store: Store) -> Iterator[Worker]:
    with Worker(participant, store=store, broker=KafkaBroker(KafkaSettings(stage.kafka))).running() as worker:
        until(lambda: len(worker.standing().lanes) == LANES, what="all lanes")
        yield worker


def _booked(stage: Stage) -> list[str]:
    """Some more bookings, which the hotels have answered."""
    ids = stage.book(12)
    until(lambda: stage.stated().keys() >= {*ids}, what="the hotels' answers")
    return ids


def _nothing_is_run_twice(
    stage: Stage, participant: Participant, store: Store, before: Sequence[str], after: Sequence[str]
) -> None:
    published, went_on = _facts(stage), {lane_of(id, LANES) for id in after}

    with _at_work(stage, participant, store) as worker:
        stopped = worker.standing().stopped
        with store.transaction() as tx:
            effects = Counter(workflow for (workflow,) in tx.execute("SELECT workflow FROM effects").fetchall())

    assert set(stopped) == went_on
    for lane, reason in stopped.items():
        said = SAYS.search(str(reason))
        assert said, reason
        assert said.group(1) in after
        assert lane_of(said.group(1), LANES) == lane
    assert effects == Counter(before)
    assert _facts(stage) == published


def _facts(stage: Stage) -> set[str]:
    """Ids of everything published; what the backup has as unpublished may go out a second time."""
    return {message_of(record).id for record in stage.records()}
