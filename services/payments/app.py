"""Payments: has the gateway hold an order's amount, and gives it free when the order is cancelled.

The gateway is a foreign system, so both steps are external: they are called with no transaction open and with an idempotency
key, and what payments itself remembers is written by `record`, in the transaction that commits the outcome. While the gateway
is away, orders wait for it.
"""

from __future__ import annotations

from pathlib import Path

import httpx

from saga import ExternalCall, Failure, Participant, Saga, Transaction
from services.payments.client import GatewayAway, gateway, settings
from services.payments.events import OrderPlaced, PaymentAuthorised, PaymentDeclined, PaymentVoided
from services.payments.sql import AUTHORISED, DECLINED, VOIDED, run

checkout = Saga.load(Path(__file__).parents[2] / "schemas" / "checkout")
payments = Participant("payments", checkout)
card_gateway = payments.dependency("gateway", errors=[GatewayAway], minimum_calls=5, pause=1.0)


@payments.classify
def classify(error: Exception) -> Failure | None:
    """What the gateway refuses it would refuse again."""
    return Failure.PERMANENT if isinstance(error, httpx.HTTPStatusError) else None


@payments.step(needs=card_gateway)
def authorise(order: OrderPlaced, call: ExternalCall) -> PaymentAuthorised | PaymentDeclined:
    """Decline a guest above the limit without asking; all others are the gateway's to judge."""
    limit = settings().guest_limit
    if order.customer_id is None and order.total > limit:
        return PaymentDeclined(order_id=order.order_id, reason=f"guests may pay up to {limit / 100:.2f} GBP")
    answer = gateway().authorise(call.idempotency_key, order.order_id, order.total)
    if answer.authorisation is None:
        return PaymentDeclined(order_id=order.order_id, reason=answer.reason or "declined by the gateway")
    return PaymentAuthorised(order_id=order.order_id, authorisation=answer.authorisation, amount=order.total)


@payments.compensation(of=authorise, needs=card_gateway)
def void(authorised: PaymentAuthorised, call: ExternalCall) -> PaymentVoided:
    """Tell the gateway to hold nothing for this order any more."""
    gateway().void(call.idempotency_key, authorised.authorisation)
    return PaymentVoided(**authorised.model_dump())


@payments.evolve(PaymentAuthorised, PaymentDeclined, PaymentVoided)
@payments.recording(of=authorise)
def record(outcome: PaymentAuthorised | PaymentDeclined | PaymentVoided, tx: Transaction) -> None:
    match outcome:
        case PaymentAuthorised():
            run(tx, AUTHORISED, outcome.order_id, outcome.authorisation, outcome.amount)
        case PaymentDeclined():
            run(tx, DECLINED, outcome.order_id, outcome.reason)
        case PaymentVoided():
            run(tx, VOIDED, outcome.order_id, outcome.authorisation, outcome.amount)
