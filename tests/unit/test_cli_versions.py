"""Commands about a participant of two versions: each workflow in its own, and whatever runs is looked at."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from saga import Event, Participant, Saga, Transaction, assembly
from saga.contracts.schema import Schema
from saga.protocol.facts import StepStatus
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Workflow
from tests.commands import Commands, schemas
from tests.laid import sqlite_store

DEPOT = "tests.unit.test_cli_versions:depot"
OPENED = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


class OrderPlaced(Event):
    order_id: str


class OrderShipped(Event):
    order_id: str


class OrderHandedOver(Event):
    order_id: str


class OrderRecalled(Event):
    order_id: str


def ordering(version: int, shipped: str) -> Saga:
    *records, flow = schemas(
        {"name": "place", "by": "shop", "emits": ["OrderPlaced"], "compensated": None},
        {"name": "ship", "by": "depot", "on": ["OrderPlaced"], "emits": [shipped], "compensated": "OrderRecalled"},
        {"name": "bill", "by": "shop", "on": [shipped], "emits": ["OrderBilled"]},
    )
    return Saga.of(*records, flow | {"saga": flow["saga"] | {"version": version}})


depot = Participant("depot", [ordering(1, "OrderShipped"), ordering(2, "OrderHandedOver")])


@depot.step(versions=[1])
def ship(order: OrderPlaced, tx: Transaction) -> OrderShipped:
    return OrderShipped(order_id=order.order_id)


@depot.step(step="ship", versions=[2])
def hand_over(order: OrderPlaced, tx: Transaction) -> OrderHandedOver:
    return OrderHandedOver(order_id=order.order_id)


@depot.compensation(of="ship", versions=[1])
def recall(shipped: OrderShipped, tx: Transaction) -> OrderRecalled:
    return OrderRecalled(order_id=shipped.order_id)


@depot.compensation(of="ship", versions=[2])
def fetch(handed_over: OrderHandedOver, tx: Transaction) -> OrderRecalled:
    return OrderRecalled(order_id=handed_over.order_id)


later = Participant("depot", ordering(2, "OrderHandedOver"))
later.step(step="ship")(hand_over)
later.compensation(of="ship")(fetch)


def parked(folder: Path, version: int, **fields: object) -> SqliteStore:
    """A database with a parked workflow of this version."""
    store = sqlite_store(folder / "depot.db")
    fence = Fence(**{"step": "ship", "status": StepStatus.IDLE, "attempt": 12, "error": "no carrier", **fields})  # type: ignore[arg-type]
    with store.unit() as unit:
        unit.save(
            "checkout", Changes(workflows=[Workflow(id="w1", version=version, lane=0, opened=OPENED)], fences=[("w1", fence)])
        )
    return store


@pytest.mark.parametrize(("version", "event"), [(1, "OrderShipped"), (2, "OrderHandedOver")])
def test_an_outcome_is_one_of_the_version_in_which_the_workflow_runs(tmp_path: Path, version: int, event: str) -> None:
    with closing(parked(tmp_path, version)) as store:
        asked = ("resolve", DEPOT, "w1", "ship", "--event", event, "--fields", '{"order_id": "7"}', "--reason", "by phone")
        said = Commands(tmp_path)(*asked, SAGA_DATABASE="sqlite:///depot.db")

        assert (said.code, said.err) == (0, "")
        assert store.find("w1")[0][1].fences["ship"].event == f"checkout.{event}"


def test_a_recorded_result_is_read_as_the_version_has_it_in_which_the_workflow_runs(tmp_path: Path) -> None:
    result = depot.versions.codec(1).encode("checkout.OrderShipped", {"order_id": "7"})
    undoing = {"status": StepStatus.STUCK, "event": "checkout.OrderShipped", "result": result}
    with closing(parked(tmp_path, 1, **undoing)) as store:
        fields = '{"order_id": "{result.order_id}"}'
        asked = ("resolve", DEPOT, "w1", "ship", "--event", "OrderRecalled", "--fields", fields, "--reason", "by phone")
        said = Commands(tmp_path)(*asked, SAGA_DATABASE="sqlite:///depot.db")

        assert (said.code, said.err) == (0, "")
        assert store.find("w1")[0][1].fences["ship"].status is StepStatus.COMPENSATED


def test_the_doctor_asks_for_the_schemas_of_all_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Registry:
        def registered(self, subject: str, schema: Schema) -> bool:
            return not subject.endswith("OrderShipped")

    monkeypatch.setattr(assembly, "registry", lambda settings: Registry())

    said = Commands(tmp_path)("doctor", DEPOT, "--json", SAGA_REGISTRY="http://registry/apis/ccompat/v7")

    texts = [finding["text"] for finding in said.json["findings"] if finding["subject"] in {"contracts", "schemas"}]
    assert [text.partition(":")[0] for text in texts] == ["saga checkout v1", "saga checkout v2", "not registered"]
    assert texts[-1].endswith(": checkout.events-checkout.OrderShipped")


@pytest.mark.parametrize(("version", "target", "told"), [(1, "later", True), (1, "depot", False), (3, "depot", True)])
def test_the_doctor_finds_open_workflows_of_a_version_that_a_release_does_not_know(
    tmp_path: Path, version: int, target: str, told: bool
) -> None:
    with closing(parked(tmp_path, version)):
        said = Commands(tmp_path)("doctor", f"{__name__}:{target}", "--json", SAGA_DATABASE="sqlite:///depot.db")

    found = [finding for finding in said.json["findings"] if finding["subject"] == "versions"]
    texts = [f"{version}: 1 workflow is open, which waits for a release that knows it"] if told else []
    assert [finding["text"].partition(" v")[2] for finding in found] == texts
    assert all(f"saga drain checkout --version {version}" in finding["fix"] for finding in found)
