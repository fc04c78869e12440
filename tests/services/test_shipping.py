from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saga import DefinitionError
from services.shipping.app import dispatch
from services.shipping.couriers import couriers
from services.shipping.events import DispatchRefused, ParcelDispatched, PaymentAuthorised, StockReserved
from tests.services.tables import transaction

PARCELS = "SELECT parcel, order_id, courier, country FROM parcels"


@pytest.fixture(autouse=True)
def fresh_configuration() -> Iterator[None]:
    couriers.cache_clear()
    yield
    couriers.cache_clear()


def test_a_parcel_goes_to_the_courier_of_its_country() -> None:
    with transaction("shipping") as tx:
        outcome = dispatch(StockReserved(order_id="7", country="Spain"), PaymentAuthorised(order_id="7"), tx)

        assert outcome == ParcelDispatched(order_id="7", courier="Iberia Cargo", parcel="IBERIA-CARGO-7")
        assert tx.execute(PARCELS).fetchall() == [("IBERIA-CARGO-7", "7", "Iberia Cargo", "Spain")]


def test_a_country_without_courier_is_refused() -> None:
    with transaction("shipping") as tx:
        outcome = dispatch(StockReserved(order_id="7", country="Germany"), PaymentAuthorised(order_id="7"), tx)

        assert outcome == DispatchRefused(order_id="7", country="Germany")
        assert tx.execute(PARCELS).fetchall() == []


def test_the_courier_list_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[couriers]\n"Pigeon" = ["Germany"]\n')
    monkeypatch.setenv("SHIPPING_COURIERS", str(file))

    assert couriers() == {"Germany": "Pigeon"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[carriers]\n"Pigeon" = ["Spain"]', "expected a table"),
        ('[couriers]\n"Pigeon" = "Spain"', "expected a table"),
        ('[couriers]\n"Pigeon" = ["Spain"]\n"Snail" = ["Spain"]', "Spain is served by Pigeon and Snail"),
        ("[couriers", "TOMLDecodeError"),
    ],
    ids=["other table", "no list", "two couriers", "no TOML"],
)
def test_a_courier_list_that_makes_no_sense_is_refused_by_name(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    monkeypatch.setenv("SHIPPING_COURIERS", str(file))

    with pytest.raises(DefinitionError, match=complaint) as caught:
        couriers()

    assert str(file) in str(caught.value)
