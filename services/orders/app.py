"""Orders: begins a checkout with the customer's order and ends it confirmed or cancelled; its row follows the saga."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid5

from saga import Participant, Saga, Transaction
from services.orders.events import OrderCancelled, OrderConfirmed, OrderPlaced, ParcelDispatched
from services.orders.sql import CANCEL, CONFIRM, FIND, PLACE, run

ORDERS = UUID("5d2f0b5e-7f5c-4d52-9c31-0a1d6a3d5b0e")
"""Namespace of the workflow ids, which are computed from order ids: a repeated request begins nothing new."""

checkout = Saga.load(Path(__file__).parents[2] / "schemas" / "checkout")
orders = Participant("orders", checkout)


class OrderConflict(Exception):
    """Another order with this id was placed before."""


def place(order: OrderPlaced, tx: Transaction) -> str:
    """Write the order and begin its workflow, together or not at all; answers the workflow's id.

    The same order again changes nothing. Raises OrderConflict if it differs from the one already placed.
    """
    workflow_id, request = str(uuid5(ORDERS, order.order_id)), order.model_dump_json()
    if run(tx, PLACE, order.order_id, workflow_id, request, order.total).rowcount:
        return orders.start(order, tx, workflow_id=workflow_id)
    if run(tx, FIND, order.order_id).fetchone()[1] != request:
        raise OrderConflict(f"order {order.order_id} was placed before with other contents; choose another order_id")
    return workflow_id


@orders.compensation(of="place")
def cancel(placed: OrderPlaced, tx: Transaction) -> OrderCancelled:
    """Called when nothing of the order is left in any service."""
    run(tx, CANCEL, placed.order_id)
    return OrderCancelled(order_id=placed.order_id)


@orders.step
def confirm(dispatched: ParcelDispatched, tx: Transaction) -> OrderConfirmed:
    run(tx, CONFIRM, dispatched.parcel, dispatched.order_id)
    return OrderConfirmed(order_id=dispatched.order_id, parcel=dispatched.parcel)


@orders.evolve(OrderPlaced)
def placed_again(order: OrderPlaced, tx: Transaction) -> None:
    run(tx, PLACE, order.order_id, tx.workflow_id, order.model_dump_json(), order.total)


@orders.evolve(OrderConfirmed)
def confirmed_again(confirmed: OrderConfirmed, tx: Transaction) -> None:
    run(tx, CONFIRM, confirmed.parcel, confirmed.order_id)


@orders.evolve(OrderCancelled)
def cancelled_again(cancelled: OrderCancelled, tx: Transaction) -> None:
    run(tx, CANCEL, cancelled.order_id)
