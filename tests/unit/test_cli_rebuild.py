"""`saga rebuild`, as somebody meets it whose database is gone: made anew, compared, put in place, and what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from saga import assembly
from saga.errors import BrokerError
from saga.replay import courtesy
from saga.replay.shadow import Shadow
from saga.store.sqlite import SqliteStore
from saga.store.sqlite_tables import SqliteTables
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.transport.port import Partition, Record
from tests.commands import Commands
from tests.histories import lived
from tests.travel import CREATE_EFFECTS

MODULE = """
from saga import Participant
from tests.travel import Script, fleet, saga

agency, hotels, airline, bank = fleet(Script())
silent = Participant("hotels", saga())
"""
HOTELS = "made_anew:hotels"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        yield running


@pytest.fixture
def service(tmp_path: Path) -> Commands:
    (tmp_path / "made_anew.py").write_text(MODULE)
    (tmp_path / "tables.sql").write_text(f"-- of the service; its own\n{CREATE_EFFECTS};\n")
    return Commands(tmp_path)


def fails(error: Exception, records: Iterator[Record]) -> Iterator[Record]:
    """The first record, and then the error."""
    yield from islice(records, 1)
    raise error


def rows(folder: Path, name: str, asked: str = "SELECT * FROM effects ORDER BY 1, 2, 3") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / name)) as connection:
        return connection.execute(asked).fetchall()


def test_a_database_is_made_anew_with_the_services_own_tables(fleet: Harness, service: Commands) -> None:
    said = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")

    assert said.code == 0, said.err
    assert said.out.startswith(f"sqlite:///hotels.db: {HOTELS}, {sum(map(len, fleet.facts()))} records, ")
    with fleet.transaction("hotels") as tx:
        assert rows(service.folder, "hotels.db") == sorted(tx.execute("SELECT * FROM effects").fetchall())


def test_it_is_compared_and_put_in_the_place_of_the_live_one_which_is_kept(fleet: Harness, service: Commands) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    again = ["rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql", "--compare", "--swap", "--json"]

    said = service(*again, SAGA_DATABASE="sqlite:///hotels.db")

    assert said.code == 0, said.err
    assert said.json["compared"]["rows"] == {"effects": 5, "saga_fence": 4, "saga_inbox": 1, "saga_workflow": 4}
    assert said.json["compared"]["differences"] == []
    assert not (service.folder / "again.db").exists()
    kept = Path(said.json["kept"])
    assert rows(service.folder, kept.name) == rows(service.folder, "hotels.db") != []
    assert rows(service.folder, "hotels.db", "SELECT 1 FROM sqlite_master WHERE name = 'saga_rebuild'") == []
    with closing(SqliteStore(service.folder / "hotels.db")) as store:
        assert len(store.page("travel", "", 10)) == 4


def test_differences_are_told_by_table_and_workflow_and_nothing_is_put_in_place(fleet: Harness, service: Commands) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    with closing(sqlite3.connect(service.folder / "hotels.db", isolation_level=None)) as connection:
        connection.execute("UPDATE saga_fence SET status = 'failed' WHERE workflow_id = 'open'")
        connection.execute("DELETE FROM effects WHERE workflow = 'smooth'")
        connection.execute("DELETE FROM saga_workflow WHERE workflow_id = 'poor'")
    again = ["rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql", "--compare", "--swap"]

    said = service(*again, SAGA_DATABASE="sqlite:///hotels.db")

    assert said.code == 1
    assert "    saga_fence open: step hotel: live ('failed', False, " in said.out
    assert "    saga_workflow poor: only the rebuilt database knows it" in said.out
    assert "    effects : only the rebuilt database has ('smooth', 'hotel', 'action', '')" in said.out
    assert said.out.endswith("3 differences\n")
    assert (service.folder / "again.db").exists()


def test_nothing_is_put_in_the_place_of_a_database_on_which_a_worker_lives(fleet: Harness, service: Commands) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    with closing(SqliteStore(service.folder / "hotels.db")) as store:
        store.claim("travel", 0, 2, "hotels")

        said = service(
            "rebuild",
            HOTELS,
            "--to",
            "sqlite:///again.db",
            "--sql",
            "tables.sql",
            "--swap",
            SAGA_DATABASE="sqlite:///hotels.db",
        )

    assert said.code == 1
    assert "one worker process per SQLite file" in said.err
    assert (service.folder / "again.db").exists()


def test_it_may_take_a_place_where_nothing_is_left(fleet: Harness, service: Commands) -> None:
    said = service(
        "rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql", "--swap", SAGA_DATABASE="sqlite:///x.db"
    )

    assert said.code == 0, said.err
    assert "sqlite:///x.db is the rebuilt one now. Start the worker" in said.out
    assert len(rows(service.folder, "x.db")) == 5


def test_a_database_that_was_rebuilt_may_be_brought_up_to_date(fleet: Harness, service: Commands) -> None:
    first = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    fleet.abort("open", by="agency")
    fleet.settle()

    second = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql", "--json")

    assert first.code == second.code == 0, second.err
    assert 0 < second.json["records"] < sum(map(len, fleet.facts()))
    assert ("open", "compensated") in rows(service.folder, "hotels.db", "SELECT workflow_id, status FROM saga_workflow")


def test_it_is_polite_to_a_participant_that_is_at_work_and_says_how_to_be_otherwise(
    fleet: Harness, service: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(courtesy, "SystemClock", lambda: clock)

    def committed(group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        clock.advance(courtesy.EVERY)
        return {partitions[0]: int(clock.monotonic())} if group == "travel.hotels" else {}

    monkeypatch.setattr(fleet.broker, "committed", committed)
    command = ["rebuild", HOTELS, "--sql", "tables.sql", "--to"]

    polite = service(*command, "sqlite:///polite.db")
    bounded, unbounded = (service(*command, f"sqlite:///{n}.db", "--at-most", n) for n in ("5000", "none"))

    assert [polite.code, bounded.code, unbounded.code] == [0, 0, 0]
    assert polite.err.count("hotels is at work, so this rests 6 times as long as it works; --at-most none takes all") == 1
    assert "is at work" not in bounded.err + unbounded.err


def test_where_nobody_is_at_work_it_takes_all_it_can(
    fleet: Harness, service: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(courtesy, "SystemClock", lambda: clock)
    asked = list[str]()

    def committed(group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        asked.append(group)
        clock.advance(courtesy.EVERY)
        return dict.fromkeys(partitions, 7)

    monkeypatch.setattr(fleet.broker, "committed", committed)

    said = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")

    assert said.code == 0, said.err
    assert len(asked) >= 2
    assert "is at work" not in said.err


def test_scripts_for_the_end_run_once(fleet: Harness, service: Commands) -> None:
    (service.folder / "after.sql").write_text("CREATE INDEX by_step ON effects (step);")
    command = ["rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql", "--sql-after", "after.sql"]

    assert [service(*command).code, service(*command).code] == [0, 0]

    assert rows(service.folder, "hotels.db", "SELECT name FROM sqlite_master WHERE name = 'by_step'") == [("by_step",)]


def test_scripts_for_the_end_that_are_named_later_run_then(fleet: Harness, service: Commands) -> None:
    (service.folder / "after.sql").write_text("CREATE INDEX by_step ON effects (step);")
    command = ["rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql"]
    assert service(*command).code == 0

    assert service(*command, "--sql-after", "after.sql").code == 0

    assert rows(service.folder, "hotels.db", "SELECT name FROM sqlite_master WHERE name = 'by_step'") == [("by_step",)]


def test_a_table_that_was_altered_is_compared_with_one_made_anew_column_by_column(fleet: Harness, service: Commands) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    with closing(sqlite3.connect(service.folder / "hotels.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE altered AS SELECT key, act, step, workflow FROM effects")
        connection.execute("DROP TABLE effects")
        connection.execute("ALTER TABLE altered RENAME TO effects")
    again = ["rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql", "--compare"]

    same = service(*again, SAGA_DATABASE="sqlite:///hotels.db")
    with closing(sqlite3.connect(service.folder / "hotels.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE effects ADD COLUMN note TEXT")
    more = service(*again, SAGA_DATABASE="sqlite:///hotels.db")

    assert (same.code, "  effects: 5 rows, none differ\n" in same.out) == (0, True), same.out
    assert (more.code, "    effects : only the live database has the column note\n" in more.out) == (1, True), more.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "sqlite:///live.db"], "--to names the live database"),
        (["--to", "sqlite:///a.db", "--until", "yesterday"], "expected a time like 2026-01-31T12:00:00Z"),
        (["--to", "sqlite:///a.db", "--until", "2026-01-31T12:00:00"], "without a time zone"),
        (["--to", "sqlite:///a.db", "--until", "2026-01-31T12:00:00Z", "--swap"], "leave --swap out"),
        (["--to", "sqlite:///a.db", "--sql", "none.sql"], "none.sql cannot be read"),
        (["--to", "sqlite:///a.db", "--at-most", "0"], "expected records a second, like 5000, or none for all it can"),
    ],
)
def test_wrong_use_is_told_before_anything_is_made(service: Commands, options: list[str], told: str) -> None:
    said = service("rebuild", HOTELS, *options, SAGA_DATABASE="sqlite:///live.db", SAGA_BROKER="nowhere:1")

    assert said.code == 2
    assert told in said.err
    assert not (service.folder / "a.db").exists()


def test_what_is_not_known_about_business_tables_is_listed(fleet: Harness, service: Commands) -> None:
    silent = service("rebuild", "made_anew:silent", "--to", "sqlite:///a.db")
    engine = service("rebuild", "made_anew:silent", "--to", "sqlite:///b.db", "--engine-tables-only")

    assert silent.code == 2
    assert "travel.HotelBooked, travel.HotelFull, travel.HotelFreed" in silent.err
    assert engine.code == 0, engine.err


def test_a_database_with_somebodys_rows_is_left_alone(fleet: Harness, service: Commands) -> None:
    with closing(SqliteStore(service.folder / "used.db", migrate=True)) as store:
        store.claim("travel", 0, 2, "hotels")

    said = service("rebuild", HOTELS, "--to", "sqlite:///used.db", "--sql", "tables.sql")

    assert said.code == 2
    assert "is a database on which a worker has lived; --to names an empty one" in said.err


def test_one_that_was_killed_while_it_laid_the_tables_goes_on(fleet: Harness, service: Commands) -> None:
    tables = SqliteTables(service.folder / "hotels.db")
    tables._migrations = tables._migrations[:3]
    tables.upgrade()

    said = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")

    assert said.code == 0, said.err
    assert len(rows(service.folder, "hotels.db")) == 5


def test_a_server_that_goes_away_meanwhile_is_no_end_and_it_is_said_how_to_go_on(
    fleet: Harness, service: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, read = ["rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql"], fleet.broker.read
    with monkeypatch.context() as away:
        away.setattr(fleet.broker, "read", lambda starts: fails(BrokerError("nobody answers", retriable=True), read(starts)))
        cut = service(*command)

    assert cut.code == 1
    assert "nobody answers. What was committed is kept; run the same command to go on" in cut.err
    assert service(*command).code == 0
    assert len(rows(service.folder, "hotels.db")) == 5


def test_scripts_are_those_that_it_was_begun_with(fleet: Harness, service: Commands) -> None:
    begun = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db")
    again = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")

    assert "no such table" in begun.err
    assert "rows that never were in an event, are made by --sql FILE, in an empty database" in begun.err
    assert "this rebuild was begun without any --sql" in again.err
    assert "begin with an empty database" in again.err
    assert (begun.code, again.code) == (1, 2)


def test_who_goes_on_with_a_rebuild_need_not_name_the_scripts_that_were_run(fleet: Harness, service: Commands) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    service("rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql")

    said = service(
        "rebuild", HOTELS, "--to", "sqlite:///again.db", "--compare", "--swap", "--json", SAGA_DATABASE="sqlite:///hotels.db"
    )

    assert said.code == 0, said.err
    assert (said.json["compared"]["rows"]["effects"], said.json["swapped"]) == (5, True)


@pytest.mark.parametrize("option", ["--sql", "--sql-after"])
def test_a_script_that_is_no_text_is_named_before_anything_is_made(fleet: Harness, service: Commands, option: str) -> None:
    (service.folder / "odd.sql").write_bytes("-- Größe\n".encode("latin-1"))

    said = service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", option, "odd.sql")

    assert said.code == 2
    assert f"error: {option}: odd.sql cannot be read: it is not UTF-8" in said.err
    assert not (service.folder / "hotels.db").exists()


def cut_off(monkeypatch: pytest.MonkeyPatch, service: Commands, *command: str, **settings: str) -> int:
    """The exit code of a command that is interrupted between the swap and its last word."""

    def interrupt(_: Shadow) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Shadow, "drop", interrupt)
        return service(*command, **settings).code


def test_one_that_is_cut_off_when_it_is_in_place_is_not_rebuilt_again_by_the_same_command(
    fleet: Harness, service: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    again = ["rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql", "--compare", "--swap", "--json"]
    settings = {"SAGA_DATABASE": "sqlite:///hotels.db"}

    assert cut_off(monkeypatch, service, *again, **settings) == 130
    said = service(*again, **settings)

    assert said.code == 0, said.err
    (kept,) = service.folder.glob("hotels.db.before_*[0-9]")
    assert said.json == {
        "database": "sqlite:///again.db", "participant": HOTELS, "complete": True, "swapped": True, "kept": str(kept),
    }  # fmt: skip
    assert not (service.folder / "again.db").exists()
    assert rows(service.folder, "hotels.db", "SELECT 1 FROM sqlite_master WHERE name = 'saga_rebuild'") == []
    kept.rename(service.folder / "put-away.db")
    assert service(*again, **settings).json["records"] > 0  # which is another rebuild


def test_where_a_worker_has_lived_since_the_same_command_is_another_rebuild(
    fleet: Harness, service: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    service("rebuild", HOTELS, "--to", "sqlite:///hotels.db", "--sql", "tables.sql")
    again = ["rebuild", HOTELS, "--to", "sqlite:///again.db", "--sql", "tables.sql", "--swap", "--json"]
    settings = {"SAGA_DATABASE": "sqlite:///hotels.db"}
    assert cut_off(monkeypatch, service, *again, **settings) == 130
    with closing(SqliteStore(service.folder / "hotels.db")) as store:
        store.claim("travel", 0, 2, "hotels")
    next(service.folder.glob("hotels.db.before_*[0-9]")).rename(service.folder / "put-away.db")

    said = service(*again, **settings)

    assert said.code == 0, said.err
    assert said.json["records"] > 0
    assert "an earlier rebuild was put in the place of sqlite:///hotels.db and cut off then; this is another one" in said.err
