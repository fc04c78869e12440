"""Stock: sets the goods of an order aside, all or none of them, and puts them back when the order is cancelled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from saga import Participant, Saga, Transaction
from services.stock.events import OrderPlaced, OutOfStock, StockReleased, StockReserved

ON_HAND = "SELECT on_hand FROM items WHERE sku = ?"
SET_ASIDE = "UPDATE items SET on_hand = on_hand - ?, reserved = reserved + ? WHERE sku = ?"
RESERVE = "INSERT INTO reservations (order_id, sku, quantity, status) VALUES (?, ?, ?, 'reserved')"
RESERVED = "SELECT sku, quantity FROM reservations WHERE order_id = ? AND status = 'reserved' ORDER BY sku"
PUT_BACK = "UPDATE items SET on_hand = on_hand + ?, reserved = reserved - ? WHERE sku = ?"
RELEASE = "UPDATE reservations SET status = 'released' WHERE order_id = ? AND status = 'reserved'"

checkout = Saga.load(Path(__file__).parents[2] / "schemas" / "checkout")
stock = Participant("stock", checkout)


@stock.step
def reserve(order: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock:
    """Set every line aside, or answer with the first that is short; an item named on several lines counts as one."""
    wanted: Counter[str] = Counter()
    for line in order.lines:
        wanted[line.sku] += line.quantity
    for sku, quantity in wanted.items():
        if (available := _on_hand(sku, tx)) < quantity:
            return OutOfStock(order_id=order.order_id, sku=sku, wanted=quantity, available=available)
    # Rows are taken in one order everywhere, so that two transactions cannot wait for each other.
    for sku, quantity in sorted(wanted.items()):
        tx.execute(SET_ASIDE, (quantity, quantity, sku))
        tx.execute(RESERVE, (order.order_id, sku, quantity))
    return StockReserved(order_id=order.order_id, units=wanted.total(), country=order.country)


@stock.compensation(of=reserve)
def release(reserved: StockReserved, tx: Transaction) -> StockReleased:
    """Put back what lies aside for the order."""
    rows = tx.execute(RESERVED, (reserved.order_id,)).fetchall()
    for sku, quantity in rows:
        tx.execute(PUT_BACK, (quantity, quantity, sku))
    tx.execute(RELEASE, (reserved.order_id,))
    return StockReleased(order_id=reserved.order_id, units=sum(quantity for _, quantity in rows))


def _on_hand(sku: str, tx: Transaction) -> int:
    row = tx.execute(ON_HAND, (sku,)).fetchone()
    return row[0] if row else 0
