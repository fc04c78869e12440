"""What orders reads and says of the checkout events: its own view of the contracts in `schemas/checkout`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from saga import Event


class OrderLine(BaseModel):
    """`unit_price` is in pence."""

    model_config = ConfigDict(frozen=True)
    sku: str
    quantity: int
    unit_price: int


class OrderPlaced(Event):
    order_id: str
    customer_id: str | None
    country: str
    lines: list[OrderLine]
    total: int


class ParcelDispatched(Event):
    order_id: str
    parcel: str


class OrderConfirmed(Event):
    order_id: str
    parcel: str


class OrderCancelled(Event):
    order_id: str
