"""A shop that changes its saga twice, and the releases of its participants, each of which knows some of the three versions.

1: order -> reserve and charge -> ship (join, pivot) -> confirm.
2: what is reserved has an aisle, the warehouse is outside, and behind a gate somebody new insures the order.
3: everybody is insured, the bank bills after the pivot instead of charging before it, and the depot may find an order heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import Any

from saga import Event, ExternalCall, Participant, Saga, Transaction

VERSIONS = (1, 2, 3)


class OrderPlaced(Event):
    order: str


class OrderCancelled(Event):
    order: str


class StockReserved(Event):
    order: str


class OutOfStock(Event):
    order: str


class StockReleased(Event):
    order: str


class OrderCharged(Event):
    order: str


class ChargeRefused(Event):
    order: str


class ChargeReturned(Event):
    order: str


class OrderInsured(Event):
    order: str


class InsuranceEnded(Event):
    order: str


class OrderShipped(Event):
    order: str


class OrderTooHeavy(Event):
    order: str


class OrderBilled(Event):
    order: str


class OrderConfirmed(Event):
    order: str


class Insured:
    """The gates of every second workflow are open."""

    def is_open(self, gate: str, *, saga: str, workflow_id: str) -> bool:
        return int(workflow_id.removeprefix("w")) % 2 == 0


@cache
def saga(version: int) -> Saga:
    """One of the three versions."""
    place = _step("place", by="shop", emits=["OrderPlaced"], compensated="OrderCancelled")
    reserve = _step(
        "reserve", by="stock", on=["OrderPlaced"], emits=["StockReserved"], fails="OutOfStock", compensated="StockReleased",
        timeout="PT1M", external=version > 1,
    )  # fmt: skip
    charge = _step(
        "charge", by="bank", on=["OrderPlaced"], emits=["OrderCharged"], fails="ChargeRefused", compensated="ChargeReturned"
    )
    insure = _step("insure", by="insurer", on=["OrderPlaced"], emits=["OrderInsured"], compensated="InsuranceEnded")
    gated = {**insure, "step": {**insure["step"], "gate": "insurance"}}
    bill = _step("bill", by="bank", on=["OrderShipped"], emits=["OrderBilled"])
    shipped = {1: ["StockReserved", "OrderCharged"], 2: ["StockReserved", "OrderCharged", "OrderInsured"]}
    ship = _step(
        "ship", by="depot", on=shipped.get(version, ["StockReserved", "OrderInsured"]), emits=["OrderShipped"], pivot=True,
        **({"fails": "OrderTooHeavy"} if version > 2 else {}),
    )  # fmt: skip
    confirm = _step("confirm", by="shop", on=["OrderBilled" if version > 2 else "OrderShipped"], emits=["OrderConfirmed"])
    steps = {
        1: [place, reserve, charge, ship, confirm],
        2: [place, reserve, charge, gated, ship, confirm],
        3: [place, reserve, insure, ship, bill, confirm],
    }[version]
    events = {name: _record(name) for step in steps for name in step["type"] if name != "null"}
    if version > 1:
        events["StockReserved"]["fields"].append({"name": "aisle", "type": "string", "default": "?"})
    told = {"name": "orders", "version": version, "deadline": "PT10M", "owner": "shop"}
    return Saga.of(*events.values(), {"type": "record", "name": "Orders", "namespace": "orders", "saga": told, "fields": steps})


def _record(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "orders", "fields": [{"name": "order", "type": "string"}]}


def _step(name: str, **step: Any) -> dict[str, Any]:
    events = [*step["emits"], *(step[key] for key in ("fails", "compensated") if step.get(key))]
    return {"name": name, "type": ["null", *events], "default": None, "step": step}


def fleet(versions: Sequence[int] = VERSIONS) -> list[Participant]:
    """A release that knows these versions, of each participant that has a part in one of them."""
    sagas = [saga(version) for version in versions]
    makers = {"shop": _shop, "stock": _stock, "bank": _bank, "insurer": _insurer, "depot": _depot}
    return [
        make(Participant(name, sagas, gates=Insured()), versions)
        for name, make in makers.items()
        if any(name in one.participants for one in sagas)
    ]


def releases() -> list[Participant]:
    """Those that know less than all versions."""
    some = [known for count in range(1, len(VERSIONS)) for known in combinations(VERSIONS, count)]
    return [participant for known in some for participant in fleet(known)]


def _shop(shop: Participant, versions: Sequence[int]) -> Participant:
    @shop.compensation(of="place")
    def cancel(placed: OrderPlaced, tx: Transaction) -> OrderCancelled:
        return OrderCancelled(order=placed.order)

    if {1, 2} & {*versions}:

        @shop.step(step="confirm", versions={1, 2} & {*versions})
        def confirm(shipped: OrderShipped, tx: Transaction) -> OrderConfirmed:
            return OrderConfirmed(order=shipped.order)

    if 3 in versions:

        @shop.step(step="confirm", versions=[3])
        def confirm_billed(billed: OrderBilled, tx: Transaction) -> OrderConfirmed:
            return OrderConfirmed(order=billed.order)

    return shop


def _stock(stock: Participant, versions: Sequence[int]) -> Participant:
    if 1 in versions:

        @stock.step(versions=[1])
        def reserve(placed: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock:
            return StockReserved(order=placed.order)

        @stock.compensation(of=reserve)
        def release(reserved: StockReserved, tx: Transaction) -> StockReleased:
            return StockReleased(order=reserved.order)

    if outside := {2, 3} & {*versions}:

        @stock.step(step="reserve", versions=outside)
        def ask(placed: OrderPlaced, call: ExternalCall) -> StockReserved | OutOfStock:
            return StockReserved(order=placed.order)

        @stock.compensation(of=ask)
        def ask_back(reserved: StockReserved, call: ExternalCall) -> StockReleased:
            return StockReleased(order=reserved.order)

        @stock.recording(of=ask)
        def record(told: StockReserved | OutOfStock | StockReleased, tx: Transaction) -> None:
            pass

    return stock


def _bank(bank: Participant, versions: Sequence[int]) -> Participant:
    if {1, 2} & {*versions}:

        @bank.step
        def charge(placed: OrderPlaced, tx: Transaction) -> OrderCharged | ChargeRefused:
            return OrderCharged(order=placed.order)

        @bank.compensation(of=charge)
        def give_back(charged: OrderCharged, tx: Transaction) -> ChargeReturned:
            return ChargeReturned(order=charged.order)

    if 3 in versions:

        @bank.step
        def bill(shipped: OrderShipped, tx: Transaction) -> OrderBilled:
            return OrderBilled(order=shipped.order)

    return bank


def _insurer(insurer: Participant, versions: Sequence[int]) -> Participant:
    @insurer.step
    def insure(placed: OrderPlaced, tx: Transaction) -> OrderInsured:
        return OrderInsured(order=placed.order)

    @insurer.compensation(of=insure)
    def end(insured: OrderInsured, tx: Transaction) -> InsuranceEnded:
        return InsuranceEnded(order=insured.order)

    return insurer


def _depot(depot: Participant, versions: Sequence[int]) -> Participant:
    if 1 in versions:

        @depot.step(step="ship", versions=[1])
        def ship(reserved: StockReserved, charged: OrderCharged, tx: Transaction) -> OrderShipped:
            return OrderShipped(order=reserved.order)

    if 2 in versions:

        @depot.step(step="ship", versions=[2])
        def ship_maybe_insured(
            reserved: StockReserved, charged: OrderCharged, insured: OrderInsured | None, tx: Transaction
        ) -> OrderShipped:
            return OrderShipped(order=reserved.order)

    if 3 in versions:

        @depot.step(step="ship", versions=[3])
        def ship_insured(reserved: StockReserved, insured: OrderInsured, tx: Transaction) -> OrderShipped | OrderTooHeavy:
            return OrderShipped(order=reserved.order)

    return depot
