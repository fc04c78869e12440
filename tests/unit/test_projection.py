"""Read models: each event exactly once, in tables of the service's own, rebuilt beside the live ones."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from saga import Event, Projection, ProjectionTransaction, Saga
from saga.contracts.topics import lane_of, saga_topics
from saga.errors import (
    DefinitionError,
    LaneFenced,
    LaneStopped,
    PartitionCountChanged,
    SagaError,
    StoreConflict,
    StoreError,
    TopicRecreated,
)
from saga.replay.comparison import Database
from saga.replay.projector import Projector, is_outage
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.testing.harness import Harness
from saga.transport.port import Record
from servers import fresh_database
from tests.flaky import Doubtful, FlakyStore
from tests.histories import lived, made_again
from tests.laid import sqlite_store
from tests.travel import HotelBooked, Script, TripBooked, TripCancelled, TripInsured, harness
from tests.travel import saga as travel


def trips(version: int = 1, *, name: str = "travel", trouble: Callable[[str], None] = lambda trip: None) -> Projection:
    """How often each trip was booked and cancelled, so that what is folded twice is seen."""
    projection = Projection("trips", travel(name=name), tables=["trips"], version=version)

    @projection.create
    def create(tx: ProjectionTransaction) -> None:
        tx.execute(f"CREATE TABLE {tx.table('trips')} (trip TEXT PRIMARY KEY, booked INTEGER, cancelled INTEGER)")

    @projection.on(TripBooked)
    def book(event: TripBooked, tx: ProjectionTransaction) -> None:
        trouble(event.trip)
        table = tx.table("trips")
        tx.execute(
            f"INSERT INTO {table} VALUES ('{event.trip}', 1, 0) ON CONFLICT (trip) DO UPDATE SET booked = {table}.booked + 1"
        )

    @projection.on(TripCancelled)
    def cancel(event: TripCancelled, tx: ProjectionTransaction) -> None:
        assert tx.workflow_id == event.trip
        tx.execute(f"UPDATE {tx.table('trips')} SET cancelled = cancelled + 1 WHERE trip = '{event.trip}'")

    return projection


@pytest.fixture
def fleet() -> Iterator[Harness]:
    with lived() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgres":
        with fresh_database(request.getfixturevalue("postgres")) as url, closing(PostgresStore(url, migrate=True)) as on_server:
            yield on_server
        return
    opened: Database = MemoryStore() if request.param == "memory" else sqlite_store(tmp_path / "reports.db")
    with closing(opened):
        yield opened


def rows(store: Database, table: str = "trips") -> list[tuple[Any, ...]]:
    with store.transaction() as tx:
        return [tuple(row) for row in tx.execute(f"SELECT * FROM {table} ORDER BY trip").fetchall()]


WHOLE = [("full", 1, 1), ("open", 1, 0), ("poor", 1, 1), ("smooth", 1, 0)]


def test_each_event_is_folded_once_however_often_the_projector_starts(fleet: Harness, store: Database) -> None:
    for _ in range(3):
        projector = Projector(trips(), store, fleet.broker)
        projector.start()
        projector.catch_up()
        projector.close()

    assert rows(store) == WHOLE


def test_what_comes_later_is_folded_later_and_what_was_published_again_is_not(fleet: Harness, store: Database) -> None:
    projector = Projector(trips(), store, fleet.broker, batch=2)
    projector.start()
    first = projector.catch_up()
    fleet.start(TripBooked(trip="rome"), workflow_id="rome")
    fleet.settle()
    for log in fleet.facts():
        log.extend([record._replace(offset=len(log) + n) for n, record in enumerate(log)])

    again = projector.catch_up()

    assert again > first
    assert rows(store) == sorted([*WHOLE, ("rome", 1, 0)])
    assert projector.catch_up() == 0


def test_a_fold_that_fails_stops_at_its_record_and_goes_on_there_once_it_is_mended(fleet: Harness, store: Database) -> None:
    def trouble(trip: str) -> None:
        if trip == "poor":
            raise ValueError("no poor people please")

    failing = Projector(trips(trouble=trouble), store, fleet.broker)
    failing.start()

    with pytest.raises(LaneStopped, match=r"record travel.events/\d@\d+, workflow poor: ValueError: no poor people please"):
        failing.catch_up()
    mended = Projector(trips(), store, fleet.broker)
    mended.start()
    mended.catch_up()

    assert rows(store) == WHOLE


def test_a_record_that_cannot_be_decoded_stops_at_its_place_and_is_left_out_by_it(
    fleet: Harness, store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    log = next(log for log in fleet.facts() if dict(log[0].headers)["ce_type"] == b"travel.TripBooked")
    [trip] = [(log[0].key or b"").decode()]
    log[0] = log[0]._replace(value=b"garbage")
    stopped = Projector(trips(), store, fleet.broker)
    stopped.start()

    with pytest.raises(LaneStopped, match=r"do without this record: --leave-out travel\.events/\d@\d+$") as told:
        stopped.catch_up()
    place = str(told.value).rpartition(" ")[2]
    projector = Projector(trips(), store, fleet.broker, leaving_out=[place])
    projector.start()
    projector.catch_up()

    assert [row for row in WHOLE if row not in rows(store)] == [row for row in WHOLE if row[0] == trip]
    assert f"record left out: record {place}: it was to be left out" in caplog.text


def booked_alone(fleet: Harness) -> tuple[list[Record], Record]:
    """A trip to Rome is booked: the log in which that is told, and the record, which is taken from its end."""
    fleet.start(TripBooked(trip="rome"), workflow_id="rome")
    fleet.turn("agency")
    log = next(log for log in fleet.facts() if log and dict(log[-1].headers)["ce_subject"] == b"rome")
    return log, log.pop()


@pytest.mark.parametrize(
    "headers",
    [
        {"ce_sequence": b"9" * 30},
        {"ce_id": b"a\0b"},
        {"ce_subject": b"a\0b"},
        {"ce_subject": random.Random(7).randbytes(3000).hex().encode()},
        {"ce_status": b"perhaps", "ce_sequence": b"90"},
    ],
    ids=["no number", "NUL", "no name", "no name that is indexed", "no status"],
)
def test_a_record_whose_headers_make_no_sense_is_left_out_and_hides_nothing_that_follows(
    fleet: Harness, store: Database, headers: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    projector = Projector(trips(), store, fleet.broker)
    projector.start()
    projector.catch_up()
    log, booked = booked_alone(fleet)
    strange = {**dict(booked.headers), "ce_id": b"strange", **headers}
    log += [booked._replace(headers=[*strange.items()]), booked._replace(offset=booked.offset + 1)]

    projector.catch_up()

    assert rows(store) == sorted([*WHOLE, ("rome", 1, 0)])
    assert "record left out: record travel.events/" in caplog.text


def test_a_record_of_another_saga_is_left_out_and_hides_nothing_that_follows(fleet: Harness, store: Database) -> None:
    for log in fleet.facts():
        strays = [{**dict(one.headers), "ce_saga": b"cruise", "ce_sequence": b"99"} for one in log]
        log[:0] = [one._replace(headers=[*stray.items()]) for one, stray in zip(log, strays, strict=True)]
        log[:] = [one._replace(offset=n) for n, one in enumerate(log)]
    projector = Projector(trips(), store, fleet.broker)
    projector.start()

    projector.catch_up()

    assert rows(store) == WHOLE


def test_what_was_lost_and_is_sent_again_behind_what_came_later_is_folded(fleet: Harness, store: Database) -> None:
    for log in fleet.facts():
        booked = [one for one in log if dict(one.headers)["ce_type"] == b"travel.TripBooked"]
        log[:] = [one._replace(offset=n) for n, one in enumerate([*(one for one in log if one not in booked), *booked])]
    projector = Projector(trips(), store, fleet.broker, batch=2)
    projector.start()

    projector.catch_up()

    assert [(trip, booked) for trip, booked, _ in rows(store)] == [(trip, booked) for trip, booked, _ in WHOLE]


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (b"elsewhere", {}),
        (None, {}),
        (b"stray", {"ce_subject": b"stray"}),
    ],
    ids=["another key", "no key", "another lane"],
)
def test_a_record_of_another_key_or_lane_is_left_out_too(
    fleet: Harness, store: Database, key: bytes | None, headers: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    projector = Projector(trips(), store, fleet.broker)
    projector.start()
    projector.catch_up()
    log, booked = booked_alone(fleet)
    if key == b"stray":
        key = next(f"stray-{n}".encode() for n in range(9) if lane_of(f"stray-{n}", fleet.partitions) != booked.partition)
        headers = {"ce_subject": key}
    strange = {**dict(booked.headers), "ce_id": b"strange", **headers}
    log += [booked._replace(key=key, value=b"garbage", headers=[*strange.items()]), booked._replace(offset=booked.offset + 1)]

    projector.catch_up()

    assert rows(store) == sorted([*WHOLE, ("rome", 1, 0)])
    assert "record left out: record travel.events/" in caplog.text


def test_any_number_that_a_fact_may_have_is_remembered(fleet: Harness, store: Database) -> None:
    projector = Projector(trips(), store, fleet.broker)
    projector.start()
    projector.catch_up()
    log = next(log for log in fleet.facts() if log and dict(log[0].headers)["ce_type"] == b"travel.TripBooked")
    id = next(f"far-{n}" for n in range(9) if lane_of(f"far-{n}", fleet.partitions) == log[0].partition).encode()
    far = {**dict(log[0].headers), "ce_id": b"far", "ce_subject": id, "ce_sequence": str(2**63 - 1).encode()}
    log.append(log[0]._replace(offset=len(log), key=id, headers=[*far.items()]))

    for _ in range(2):
        projector.catch_up()

    assert sum(booked for _, booked, _ in rows(store)) == len(WHOLE) + 1


def test_a_database_that_is_away_is_no_record_s_fault_and_what_was_read_meanwhile_is_folded_later(fleet: Harness) -> None:
    with closing(FlakyStore()) as store:
        projector = Projector(trips(), store, fleet.broker)
        projector.start()
        store.away = True
        with pytest.raises(StoreError, match="the database is away") as outage:
            projector.catch_up()
        store.away = False
        projector.catch_up()

        assert is_outage(outage.value)
        assert rows(store) == WHOLE


def test_what_a_commit_left_in_doubt_is_no_other_one_s_end(fleet: Harness) -> None:
    with closing(Doubtful()) as store:
        projector = Projector(trips(), store, fleet.broker)
        projector.start()
        store.kept, store.silent = [True, True], 2  # committed, and neither the line nor the database says so
        with pytest.raises(StoreError):
            projector.catch_up()
        later = [f"later {number}" for number in range(6)]  # some of them in its lane
        for trip in later:
            fleet.start(TripBooked(trip=trip), workflow_id=trip)
        fleet.settle()
        store.kept, store.silent = [False], 0  # undone
        projector.catch_up()

        assert rows(store) == sorted([*WHOLE, *((trip, 1, 0) for trip in later)])


def test_a_database_that_lost_what_was_folded_fences_the_projector_and_the_next_one_folds_it_again(
    fleet: Harness, tmp_path: Path
) -> None:
    file, aside = tmp_path / "reports.db", tmp_path / "aside.db"
    with closing(SqliteStore(file, migrate=True)) as store:
        projector = Projector(trips(), store, fleet.broker)
        projector.start()
        copied(file, aside)
        projector.catch_up()
        copied(aside, file)
        fleet.start(TripBooked(trip="bern"), workflow_id="bern")
        fleet.start(TripBooked(trip="oslo"), workflow_id="oslo")
        fleet.settle()
        with pytest.raises(LaneFenced, match="lost what it had confirmed"):
            projector.catch_up()

        successor = Projector(trips(), store, fleet.broker)
        successor.start()
        successor.catch_up()
        assert rows(store) == sorted([*WHOLE, ("bern", 1, 0), ("oslo", 1, 0)])


def copied(source: Path, target: Path) -> None:
    """The one database in place of the other, under whoever has it open."""
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)


def test_a_second_owner_fences_the_first(fleet: Harness, store: Database) -> None:
    first, second = Projector(trips(), store, fleet.broker), Projector(trips(), store, fleet.broker)
    first.start()
    second.start()

    with pytest.raises(LaneFenced):
        first.catch_up()
    second.catch_up()

    assert rows(store) == WHOLE


def test_tables_are_rebuilt_beside_the_live_ones_and_take_their_place_at_once(fleet: Harness, store: Database) -> None:
    live = Projector(trips(), store, fleet.broker)
    live.start()
    live.catch_up()
    with store.transaction() as tx:
        tx.execute("UPDATE trips SET booked = 99")
    seen_meanwhile: list[Any] = []
    watching = trips(trouble=lambda trip: seen_meanwhile.append(trip))

    rebuilding = Projector(watching, store, fleet.broker)
    rebuilding.rebuild()

    assert rows(store) == WHOLE
    fleet.start(TripBooked(trip="rome"), workflow_id="rome")
    fleet.settle()
    with pytest.raises(LaneFenced):
        live.catch_up()
    rebuilding.catch_up()
    assert rows(store) == sorted([*WHOLE, ("rome", 1, 0)])
    with pytest.raises(Exception, match=r"no such table|does not exist"), store.transaction() as tx:
        tx.execute("SELECT * FROM trips_rebuild")


def test_another_version_is_refused_until_the_tables_are_rebuilt(fleet: Harness, store: Database) -> None:
    old = Projector(trips(), store, fleet.broker)
    old.start()
    old.close()

    with pytest.raises(DefinitionError, match="tables of projection 'trips' are of version 1, the code is of version 2"):
        Projector(trips(version=2), store, fleet.broker).start()
    Projector(trips(version=2), store, fleet.broker).rebuild()
    again = Projector(trips(version=2), store, fleet.broker)
    again.start()

    assert again.catch_up() == 0
    assert rows(store) == WHOLE
    with pytest.raises(DefinitionError, match="are of version 2, the code is of version 1"):
        Projector(trips(), store, fleet.broker).start()


def test_tables_of_an_earlier_release_which_knew_the_highest_number_alone_are_to_be_rebuilt(
    fleet: Harness, store: Database
) -> None:
    old = Projector(trips(), store, fleet.broker)
    old.start()
    for lane in old.lanes.values():
        lane.offsets, lane.batch = {"version": 1}, lane.batch + 1
        with store.unit() as unit:
            unit.advance(lane)

    with pytest.raises(DefinitionError, match=r"were filled by an earlier release.*--rebuild"):
        Projector(trips(), store, fleet.broker).start()


def test_a_release_of_another_version_that_is_refused_takes_nothing_from_whoever_fills_the_live_tables(
    fleet: Harness, store: Database
) -> None:
    live = Projector(trips(), store, fleet.broker)
    live.start()
    with pytest.raises(DefinitionError, match="the code is of version 2"):
        Projector(trips(version=2), store, fleet.broker).start()

    live.catch_up()

    assert rows(store) == WHOLE


@pytest.mark.parametrize("rebuilt", [False, True], ids=["begun", "rebuilt"])
def test_a_table_that_it_did_not_make_is_refused_and_keeps_its_rows(fleet: Harness, store: Database, rebuilt: bool) -> None:
    with store.transaction() as tx:
        tx.execute("CREATE TABLE trips (trip TEXT)")
        tx.execute("INSERT INTO trips VALUES ('of the service')")
    projector = Projector(trips(), store, fleet.broker)

    with pytest.raises(DefinitionError, match=r"'trips' would take the place of trips, which it did not make: .*another name"):
        projector.rebuild() if rebuilt else projector.start()

    assert rows(store) == [("of the service",)]


def test_a_further_table_of_a_later_version_takes_no_other_one_s_place(fleet: Harness, store: Database) -> None:
    Projector(trips(), store, fleet.broker).start()
    with store.transaction() as tx:
        tx.execute("CREATE TABLE stays (trip TEXT)")
        tx.execute("INSERT INTO stays VALUES ('of the service')")

    with pytest.raises(DefinitionError, match="would take the place of stays"):
        Projector(with_stays(), store, fleet.broker).rebuild()

    assert rows(store, "stays") == [("of the service",)]


def test_a_table_that_a_later_version_does_without_is_dropped_and_may_come_back(fleet: Harness, store: Database) -> None:
    Projector(with_stays(), store, fleet.broker).start()

    Projector(trips(version=2), store, fleet.broker).rebuild()

    assert rows(store) == WHOLE
    with pytest.raises(Exception, match="stays"), store.transaction() as tx:
        tx.execute("SELECT * FROM stays")
    Projector(with_stays(version=3), store, fleet.broker).rebuild()
    assert rows(store, "stays") == [("open", "12"), ("poor", "12"), ("smooth", "12")]


def with_stays(version: int = 1) -> Projection:
    """Stays refer to trips, whose table comes first."""
    projection = Projection("trips", travel(), tables=["trips", "stays"], version=version)

    @projection.create
    def create(tx: ProjectionTransaction) -> None:
        tx.execute(f"CREATE TABLE {tx.table('trips')} (trip TEXT PRIMARY KEY)")
        tx.execute(f"CREATE TABLE {tx.table('stays')} (trip TEXT REFERENCES {tx.table('trips')}, room TEXT)")

    @projection.on(TripBooked)
    def book(event: TripBooked, tx: ProjectionTransaction) -> None:
        tx.execute(f"INSERT INTO {tx.table('trips')} VALUES ('{event.trip}')")

    @projection.on(HotelBooked)
    def stay(event: HotelBooked, tx: ProjectionTransaction) -> None:
        tx.execute(f"INSERT INTO {tx.table('stays')} VALUES ('{event.trip}', '{event.room}')")

    return projection


def test_tables_that_refer_to_each_other_are_rebuilt_as_often_as_wanted(fleet: Harness, store: Database) -> None:
    for _ in range(3):
        Projector(with_stays(), store, fleet.broker).rebuild()

    assert rows(store) == [("full",), ("open",), ("poor",), ("smooth",)]
    assert rows(store, "stays") == [("open", "12"), ("poor", "12"), ("smooth", "12")]


class Read(MemoryStore):
    """One whose table of trips is being read, so often as it is `busy`, when somebody wants to put another in its place."""

    busy = 0

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        built = "SELECT 1 FROM sqlite_master WHERE name = 'trips_rebuild'"
        with super().unit(eager=eager) as unit:
            before = unit.execute(built).fetchone()
            yield unit
            if self.busy and before and not unit.execute(built).fetchone():
                self.busy -= 1
                raise StoreConflict("somebody reads the table")


def test_what_was_rebuilt_waits_for_whoever_reads_the_live_tables(fleet: Harness) -> None:
    with closing(Read()) as store:
        live = Projector(trips(), store, fleet.broker)
        live.start()
        rebuilding = Projector(trips(), store, fleet.broker)
        store.busy = 12
        rebuilding.rebuild()

        assert store.busy == 0
        assert rows(store) == WHOLE
        assert rebuilding.catch_up() == 0


def test_a_topic_that_was_made_again_is_not_taken_for_the_one_that_was_folded(fleet: Harness, store: Database) -> None:
    projector = Projector(trips(), store, fleet.broker)
    projector.start()
    projector.catch_up()
    made_again(fleet.broker, "travel.events")

    with pytest.raises(TopicRecreated, match=r"travel.events was deleted and made again.*--rebuild"):
        projector.catch_up()
    again = Projector(trips(), store, fleet.broker)
    again.start()
    with pytest.raises(TopicRecreated, match=r"travel.events was deleted and made again"):
        again.catch_up()

    Projector(trips(), store, fleet.broker, partial=True).rebuild()
    last = Projector(trips(), store, fleet.broker)
    last.start()
    assert last.catch_up() == 0
    assert sum(booked for _, booked, _ in rows(store)) == 40


def test_topics_that_were_given_more_partitions_are_not_folded_as_if_hardly_anything_were_on_them(
    fleet: Harness, store: Database
) -> None:
    following = Projector(trips(), store, fleet.broker)
    following.start()
    following.catch_up()
    fleet.broker.add(saga_topics("travel"), 3)

    with pytest.raises(PartitionCountChanged, match="have 3 partitions, but this store recorded 2"):
        following.catch_up()
    with pytest.raises(DefinitionError, match="partitions were added to topics that had been written to"):
        Projector(trips(2), store, fleet.broker).rebuild()
    assert rows(store) == WHOLE


def test_records_that_were_deleted_before_they_were_folded_are_missed_and_it_is_said_what_to_do(
    fleet: Harness, store: Database
) -> None:
    projector = Projector(trips(), store, fleet.broker)
    projector.start()
    for partition in [one for one in fleet.broker.logs if one.topic == "travel.events"]:
        fleet.broker.begins[partition] = 1

    with pytest.raises(LaneStopped, match=r"what was still to be folded is gone.*saga project MODULE:PROJECTION --rebuild"):
        projector.catch_up()


def test_a_history_that_is_not_whole_is_refused_and_marked_where_it_is_wanted(fleet: Harness, store: Database) -> None:
    for log in fleet.facts():
        left = [r for r in log if r.key != b"poor" or b"hotels" not in dict(r.headers).values()]
        log[:] = [record._replace(offset=n) for n, record in enumerate(left)]

    with pytest.raises(SagaError, match="workflow poor is not whole, and maybe others"):
        Projector(trips(), store, fleet.broker).start()
    partial = Projector(trips(), store, fleet.broker, partial=True)
    partial.start()
    partial.catch_up()

    assert partial.is_partial
    assert rows(store) == WHOLE


class Unheard(Event):
    trip: str


class WeatherBooked(Event, name="TripBooked"):
    weather: str


def test_what_could_not_work_is_refused_where_it_is_declared() -> None:
    projection = Projection("trips", travel(), tables=["trips"])

    with pytest.raises(DefinitionError, match="has no event 'Unheard'"):
        projection.on(Unheard)(lambda event, tx: None)
    with pytest.raises(DefinitionError, match="weather"):
        projection.on(WeatherBooked)(lambda event, tx: None)
    with pytest.raises(DefinitionError, match=r"has no function that creates its tables \(.create\)"):
        projection.check()
    with pytest.raises(DefinitionError, match="expected a name like 'orders-by-day'"):
        Projection("Trips!", travel(), tables=["trips"])
    with pytest.raises(DefinitionError, match="at least one table like 'orders_by_day'"):
        Projection("trips", travel(), tables=["trips; DROP"])
    for name, tables in (("trips", ["t" * 56]), ("t" * 40, ["trips"]), ("trips", ["trips", "trips_rebuild"])):
        with pytest.raises(DefinitionError, match=r"of at most 63 characters, .* none is that of a live table"):
            Projection(name, travel(), tables=tables)
    Projection("t" * 39, travel(), tables=["t" * 55])


def test_events_that_only_one_version_has_are_folded_beside_those_of_all(store: Database) -> None:
    first, folded = travel(version=1), list[tuple[str, str]]()
    types = [schema for name, schema in first.types.items() if not name.startswith("saga.") and name != "travel.TripInsured"]
    projection = Projection("trips", [Saga.of(first.own, *types), travel(version=2)], tables=["trips"])

    @projection.create
    def create(tx: ProjectionTransaction) -> None:
        tx.execute(f"CREATE TABLE {tx.table('trips')} (trip TEXT)")

    @projection.on(TripBooked, TripInsured)
    def note(event: TripBooked | TripInsured, tx: ProjectionTransaction) -> None:
        folded.append((type(event).__name__, event.trip))

    with harness(Script(), versions=(1, 2)) as fleet:
        for version in (1, 2):
            with fleet.transaction("agency") as tx:
                fleet.participants["agency"].start(TripBooked(trip=f"v{version}"), tx, version=version)
        fleet.settle()
        projector = Projector(projection, store, fleet.broker)
        projector.start()
        projector.catch_up()

    assert sorted(folded) == [("TripBooked", "v1"), ("TripBooked", "v2"), ("TripInsured", "v2")]


def test_a_version_whose_contracts_it_lacks_is_asked_for_since_without_them_nothing_helps(store: Database) -> None:
    with harness(Script(), versions=(1, 2)) as fleet:
        fleet.start(TripBooked(trip="rome"))
        fleet.settle()

        with pytest.raises(SagaError, match=r"is of saga version 2; .* give the projection the contracts of that version too$"):
            Projector(trips(), store, fleet.broker).start()
