"""The audit must be able to fail: each test tampers with one database of a clean run and sees the right claims go false."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from demo.audit import Finding, account, audit
from demo.books import GATEWAY, SERVICES, Books
from demo.order import Intake, Invoice, Line, Order
from saga.store.sqlite_tables import SqliteTables
from services.payments.gateway import TABLE
from tests.services.tables import SERVICES as FOLDER

OPENING = {"MUG": 10, "LAMP": 1}
TOTALS = {"1": 500, "2": 900, "3": 700}

TAKEN_IN = "every order sent was taken in as it was sent"
ENDED = "every order is confirmed or cancelled"
CLOSED = "no workflow is open in any service"
UNITS = "units are conserved"
MONEY = "money is conserved to the penny"
ONCE = "no effect happened twice"
UNDONE = "cancelled orders were compensated for exactly what was done"
FULFILLED = "confirmed orders have exactly their goods, payment and parcel"

CLEAN_RUN = {
    "orders": """
        INSERT INTO orders (order_id, workflow_id, status, total, request) VALUES
        ('1', 'w1', 'confirmed', 500, '{"country": "Spain", "lines": [{"sku": "MUG", "quantity": 2, "unit_price": 250}]}'),
        ('2', 'w2', 'cancelled', 900, '{"country": "Mars", "lines": [{"sku": "MUG", "quantity": 3, "unit_price": 300}]}'),
        ('3', 'w3', 'cancelled', 700, '{"country": "Spain", "lines": [{"sku": "LAMP", "quantity": 2, "unit_price": 350}]}');
    """,
    "stock": """
        INSERT INTO items (sku, on_hand, reserved) VALUES ('MUG', 8, 2), ('LAMP', 1, 0);
        INSERT INTO reservations VALUES ('1', 'MUG', 2, 'reserved'), ('2', 'MUG', 3, 'released');
    """,
    "payments": """
        INSERT INTO payments (order_id, kind, authorisation, amount) VALUES
        ('1', 'authorised', 'auth-1', 500), ('2', 'authorised', 'auth-2', 900), ('2', 'voided', 'auth-2', 900);
    """,
    "shipping": "INSERT INTO parcels VALUES ('P-1', '1', 'Iberia Cargo', 'Spain');",
    GATEWAY: """
        INSERT INTO ledger VALUES ('k1', 'authorised', 'auth-1', '1', 500, NULL),
        ('k2', 'authorised', 'auth-2', '2', 900, NULL), ('k3', 'voided', 'auth-2', '2', 900, NULL);
    """,
}
OPEN_WORKFLOW = """
    INSERT INTO saga_workflow (workflow_id, saga, version, lane, status, sequence, opened)
    VALUES ('w9', 'checkout', 1, 0, 'in_progress', 1, '2026-01-01T00:00:00+00:00')
