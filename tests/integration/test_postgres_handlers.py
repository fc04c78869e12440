"""What a handler may do with its transaction on PostgreSQL, and how its failures come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from psycopg.rows import dict_row

from saga.errors import LifecycleError, SagaError, StatementFailed, StoreConflict, StoreError
from saga.store import postgres_collecting
from saga.store.postgres import PostgresStore
from saga.store.postgres_unit import PostgresUnit

pytestmark = pytest.mark.slow


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database, migrate=True)) as store:
        with store.transaction() as tx:
            tx.execute("CREATE TABLE shelf (sku TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0))")
            tx.execute("CREATE TABLE pick (sku TEXT REFERENCES shelf DEFERRABLE INITIALLY DEFERRED)")
            tx.execute("INSERT INTO shelf VALUES ('rice', 5), ('tea', 5)")
        yield store


def pieces(store: PostgresStore) -> dict[str, int]:
    with store.transaction() as tx:
        return dict(tx.execute("SELECT sku, pieces FROM shelf").fetchall())


Statement = tuple[str, list[object]]


def run(
    store: PostgresStore,
    *statements: Statement,
    eager: bool = False,
    last: Callable[[PostgresUnit], object] = lambda _: None,
) -> None:
    """One unit with these statements, whose answers nobody asks for, and something of the engine's at the end."""
    with store.unit(eager=eager) as unit:
        for sql, parameters in statements:
            unit.execute(sql, parameters)
        last(unit)


def insert(*skus: str) -> list[Statement]:
    return [("INSERT INTO shelf VALUES (%s, 1)", [sku]) for sku in skus]


# --- statements


@pytest.mark.parametrize("driver", ["as it is", "another release"])
def test_a_statement_repeated_with_values_of_several_types_writes_them_all(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    if driver == "another release":
        monkeypatch.setattr(postgres_collecting, "_INNER", ((psycopg.Pipeline, "no such part"),))
    values = {f"sku {n}": (1, 70_000)[n % 2] for n in range(300)}
    with store.unit() as unit:
        for sku, many in values.items():
            unit.execute("INSERT INTO shelf VALUES (%s, %s)", (sku, many))

    assert pieces(store) == {"rice": 5, "tea": 5, **values}


@pytest.mark.parametrize("eager", [False, True])
def test_statements_take_effect_in_the_order_in_which_they_were_given(store: PostgresStore, eager: bool) -> None:
    with store.unit(eager=eager) as unit:
        for sku in ("tea", "rice", "tea"):
            unit.execute("UPDATE shelf SET pieces = pieces - %s WHERE sku = %s", (1, sku))
        unit.execute("UPDATE shelf SET pieces = pieces * 10")
        unit.execute("UPDATE shelf SET pieces = pieces + %(more)s WHERE sku = %(sku)s", {"more": 7, "sku": "rice"})
        seen = unit.execute("SELECT sku, pieces FROM shelf ORDER BY sku").fetchall()

    assert seen == [("rice", 47), ("tea", 30)]
    assert pieces(store) == {"rice": 47, "tea": 30}


def test_a_result_may_be_asked_for_later_than_the_next_statement(store: PostgresStore) -> None:
    with store.unit() as unit:
        found = [unit.execute("SELECT pieces FROM shelf WHERE sku = %s", [sku]) for sku in ("tea", "salt", "rice")]
        changed = unit.execute("UPDATE shelf SET pieces = 0")
        answers = [result.fetchone() for result in found]
        count = changed.rowcount

    assert answers == [(5,), None, (5,)]
    assert count == 2
    assert found[0].fetchone() is None


def test_what_a_handler_changes_afterwards_was_not_meant(store: PostgresStore) -> None:
    row: list[object] = [1, "tea"]
    with store.unit() as unit:
        unit.execute("UPDATE shelf SET pieces = %s WHERE sku = %s", row)
        row[:] = [9, "rice"]

    assert pieces(store) == {"rice": 5, "tea": 1}


def test_without_parameters_a_percent_sign_is_one(store: PostgresStore) -> None:
    with store.unit() as unit:
        count = unit.execute("SELECT count(*) FROM shelf WHERE sku LIKE 't%'").fetchone()

    assert count == (1,)


def test_more_statements_than_are_worth_collecting_are_all_executed(store: PostgresStore) -> None:
    with store.unit() as unit:
        for _ in range(2500):
            unit.execute("UPDATE shelf SET pieces = pieces + %s WHERE sku = %s", [1, "tea"])

    assert pieces(store)["tea"] == 2505


def test_the_drivers_connection_can_do_what_execute_cannot(store: PostgresStore) -> None:
    with store.unit() as unit:
        unit.execute("UPDATE shelf SET pieces = 1")
        with unit.connection.cursor().copy("COPY shelf FROM STDIN") as copy:
            copy.write_row(("salt", 3))
        unit.connection.row_factory = dict_row
        named = unit.execute("SELECT pieces FROM shelf WHERE sku = 'salt'").fetchone()

    assert named == {"pieces": 3}
    assert pieces(store) == {"rice": 1, "tea": 1, "salt": 3}


def test_a_savepoint_takes_back_what_failed_inside_of_it(store: PostgresStore) -> None:
    with store.unit(eager=True) as unit:
        unit.execute("UPDATE shelf SET pieces = 4 WHERE sku = 'tea'")
        unit.execute("SAVEPOINT attempt")
        with pytest.raises(psycopg.errors.CheckViolation):
            unit.execute("UPDATE shelf SET pieces = -1 WHERE sku = 'rice'")
        unit.execute("ROLLBACK TO attempt")
        with pytest.raises(psycopg.errors.CheckViolation), unit.connection.transaction():
            unit.connection.execute("UPDATE shelf SET pieces = -1 WHERE sku = 'rice'")
        unit.execute("UPDATE shelf SET pieces = 6 WHERE sku = 'rice'")

    assert pieces(store) == {"rice": 6, "tea": 4}


@pytest.mark.parametrize("eager", [False, True])
def test_tables_may_come_and_go_between_statements(store: PostgresStore, eager: bool) -> None:
    for _ in range(3):
        with store.unit(eager=eager) as unit:
            unit.execute("CREATE TEMPORARY TABLE basket (sku TEXT)")
            unit.execute("INSERT INTO basket VALUES (%s)", ["tea"])
            unit.execute("ALTER TABLE basket ADD COLUMN pieces INTEGER")
            assert unit.execute("SELECT * FROM basket").fetchall() == [("tea", None)]
            unit.execute("DROP TABLE basket")

    assert pieces(store) == {"rice": 5, "tea": 5}


# --- failures


def test_a_failure_is_told_to_the_handler_that_waits_for_its_own_statement(store: PostgresStore) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation), store.unit() as unit:
        unit.execute("INSERT INTO shelf VALUES ('tea', 1)").fetchall()


