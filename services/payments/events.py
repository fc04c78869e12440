"""What payments reads and says of the checkout events: its own view of the contracts in `schemas/checkout`."""

from __future__ import annotations

from saga import Event


class OrderPlaced(Event):
    """Who pays how much; `customer_id` is None for a guest, `total` is in pence."""

    order_id: str
    customer_id: str | None
    total: int


class PaymentAuthorised(Event):
    order_id: str
    authorisation: str
    amount: int


class PaymentDeclined(Event):
    order_id: str
    reason: str


class PaymentVoided(Event):
    order_id: str
    authorisation: str
    amount: int
