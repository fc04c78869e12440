"""What shipping reads and says of the checkout events: its own view of the contracts in `schemas/checkout`."""

from __future__ import annotations

from saga import Event


class StockReserved(Event):
    """Of the goods only the destination matters here."""

    order_id: str
    country: str


class PaymentAuthorised(Event):
    order_id: str


class ParcelDispatched(Event):
    order_id: str
    courier: str
    parcel: str


class DispatchRefused(Event):
    order_id: str
    country: str