"""


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("clean")
    books = Books(home)
    for owner, rows in CLEAN_RUN.items():
        tables = TABLE
        if owner in SERVICES:
            SqliteTables(books.path(owner)).upgrade()
            tables = (FOLDER / owner / "tables.sql").read_text()
        with closing(sqlite3.connect(books.path(owner))) as connection:
            connection.executescript(tables + ";" + rows)
    return home


@pytest.fixture
def books(clean_run: Path, tmp_path: Path) -> Books:
    shutil.copytree(clean_run, tmp_path / "copy")
    return Books(tmp_path / "copy")


def tamper(books: Books, owner: str, sql: str) -> None:
    with closing(sqlite3.connect(books.path(owner))) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.executescript(sql)


def findings(books: Books) -> list[Finding]:
    return audit(books, opening=OPENING, totals=TOTALS)


def test_a_clean_run_has_no_false_claim(books: Books) -> None:
    assert [finding for finding in findings(books) if not finding.holds] == []
    assert [finding.claim for finding in findings(books)] == [TAKEN_IN, ENDED, CLOSED, UNITS, MONEY, ONCE, UNDONE, FULFILLED]


@pytest.mark.parametrize(
    ("owner", "sql", "false"),
    [
        ("orders", "DELETE FROM orders WHERE order_id = '3'", {TAKEN_IN}),
        (
            "orders",
            "INSERT INTO orders SELECT '4', 'w4', request, total, status, parcel FROM orders WHERE order_id = '3'",
            {TAKEN_IN},
        ),
        ("orders", "UPDATE orders SET request = replace(request, '350', '351')", {TAKEN_IN}),
        ("orders", "UPDATE orders SET status = 'placed' WHERE order_id = '3'", {ENDED}),
        ("orders", "UPDATE orders SET status = 'confirmed' WHERE order_id = '3'", {FULFILLED, MONEY}),
        ("orders", "UPDATE orders SET status = 'cancelled' WHERE order_id = '1'", {UNDONE, FULFILLED, MONEY}),
        ("stock", "UPDATE items SET on_hand = on_hand + 1 WHERE sku = 'LAMP'", {UNITS}),
        ("stock", "UPDATE items SET on_hand = on_hand - 1, reserved = reserved + 1 WHERE sku = 'MUG'", {UNITS}),
        ("stock", "INSERT INTO items VALUES ('GHOST', 1, 0)", {UNITS}),
        ("stock", "UPDATE reservations SET quantity = 1 WHERE order_id = '1'", {UNITS, FULFILLED}),
        ("stock", "INSERT INTO reservations VALUES ('2', 'MUG', 3, 'released')", {ONCE}),
        (
            "stock",
            "UPDATE reservations SET status = 'reserved'; UPDATE items SET on_hand = 5, reserved = 5 WHERE sku = 'MUG'",
            {UNDONE, FULFILLED},
        ),
        (
            "stock",
            "UPDATE reservations SET status = 'released'; UPDATE items SET on_hand = 10, reserved = 0 WHERE sku = 'MUG'",
            {UNDONE, FULFILLED},
        ),
        ("payments", "DELETE FROM payments WHERE kind = 'voided'", {MONEY, UNDONE, FULFILLED}),
        ("payments", "UPDATE payments SET amount = 501 WHERE order_id = '1'", {MONEY, FULFILLED}),
        ("payments", "INSERT INTO payments SELECT * FROM payments WHERE order_id = '1'", {MONEY, ONCE, FULFILLED}),
        (GATEWAY, "DELETE FROM ledger WHERE kind = 'voided'", {MONEY}),
        (GATEWAY, "UPDATE ledger SET amount = 499 WHERE order_id = '1'", {MONEY}),
        (GATEWAY, "INSERT INTO ledger VALUES ('k4', 'authorised', 'auth-4', '1', 500, NULL)", {MONEY, ONCE}),
        (GATEWAY, "INSERT INTO ledger VALUES ('k4', 'voided', 'auth-1', '1', 500, NULL)", {MONEY}),
        ("shipping", "INSERT INTO parcels VALUES ('P-2', '1', 'Iberia Cargo', 'Spain')", {ONCE}),
        ("shipping", "DELETE FROM parcels", {FULFILLED}),
        ("shipping", "UPDATE parcels SET country = 'Mars'", {FULFILLED}),
        ("shipping", "INSERT INTO parcels VALUES ('P-2', '2', 'Iberia Cargo', 'Mars')", {UNDONE, FULFILLED}),
        *((service, OPEN_WORKFLOW, {CLOSED}) for service in SERVICES),
    ],
)
def test_tampering_makes_exactly_the_right_claims_false(owner: str, sql: str, false: set[str], books: Books) -> None:
    tamper(books, owner, sql)

    assert {finding.claim for finding in findings(books) if not finding.holds} == false


def test_a_payment_doubled_in_both_books_is_still_seen(books: Books) -> None:
    tamper(books, "payments", "INSERT INTO payments VALUES ('1', 'authorised', 'auth-4', 500, NULL)")
    tamper(books, GATEWAY, "INSERT INTO ledger VALUES ('k4', 'authorised', 'auth-4', '1', 500, NULL)")

    assert {finding.claim for finding in findings(books) if not finding.holds} == {MONEY, ONCE, FULFILLED}


def test_a_finding_says_what_contradicts_it(books: Books) -> None:
    tamper(books, "stock", "UPDATE items SET on_hand = 3 WHERE sku = 'LAMP'")

    [false] = [finding for finding in findings(books) if not finding.holds]

    assert false.problems == 1
    assert false.against == ("LAMP: opening 1, on hand 3, reserved 0, of which for orders 0",)


def test_an_intake_whose_sums_differ_is_seen() -> None:
    order = Order("1", None, "Spain", (Line("MUG", 1, 100),))
    intake = Intake.of([Invoice("1", 2, order, dropped=Counter(["bad"])), Invoice("2", 1, refused="cancellation")])
    assert account(intake).holds

    intake.invoices += 1
    intake.lines += 1

    assert account(intake).problems == 2


def test_an_order_id_that_came_twice_is_seen() -> None:
    order = Order("1", None, "Spain", (Line("MUG", 1, 100),))

    assert not account(Intake.of([Invoice("1", 1, order), Invoice("1", 1, order)])).holds
