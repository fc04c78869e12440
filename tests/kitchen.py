"""A shop, a kitchen with two steps one after the other, and a bank that declines, so that everything is undone."""

from __future__ import annotations

from saga import Event, Participant, Retry, Saga, Transaction
from tests.commands import schemas

CREATE_UNDONE = "CREATE TABLE undone (step TEXT)"


class Placed(Event):
    order_id: str


class Cancelled(Placed):
    pass


class Cooked(Placed):
    pass


class Binned(Placed):
    pass


class Packed(Placed):
    pass


class Unpacked(Placed):
    pass


class Paid(Placed):
    pass


class Declined(Placed):
    pass


class OvenAway(Exception):
    """What undoing the step `cook` needs does not answer."""


def participants(broken: set[str], retry: Retry, on_stuck: str, *, batch: bool, payer: str = "bank") -> list[Participant]:
    """A shop, a kitchen that cooks and then packs, and a bank that declines, or the kitchen itself does as the `payer`.

    Undoing a `broken` step fails, and that of `cook` waits while the `oven` is.
    """
    cook = {"name": "cook", "by": "kitchen", "on": ["Placed"], "emits": ["Cooked"], "compensated": "Binned"}
    contracts = Saga.of(
        *schemas(
            {"name": "place", "by": "shop", "emits": ["Placed"], "compensated": "Cancelled"},
            cook | {"on_stuck": on_stuck},
            {"name": "pack", "by": "kitchen", "on": ["Cooked"], "emits": ["Packed"], "compensated": "Unpacked"},
            {"name": "pay", "by": payer, "on": ["Packed"], "emits": ["Paid"], "fails": "Declined", "pivot": True},
        )
    )
    crew = {name: Participant(name, contracts) for name in ("shop", "kitchen", payer)}
    shop, kitchen, bank = crew["shop"], crew["kitchen"], crew[payer]

    oven = kitchen.dependency("oven", errors=[OvenAway], pause=5)

    def undo(step: str, tx: Transaction) -> None:
        tx.execute("INSERT INTO undone VALUES (?)", (step,))
        if step == "cook" and "oven" in broken:
            raise OvenAway
        if step in broken:
            raise RuntimeError(f"{step} cannot be undone")

    @shop.compensation(of="place")
    def cancel(placed: Placed, tx: Transaction) -> Cancelled:
        return Cancelled(order_id=placed.order_id)

    @kitchen.step(step="cook")
    def cook_it(placed: Placed, tx: Transaction) -> Cooked:
        return Cooked(order_id=placed.order_id)

    @kitchen.step(step="pack")
    def pack_it(cooked: Cooked, tx: Transaction) -> Packed:
        return Packed(order_id=cooked.order_id)

    if batch:

        @kitchen.compensation(of="cook", retry=retry, needs=oven, batch=True)
        def bin_all(meals: list[Cooked], tx: Transaction) -> list[Binned]:
            undo("cook", tx)
            return [Binned(order_id=meal.order_id) for meal in meals]

        @kitchen.compensation(of="pack", retry=retry, batch=True)
        def unpack_all(packs: list[Packed], tx: Transaction) -> list[Unpacked]:
            undo("pack", tx)
            return [Unpacked(order_id=pack.order_id) for pack in packs]
    else:

        @kitchen.compensation(of="cook", retry=retry, needs=oven)
        def bin_it(meal: Cooked, tx: Transaction) -> Binned:
            undo("cook", tx)
            return Binned(order_id=meal.order_id)

        @kitchen.compensation(of="pack", retry=retry)
        def unpack(pack: Packed, tx: Transaction) -> Unpacked:
            undo("pack", tx)
            return Unpacked(order_id=pack.order_id)

    @bank.step
    def pay(pack: Packed, tx: Transaction) -> Paid | Declined:
        return Declined(order_id=pack.order_id)

    return [*crew.values()]
