"""Old events read as new ones: by bytes that were recorded when the old contract was the only one."""

from __future__ import annotations

from typing import Any

import pytest

from saga import DefinitionError, Event, Saga
from saga.contracts.avro import AvroCodec
from saga.contracts.upcast import Fields, Upcasters
from saga.errors import DecodeError

RECORDED = bytes.fromhex("0024ec1896046f31f403")
"""`shop.Sold` of order o1, 250 pence."""


def record(name: str, **fields: str) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "namespace": "shop",
        "fields": [{"name": field, "type": type_} for field, type_ in fields.items()],
    }


SOLD = record("Sold", order_id="string", pence="long")
PRICED = record("SoldPriced", order_id="string", amount="long", currency="string")
TAXED = record("SoldTaxed", order_id="string", amount="long", currency="string", tax="long")
STEP = {"by": "shop", "emits": ["SoldTaxed"]}
FIELD = {"name": "sell", "type": ["null", "SoldTaxed"], "default": None, "step": STEP}
SALE = {
    "type": "record",
    "name": "Sale",
    "namespace": "shop",
    "saga": {"name": "sale", "version": 2, "owner": "shop"},
    "fields": [FIELD],
}
SAGA = Saga.of(SOLD, PRICED, TAXED, SALE)


class SoldPriced(Event):
    order_id: str
    amount: int
    currency: str


class SoldTaxed(SoldPriced):
    tax: int


def chain() -> Upcasters:
    upcasters = Upcasters()

    @upcasters.upcast("shop.Sold", to="shop.SoldPriced")
    def with_currency(old: Fields) -> Fields:
        return {"order_id": old["order_id"], "amount": old["pence"], "currency": "GBP"}

    @upcasters.upcast("shop.SoldPriced", to="shop.SoldTaxed")
    def with_tax(old: SoldPriced) -> SoldTaxed:
        return SoldTaxed(**old.model_dump(), tax=old.amount // 5)

    return upcasters


def test_bytes_recorded_long_ago_are_read_as_the_event_of_today_step_by_step() -> None:
    codec = AvroCodec(SAGA, upcasters=chain())

    assert codec.decode("shop.SoldPriced", RECORDED) == {"order_id": "o1", "amount": 250, "currency": "GBP"}
    assert codec.decode("shop.SoldTaxed", RECORDED) == {"order_id": "o1", "amount": 250, "currency": "GBP", "tax": 50}


def test_an_event_of_today_is_left_alone() -> None:
    codec = AvroCodec(SAGA, upcasters=chain())
    sold = {"order_id": "o1", "amount": 1, "currency": "EUR", "tax": 7}

    assert codec.decode("shop.SoldTaxed", codec.encode("shop.SoldTaxed", sold)) == sold
    assert codec.decode("shop.Sold", RECORDED) == {"order_id": "o1", "pence": 250}


def test_without_an_upcaster_the_old_event_is_not_taken_for_the_new_one() -> None:
    with pytest.raises(DecodeError, match="producer and consumer read different contracts"):
        AvroCodec(SAGA).decode("shop.SoldPriced", RECORDED)


@pytest.mark.parametrize("made", [{"order_id": "o1"}, {"order_id": "o1", "amount": "250", "currency": "GBP"}])
def test_what_does_not_fit_the_new_contract_is_unreadable(made: Fields) -> None:
    upcasters = Upcasters()

    @upcasters.upcast("shop.Sold", to="shop.SoldPriced")
    def wrong(old: Fields) -> Fields:
        return made

    with pytest.raises(DecodeError, match=r"shop\.Sold was raised to shop\.SoldPriced, and does not fit that contract"):
        AvroCodec(SAGA, upcasters=upcasters).decode("shop.SoldPriced", RECORDED)


def test_an_upcaster_that_raises_is_named() -> None:
    upcasters = Upcasters()

    @upcasters.upcast("shop.Sold", to="shop.SoldPriced")
    def forgetful(old: Fields) -> Fields:
        return {"order_id": old["number"]}

    with pytest.raises(DecodeError, match="forgetful failed with KeyError"):
        AvroCodec(SAGA, upcasters=upcasters).decode("shop.SoldPriced", RECORDED)


def test_an_upcaster_that_returns_nothing_is_named() -> None:
    upcasters = Upcasters()

    @upcasters.upcast("shop.Sold", to="shop.SoldPriced")
    def silent(old: Fields) -> Fields:
        return None  # type: ignore[return-value]

    with pytest.raises(DecodeError, match="silent failed with TypeError"):
        AvroCodec(SAGA, upcasters=upcasters).decode("shop.SoldPriced", RECORDED)


def test_a_circle_is_refused() -> None:
    upcasters = chain()

    with pytest.raises(DefinitionError, match=r"SoldTaxed to shop\.Sold to shop\.SoldPriced to shop\.SoldTaxed is a circle"):

        @upcasters.upcast("shop.SoldTaxed", to="shop.Sold")
        def back(new: Fields) -> Fields:
            return new


def test_a_second_way_from_an_event_is_refused() -> None:
    upcasters = chain()

    with pytest.raises(DefinitionError, match=r"shop\.Sold is raised to shop\.SoldPriced already; keep one of them"):

        @upcasters.upcast("shop.Sold", to="shop.SoldTaxed")
        def directly(old: Fields) -> Fields:
            return old


def test_a_function_that_does_not_say_what_it_takes_is_refused() -> None:
    def untyped(old):  # type: ignore[no-untyped-def]
        return old

    def number(old: int) -> Fields:
        return {}

    def nothing(old: Fields) -> None: ...

    for function in (untyped, number, nothing):
        with pytest.raises(DefinitionError, match="expected one event in and one out, each annotated"):
            Upcasters().upcast("shop.Sold", to="shop.SoldPriced")(function)