@pytest.mark.parametrize("skus", [["tea"], ["a", "b", "tea"], ["tea", "a", "b"]], ids=" ".join)
def test_a_failure_that_the_engine_meets_is_some_handlers(store: PostgresStore, skus: list[str]) -> None:
    with pytest.raises(StatementFailed, match="duplicate key") as failure:
        run(store, *insert(*skus), last=lambda unit: unit.load("checkout", ["w1"]))

    assert isinstance(failure.value.__cause__, psycopg.errors.UniqueViolation)
    assert pieces(store) == {"rice": 5, "tea": 5}


@pytest.mark.parametrize("skus", [["tea"], ["a", "b", "tea"], ["tea", "a", "b"]], ids=" ".join)
def test_a_failure_that_comes_at_the_end_is_some_handlers(store: PostgresStore, skus: list[str]) -> None:
    with pytest.raises(StatementFailed, match="duplicate key"):
        run(store, *insert(*skus))

    assert pieces(store) == {"rice": 5, "tea": 5}


def test_a_handler_that_waits_in_vain_for_another_ones_failure_is_not_blamed(store: PostgresStore) -> None:
    with pytest.raises(StatementFailed) as failure:
        run(store, *insert("tea"), last=lambda unit: unit.execute("SELECT pieces FROM shelf").fetchone())

    with store.unit() as unit:
        assert unit.technical(failure.value) is failure.value


def test_a_division_by_zero_of_a_handler_is_not_taken_for_a_fence(store: PostgresStore) -> None:
    lane = store.claim("checkout", 0, 1)

    with pytest.raises(StatementFailed, match="division by zero"):
        run(store, ("SELECT 1 / %s", [0]), last=lambda unit: unit.advance(lane))


