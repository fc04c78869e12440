"""Shipping: hands the parcel to a courier once goods and money are there. From here on an order only goes forward."""

from __future__ import annotations

from pathlib import Path

from saga import Participant, Saga, Transaction
from services.shipping.couriers import couriers
from services.shipping.events import DispatchRefused, ParcelDispatched, PaymentAuthorised, StockReserved
from services.shipping.sql import DISPATCH, run

checkout = Saga.load(Path(__file__).parents[2] / "schemas" / "checkout")
shipping = Participant("shipping", checkout)


@shipping.step
def dispatch(reserved: StockReserved, authorised: PaymentAuthorised, tx: Transaction) -> ParcelDispatched | DispatchRefused:
    """Give the parcel to the courier of the country, or refuse a country that none serves."""
    courier = couriers().get(reserved.country)
    if courier is None:
        return DispatchRefused(order_id=reserved.order_id, country=reserved.country)
    parcel = f"{courier.upper().replace(' ', '-')}-{reserved.order_id}"
    dispatched = ParcelDispatched(order_id=reserved.order_id, courier=courier, parcel=parcel)
    dispatched_again(dispatched, reserved, tx)
    return dispatched


@shipping.evolve(ParcelDispatched)
def dispatched_again(dispatched: ParcelDispatched, reserved: StockReserved, tx: Transaction) -> None:
    run(tx, DISPATCH, dispatched.parcel, dispatched.order_id, dispatched.courier, reserved.country)


shipping.unchanged_by(DispatchRefused)
