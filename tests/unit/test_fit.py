"""A service against contracts that it did not load: everything that does not fit, at once, with its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from saga import Event, Participant, Saga, Transaction
from saga.participant.fit import Misfit, misfits
from saga.store.dead_letter import LetterSearch
from saga.testing.harness import Harness
from services.payments.app import payments
from services.stock.app import stock
from tests.commands import Commands, schemas
from tests.sources import ROOT

Edit = Callable[[Any], None]


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "schemas" / "checkout", tmp_path / "contracts"))


def edit(folder: Path, name: str, change: Edit) -> None:
    file = folder / f"{name}.avsc"
    schema = orjson.loads(file.read_bytes())
    change(schema)
    file.write_bytes(orjson.dumps(schema))


def step(name: str, **changes: Any) -> Edit:
    def change(schema: Any) -> None:
        [field] = [field for field in schema["fields"] if field["name"] == name]
        field["step"] |= changes
        events = [*field["step"]["emits"], field["step"].get("fails"), field["step"].get("compensated")]
        field["type"] = ["null", *(event for event in events if event)]

    return change


def told(folder: Path) -> list[str]:
    return [f"{misfit.place}: {misfit.text}" for misfit in misfits(stock, Saga.load(folder))]


def test_the_services_fit_the_contracts_of_the_checkout(contracts: Path) -> None:
    assert misfits(stock, Saga.load(contracts)) == []
    assert misfits(payments, Saga.load(contracts)) == []


def test_every_view_that_does_not_fit_is_told_with_the_function_that_uses_it(contracts: Path) -> None:
    edit(contracts, "OrderPlaced", lambda schema: schema["fields"].pop(2))
    edit(contracts, "OrderLine", lambda schema: schema["fields"][1].update(type="string"))
    edit(contracts, "StockReserved", lambda schema: schema["fields"].append({"name": "shelf", "type": "string"}))

    found = told(contracts)

    assert [text.partition(":")[0] for text in found] == ["services/stock/app.py"] * len(found)
    assert [text.partition(" ")[2] for text in found if " reserve: " in text] == [
        "reserve: services.stock.events.OrderPlaced.country: the contract checkout.OrderPlaced has no such field; "
        "it has order_id, customer_id, lines, total. Rename the field, or give it a default.",
        "reserve: services.stock.events.OrderLine.quantity: found <class 'int'>; the contract says string. Make them agree.",
        "reserve: services.stock.events.StockReserved is emitted as checkout.StockReserved but lacks shelf, "
        "which the contract requires. Add the field.",
    ]


def test_a_handler_that_the_contract_asks_otherwise_of_is_told(contracts: Path) -> None:
    edit(contracts, "Checkout", step("reserve", fails=None))

    [found] = told(contracts)

    assert "reserve (action of step 'reserve'): found return annotation of checkout.OutOfStock, checkout.StockReserved" in found
    assert "expected all of checkout.StockReserved" in found


def test_a_step_that_somebody_else_owns_now_is_told_twice(contracts: Path) -> None:
    """Of its handlers, and of the participant that has no other step."""
    edit(contracts, "Checkout", step("reserve", by="depot"))

    [found] = told(contracts)

    assert found == "participant stock: saga 'checkout' has no such participant, but depot, orders, payments, shipping"


def test_a_step_for_which_nothing_is_declared_is_told(contracts: Path) -> None:
    edit(contracts, "Checkout", step("dispatch", by="stock"))

    assert told(contracts) == [
        "participant stock: it has no handler for step 'dispatch'; write a function dispatch and decorate it with .step"
    ]


def test_a_handler_of_a_step_that_is_gone_is_told(contracts: Path) -> None:
    edit(contracts, "Checkout", step("dispatch", by="stock"))
    edit(contracts, "Checkout", step("reserve", by="depot"))

    found = [text for text in told(contracts) if text.startswith("services/stock/app.py")]

    assert len(found) == 2
    assert all("the contract gives it no such step, 'depot' owns it; remove the handler" in text for text in found)


def test_a_version_that_the_service_does_not_know_is_told_and_looked_at_all_the_same(contracts: Path) -> None:
    edit(contracts, "Checkout", lambda schema: schema["saga"].update(version=2))
    edit(contracts, "OrderPlaced", lambda schema: schema["fields"].pop(2))

    version, *views = misfits(stock, Saga.load(contracts))

    assert version == Misfit(
        "participant stock",
        "it knows version 1, the contract is of 2; load that one too: Participant(name, [old, new])",
    )
    assert views


class Placed(Event):
    order_id: str


class Shipped(Event):
    order_id: str


def shipped_by(courier: str, version: int) -> Saga:
    place = {"name": "place", "by": "shop", "emits": ["Placed"], "compensated": None}
    ship = {"name": "ship", "by": courier, "on": ["Placed"], "emits": ["Shipped"]}
    return Saga.of(*schemas(place, ship, version=version))


def courier(name: str, version: int) -> Participant:
    participant = Participant(name, [shipped_by("depot", 1), shipped_by("bikes", 2)])

    @participant.step(versions=[version])
    def ship(order: Placed, tx: Transaction) -> Shipped:
        return Shipped(order_id=order.order_id)

    return participant


def test_who_has_no_step_in_one_of_its_versions_fits_it_and_passes_by_what_is_of_it() -> None:
    depot, bikes, shop = courier("depot", 1), courier("bikes", 2), Participant("shop", [*courier("depot", 1).versions])

    assert [misfits(one, saga) for one in (depot, bikes) for saga in one.versions] == [[], [], [], []]
    with Harness(shop, depot, bikes) as running:
        with running.transaction("shop") as tx:
            for version in (1, 2):
                shop.start(Placed(order_id="o"), tx, workflow_id=f"of-{version}", version=version)
        running.settle()
        steps = [running.steps(workflow) for workflow in ("of-1", "of-2")]
        letters = [letter for store in running.stores.values() for letter in store.letters(LetterSearch(), 10)]

    assert steps == [{"place": "done", "ship": "done"}] * 2
    assert letters == []


def test_the_command_holds_several_services_and_says_where_each_does_not_fit(contracts: Path) -> None:
    saga = Commands(ROOT)
    words = ("check", contracts, "--service", "services.stock.app:stock", "--service", "services.payments.app:payments")

    fitting = saga(*words)
    edit(contracts, "StockReserved", lambda schema: schema["fields"].append({"name": "shelf", "type": "string"}))
    failing, data = saga(*words), saga(*words, "--json").json

    assert (fitting.code, failing.code) == (0, 1)
    assert fitting.out.splitlines() == [
        f"services.stock.app:stock fits the contracts in {contracts}",
        f"services.payments.app:payments fits the contracts in {contracts}",
    ]
    assert failing.out.startswith(
        f"services.stock.app:stock does not fit the contracts in {contracts}\n  services/stock/app.py:"
    )
    assert [(service["service"], len(service["misfits"]) > 0) for service in data["services"]] == [
        ("services.stock.app:stock", True),
        ("services.payments.app:payments", False),
    ]


def test_without_folder_and_registry_there_is_nothing_to_hold_a_service_to() -> None:
    saga = Commands(ROOT)

    said = saga("check", "--service", "services.stock.app:stock").err
    assert "name their folder: saga check DIR --service services.stock.app:stock, or the registry: SAGA_REGISTRY" in said
    assert "found no contract folder; name it: saga check DIR" in saga("check").err
