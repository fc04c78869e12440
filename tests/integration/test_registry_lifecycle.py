"""From folder to registry and back: plan, register, pull, diff, on a real registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from saga import Saga
from tests.commands import Commands, schemas, written
from tests.sources import ROOT

pytestmark = pytest.mark.slow

PLACE = {"name": "place", "by": "orders", "emits": ["Placed"], "compensated": "Cancelled"}
PAY = {"name": "pay", "by": "bank", "on": ["Placed"], "emits": ["Paid"], "fails": "Declined", "pivot": True}


SERVICE = """
from saga import Event, Participant, Saga, Transaction


class StockReserved(Event):
    order_id: str


class PaymentAuthorised(Event):
    order_id: str


class ParcelDispatched(Event):
    order_id: str
    courier: str
    parcel: str


class DispatchRefused(Event):
    order_id: str
    country: str


shipping = Participant("shipping", Saga.load("contracts"))


@shipping.step
def dispatch(goods: StockReserved, money: PaymentAuthorised, tx: Transaction) -> ParcelDispatched | DispatchRefused:
    return ParcelDispatched(order_id=goods.order_id, courier="Ann", parcel="1")
"""


class Shop:
    """A saga of a name that nobody else has, and the commands on it."""

    def __init__(self, folder: Path, registry: str) -> None:
        self.folder, self.registry, self.name = folder, registry, f"shop{uuid4().hex[:8]}"
        self.run = Commands(folder)

    def write(self, *steps: dict[str, Any], to: str = "contracts", **saga: Any) -> Path:
        renamed = orjson.loads(orjson.dumps(schemas(*steps)).replace(b'"checkout"', f'"{self.name}"'.encode()))
        renamed[-1]["saga"] |= saga
        return written(self.folder / to, renamed)

    def __call__(self, *words: str) -> Any:
        return self.run("schemas", *words, SAGA_REGISTRY=self.registry)


@pytest.fixture
def shop(tmp_path: Path, registry: str) -> Shop:
    shop = Shop(tmp_path, registry)
    shop.write(PLACE, PAY)
    assert shop("register", "contracts").code == 0
    return shop


def test_a_plan_changes_nothing(tmp_path: Path, registry: str) -> None:
    shop = Shop(tmp_path, registry)
    shop.write(PLACE, PAY)

    first, second = shop("plan", "contracts", "--json"), shop("plan", "contracts", "--json")

    assert {entry["state"] for entry in first.json["subjects"]} == {"new"}
    assert second.json == first.json


def test_what_is_pulled_is_what_was_registered(shop: Shop) -> None:
    said = shop("pull", shop.name, "--to", "pulled")

    pulled, own = Saga.load(shop.folder / "pulled"), Saga.load(shop.folder / "contracts")
    assert said.code == 0
    assert f"5 contracts of saga {shop.name} v1 in pulled" in said.out
    assert (pulled.steps, pulled.types, pulled.deadline) == (own.steps, own.types, own.deadline)
    assert shop("plan", "pulled", "--json").json == shop("plan", "contracts", "--json").json


def test_what_is_there_is_not_pulled_over_unless_it_is_said(shop: Shop) -> None:
    assert shop("pull", shop.name, "--to", "contracts").code == 2
    assert shop("pull", shop.name, "--to", "contracts", "--overwrite").code == 0
    assert "register it: saga schemas register DIR" in shop("pull", "nobody", "--to", "other").err


def test_a_change_of_the_steps_is_refused_under_the_same_version_and_taken_under_a_new_one(shop: Shop) -> None:
    """The registry itself sees no harm in it: the attributes are ours."""
    shop.write(PLACE, PAY | {"timeout": "PT1M"})

    same = shop("register", "contracts")
    shop.write(PLACE, PAY | {"timeout": "PT1M"}, version=2)
    newer = shop("register", "contracts", "--json")

    assert same.code == 1
    assert "step pay: a timeout of 1 minute came: steps that had all the time would unwind" in same.out
    assert newer.code == 0
    assert shop("pull", shop.name, "--to", "one", "--version", "1").code == 0
    assert shop("pull", shop.name, "--to", "highest", "--json").json["version"] == 2
    assert Saga.load(shop.folder / "one")["pay"].timeout is None


def test_a_folder_is_compared_with_the_registry(shop: Shop) -> None:
    shop.write(PLACE, PAY | {"by": "cashier"}, to="new")

    ahead, back = shop("diff", "registry", "new"), shop("diff", "new", "registry")

    assert (ahead.code, back.code) == (3, 3)
    assert "step pay: cashier owns it now, and not bank" in ahead.out
    assert "step pay: bank owns it now, and not cashier" in back.out


def test_a_folder_is_compared_with_its_own_version_or_the_one_before_it(shop: Shop) -> None:
    shop.write(PLACE, PAY | {"timeout": "PT1M"}, to="second", version=2)
    assert shop("register", "second").code == 0
    shop.write(PLACE, PAY, to="third", version=3)

    own, before = shop("diff", "registry", "contracts"), shop("diff", "registry", "third")

    assert (own.code, before.code) == (0, 0)
    assert "timeout" not in own.out
    assert "timeout" in before.out


def test_a_refusal_says_which_field_and_why(shop: Shop) -> None:
    file = shop.folder / "contracts" / "Placed.avsc"
    schema = orjson.loads(file.read_bytes())
    schema["fields"].append({"name": "note", "type": "string"})
    file.write_bytes(orjson.dumps(schema))

    said = shop("plan", "contracts")

    assert said.code == 1
    assert "Placed.note: it was added with no default; events written before could not be read any more" in said.out


def test_a_service_is_held_to_what_is_registered(tmp_path: Path, registry: str) -> None:
    """A service whose contracts are ahead of those registered is told which, and runs only once they are."""
    name = f"shop{uuid4().hex[:8]}"
    module = f"{name}_service"
    contracts = (ROOT / "schemas" / "checkout").glob("*.avsc")
    (tmp_path / "contracts").mkdir()
    for file in contracts:
        renamed = file.read_text().replace('"checkout', f'"{name}')
        (tmp_path / "contracts" / file.name).write_text(renamed)
    saga = Commands(tmp_path)
    (tmp_path / f"{module}.py").write_text(SERVICE)
    words = ("check", "--service", f"{module}:shipping", "--registry", registry)

    unknown = saga(*words)
    assert saga("schemas", "register", "contracts", "--registry", registry).code == 0
    fitting = saga(*words)
    refused = tmp_path / "contracts" / "DispatchRefused.avsc"
    schema = orjson.loads(refused.read_bytes())
    schema["fields"].append({"name": "note", "type": "string", "default": ""})
    refused.write_bytes(orjson.dumps(schema))
    (tmp_path / f"{module}2.py").write_text(SERVICE)
    ahead = saga("check", "--service", f"{module}2:shipping", "--registry", registry)

    assert (unknown.code, fitting.code, ahead.code) == (1, 0, 1)
    assert f"has no saga '{name}' of version 1; register it: saga schemas register DIR" in unknown.out
    assert f"{name}.compensations-{name}.DispatchRefused\n    the service's contract is not among those registered" in ahead.out
