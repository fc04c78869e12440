"""Stock: sets the goods of an order aside, all or none of them, and puts them back when the order is cancelled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from saga import Participant, Saga, Transaction
from services.stock.events import OrderPlaced, OutOfStock, StockReleased, StockReserved
from services.stock.sql import ON_HAND, PUT_BACK, RELEASE, RESERVE, RESERVED, SET_ASIDE, run

checkout = Saga.load(Path(__file__).parents[2] / "schemas" / "checkout")
stock = Participant("stock", checkout)


@stock.step
def reserve(order: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock:
    """Set every line aside, or answer with the first that is short; an item named on several lines counts as one."""
    wanted = _wanted(order)
    # Rows are locked in one order everywhere, and all are asked for before the first one answers: one round trip.
    rows = {sku: run(tx, ON_HAND, sku) for sku in sorted(wanted)}
    on_hand = {sku: row[0] if (row := found.fetchone()) else 0 for sku, found in rows.items()}
    for sku, quantity in wanted.items():
        if on_hand[sku] < quantity:
            return OutOfStock(order_id=order.order_id, sku=sku, wanted=quantity, available=on_hand[sku])
    _set_aside(order.order_id, wanted, tx)
    return StockReserved(order_id=order.order_id, units=wanted.total(), country=order.country)


@stock.compensation(of=reserve)
def release(reserved: StockReserved, tx: Transaction) -> StockReleased:
    """Put back what lies aside for the order."""
    return StockReleased(order_id=reserved.order_id, units=_put_back(reserved.order_id, tx))


@stock.evolve(StockReserved)
def reserved_again(reserved: StockReserved, order: OrderPlaced, tx: Transaction) -> None:
    _set_aside(order.order_id, _wanted(order), tx)


@stock.evolve(StockReleased)
def released_again(released: StockReleased, tx: Transaction) -> None:
    _put_back(released.order_id, tx)


stock.unchanged_by(OutOfStock)


def _wanted(order: OrderPlaced) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for line in order.lines:
        wanted[line.sku] += line.quantity
    return wanted


def _set_aside(order_id: str, wanted: Counter[str], tx: Transaction) -> None:
    for sku, quantity in wanted.items():
        run(tx, SET_ASIDE, quantity, quantity, sku)
    for sku, quantity in wanted.items():
        run(tx, RESERVE, order_id, sku, quantity)


def _put_back(order_id: str, tx: Transaction) -> int:
    """Answers how many units that were."""
    rows = run(tx, RESERVED, order_id).fetchall()
    for sku, quantity in rows:
        run(tx, PUT_BACK, quantity, quantity, sku)
    run(tx, RELEASE, order_id)
    return sum(quantity for _, quantity in rows)
