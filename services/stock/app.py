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
    wanted: Counter[str] = Counter()
    for line in order.lines:
        wanted[line.sku] += line.quantity
    # Rows are locked in one order everywhere, and all are asked for before the first one answers: one round trip.
    rows = {sku: run(tx, ON_HAND, sku) for sku in sorted(wanted)}
    on_hand = {sku: row[0] if (row := found.fetchone()) else 0 for sku, found in rows.items()}
    for sku, quantity in wanted.items():
        if on_hand[sku] < quantity:
            return OutOfStock(order_id=order.order_id, sku=sku, wanted=quantity, available=on_hand[sku])
    for sku, quantity in wanted.items():
        run(tx, SET_ASIDE, quantity, quantity, sku)
    for sku, quantity in wanted.items():
        run(tx, RESERVE, order.order_id, sku, quantity)
    return StockReserved(order_id=order.order_id, units=wanted.total(), country=order.country)


@stock.compensation(of=reserve)
def release(reserved: StockReserved, tx: Transaction) -> StockReleased:
    """Put back what lies aside for the order."""
    rows = run(tx, RESERVED, reserved.order_id).fetchall()
    for sku, quantity in rows:
        run(tx, PUT_BACK, quantity, quantity, sku)
    run(tx, RELEASE, reserved.order_id)
    return StockReleased(order_id=reserved.order_id, units=sum(quantity for _, quantity in rows))
