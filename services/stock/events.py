"""What stock reads and says of the checkout events: its own view of the contracts in `schemas/checkout`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from saga import Event


class OrderLine(BaseModel):
    """Stock does not look at prices."""

    model_config = ConfigDict(frozen=True)
    sku: str
    quantity: int


class OrderPlaced(Event):
    order_id: str
    country: str
    lines: list[OrderLine]


class StockReserved(Event):
    order_id: str
    units: int
    country: str


class OutOfStock(Event):
    order_id: str
    sku: str
    wanted: int
    available: int


class StockReleased(Event):
    order_id: str
    units: int