def test_a_swallowed_failure_takes_the_transaction_with_it(store: PostgresStore) -> None:
    def swallow() -> None:
        with store.unit(eager=True) as unit:
            unit.execute("UPDATE shelf SET pieces = 1")
            with pytest.raises(psycopg.errors.CheckViolation):
                unit.execute("UPDATE shelf SET pieces = -1")
            unit.load("checkout", ["w1"])

    with pytest.raises(StatementFailed, match="transaction is aborted"):
        swallow()

    assert pieces(store) == {"rice": 5, "tea": 5}


def test_a_deferred_constraint_that_fails_at_commit_is_some_handlers(store: PostgresStore) -> None:
    with pytest.raises(StatementFailed, match="foreign key"), store.unit(eager=True) as unit:
        unit.execute("INSERT INTO pick VALUES ('salt')")


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN"])
@pytest.mark.parametrize("eager", [False, True])
def test_a_transaction_ended_by_a_handler_leaves_nothing_of_the_engine(store: PostgresStore, end: str, eager: bool) -> None:
    lane = replace(store.claim("checkout", 0, 1), batch=1)

    with pytest.raises(StoreError, match="must not commit or roll back"):
        run(store, (end, []), *insert("salt"), eager=eager, last=lambda unit: unit.advance(lane))

    assert not store.committed(lane)


def test_an_answer_that_never_came_says_so(store: PostgresStore) -> None:
    answers = []

    def give_up(unit: PostgresUnit) -> None:
        answers.append(unit.execute("SELECT 1"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(store, last=give_up)

    with pytest.raises(LifecycleError, match="its transaction has ended"):
        answers[0].fetchone()


def test_a_table_that_somebody_has_changed_meanwhile_is_no_fault_of_a_statement_that_knew_it_otherwise(
    store: PostgresStore, database: str
) -> None:
    def look() -> int:
        with store.unit(eager=True) as unit:
            try:
                return len(unit.execute("SELECT * FROM shelf WHERE sku = %s", ["tea"]).fetchone())
            except psycopg.Error as error:
                raise unit.technical(error) or error from error

    known = look()
    with psycopg.connect(database, autocommit=True) as migration:
        migration.execute("ALTER TABLE shelf ADD COLUMN aisle integer")

    with pytest.raises(StoreConflict, match="try again"):
        look()

    assert look() == known + 1


def test_why_a_transaction_failed_is_told_and_not_that_the_driver_could_not_leave_its_pipeline(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: object) -> None:
        raise psycopg.OperationalError("cannot exit pipeline mode while busy")

    with store.unit() as unit:
        unit.execute("INSERT INTO pick VALUES ('no such sku')")
        unit.depart()
    monkeypatch.setattr(psycopg.Pipeline, "_exit", stuck)  # as of a connection that the server ends in the midst of it

    with pytest.raises(StatementFailed, match="violates foreign key"):
        unit.arrive()


def test_what_makes_the_driver_forget_trips_nothing_that_is_written_behind_it(store: PostgresStore) -> None:
    for _ in range(5):
        with store.unit() as unit:
            for table in ("nowhere", "elsewhere"):
                unit.execute(f"DROP TABLE IF EXISTS {table}")
            for number in range(600):
                pieces_or_none = str(number) if number % 2 else None  # each of which the driver prepares by itself
                unit.execute("INSERT INTO pick SELECT sku FROM shelf WHERE pieces = %s AND sku > %s", [pieces_or_none, "a"])

    assert pieces(store) == {"rice": 5, "tea": 5}


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT 1 / 0", None),
        ("SELECT * FROM nowhere", None),
        ("INSERT INTO shelf VALUES ('tea', 1)", None),
        ("SELECT pg_terminate_backend(pg_backend_pid())", StoreError),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '40001'; END $$", StoreConflict),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '40P01'; END $$", StoreConflict),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '55P03'; END $$", StoreConflict),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '53100'; END $$", StoreError),
        ("DO $$ BEGIN RAISE 'x' USING ERRCODE = '25006'; END $$", StoreError),
    ],
)
def test_technical_failures_are_told_from_the_handlers_own(
    store: PostgresStore, sql: str, kind: type[SagaError] | None
) -> None:
    def blamed(fail: Callable[[], object]) -> StoreError | None:
        try:
            fail()
        except (psycopg.Error, StoreError) as error:  # a session may end before any of its statements is answered
            with store.unit() as unit:
                return unit.technical(error)
        raise AssertionError("nothing failed")

    def fail() -> None:
        with store.unit(eager=True) as unit:
            unit.execute(sql)

    found = blamed(fail)

    assert type(found) is (kind or type(None))
    assert pieces(store) == {"rice": 5, "tea": 5}
