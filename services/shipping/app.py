"""Shipping: hands the parcel to a courier once goods and money are there. From here on an order only goes forward."""

from __future__ import annotations

from pathlib import Path

from saga import Participant, Saga, Transaction
from services.shipping.couriers import couriers
from services.shipping.events import DispatchRefused, OrderPlaced, ParcelDispatched, PaymentAuthorised, StockReserved

DISPATCH = "INSERT INTO parcels (parcel, order_id, courier, country) VALUES (?, ?, ?, ?)"

checkout = Saga.load(Path(__file__).parents[2] / "schemas" / "checkout")
shipping = Participant("shipping", checkout)


@shipping.step
def dispatch(
    order: OrderPlaced, reserved: StockReserved, authorised: PaymentAuthorised, tx: Transaction
) -> ParcelDispatched | DispatchRefused:
    """Give the parcel to the courier of the country, or refuse a country that none serves."""
    courier = couriers().get(order.country)
    if courier is None:
        return DispatchRefused(order_id=order.order_id, country=order.country)
    parcel = f"{courier.upper().replace(' ', '-')}-{order.order_id}"
    tx.execute(DISPATCH, (parcel, order.order_id, courier, order.country))
    return ParcelDispatched(order_id=order.order_id, courier=courier, parcel=parcel)
