from __future__ import annotations

import sqlite3

import pytest

from services.stock.app import release, reserve
from services.stock.events import OrderLine, OrderPlaced, OutOfStock, StockReleased, StockReserved
from services.stock.sql import SET_ASIDE, run
from tests.services.tables import transaction

SHELVES = "INSERT INTO items (sku, on_hand) VALUES ('MUG', 10), ('LAMP', 2)"
ITEMS = "SELECT sku, on_hand, reserved FROM items ORDER BY sku"


def order(*lines: tuple[str, int], order_id: str = "1") -> OrderPlaced:
    wanted = [OrderLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    return OrderPlaced(order_id=order_id, country="Spain", lines=wanted)


def test_reserving_sets_every_line_aside() -> None:
    with transaction("stock", SHELVES) as tx:
        outcome = reserve(order(("MUG", 4), ("LAMP", 2)), tx)

        assert outcome == StockReserved(order_id="1", units=6, country="Spain")
        assert tx.execute(ITEMS).fetchall() == [("LAMP", 0, 2), ("MUG", 6, 4)]


def test_one_short_line_reserves_nothing() -> None:
    with transaction("stock", SHELVES) as tx:
        outcome = reserve(order(("MUG", 4), ("LAMP", 3)), tx)

        assert outcome == OutOfStock(order_id="1", sku="LAMP", wanted=3, available=2)
        assert tx.execute(ITEMS).fetchall() == [("LAMP", 2, 0), ("MUG", 10, 0)]


def test_the_first_short_line_is_named() -> None:
    with transaction("stock", SHELVES) as tx:
        outcome = reserve(order(("MUG", 11), ("LAMP", 3)), tx)

    assert isinstance(outcome, OutOfStock)
    assert outcome.sku == "MUG"


def test_an_item_on_two_lines_is_judged_by_its_sum() -> None:
    with transaction("stock", SHELVES) as tx:
        outcome = reserve(order(("MUG", 6), ("MUG", 5)), tx)

    assert outcome == OutOfStock(order_id="1", sku="MUG", wanted=11, available=10)


def test_an_item_that_stock_has_never_heard_of_is_short() -> None:
    with transaction("stock", SHELVES) as tx:
        outcome = reserve(order(("UNICORN", 1)), tx)

    assert outcome == OutOfStock(order_id="1", sku="UNICORN", wanted=1, available=0)


def test_releasing_puts_back_what_the_order_holds_and_nothing_else() -> None:
    with transaction("stock", SHELVES) as tx:
        reserved = reserve(order(("MUG", 4), ("LAMP", 1)), tx)
        reserve(order(("MUG", 3), order_id="2"), tx)
        assert isinstance(reserved, StockReserved)

        outcome = release(reserved, tx)

        assert outcome == StockReleased(order_id="1", units=5)
        assert tx.execute(ITEMS).fetchall() == [("LAMP", 2, 0), ("MUG", 7, 3)]


def test_the_database_refuses_to_set_aside_what_is_not_there() -> None:
    with transaction("stock", SHELVES) as tx, pytest.raises(sqlite3.IntegrityError):
        run(tx, SET_ASIDE, 3, 3, "LAMP")
