"""Fields marked `"sensitive": true` are shown nowhere: not by commands, nor in logs, nor in the reasons of parked workflows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from saga import Event, Participant, Retry, Saga, TerminalError, Transaction
from saga.contracts.avro import AvroCodec
from saga.contracts.python import python
from saga.contracts.schema import Schema
from saga.contracts.sensitive import MASK, has_sensitive, redact, scrub, sensitive_values
from saga.errors import EncodeError
from saga.protocol.facts import StepStatus
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Fence, Workflow
from saga.testing.harness import Harness
from tests.commands import Commands, schemas, written

CARD = "4111-1111-1111-1111"
CARD_FIELD = {"name": "card", "type": "string", "sensitive": True}
OWNER: Schema = {
    "type": "record",
    "name": "Owner",
    "fields": [{"name": "name", "type": "string", "sensitive": True}, {"name": "city", "type": "string"}],
}
PAYMENT: Schema = {
    "type": "record",
    "name": "Payment",
    "namespace": "bank",
    "fields": [
        CARD_FIELD,
        {"name": "amount", "type": "long"},
        {"name": "pin", "type": ["null", "string"], "default": None, "sensitive": True},
        {"name": "owner", "type": OWNER},
        {"name": "others", "type": {"type": "array", "items": "Owner"}},
        {"name": "by_city", "type": {"type": "map", "values": "Owner"}},
        {"name": "spouse", "type": ["null", "string", "Owner"], "default": None},
        {"name": "limit", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "sensitive": True},
    ],
}
ADA, BOB, EVE = ({"name": name, "city": "Oslo"} for name in ("Ada", "Bob", "Eve"))
DATUM = {
    "card": CARD, "amount": 5, "pin": None, "owner": ADA, "others": [BOB], "by_city": {"x": EVE},
    "spouse": {"name": "Zoe", "city": "Oslo"}, "limit": Decimal("12.50"),
}  # fmt: skip


def test_what_is_marked_is_masked_however_deep_and_all_else_is_left() -> None:
    hidden = {"name": MASK, "city": "Oslo"}

    assert redact(PAYMENT, DATUM) == {
        "card": MASK, "amount": 5, "pin": None, "owner": hidden, "others": [hidden], "by_city": {"x": hidden},
        "spouse": hidden, "limit": MASK,
    }  # fmt: skip
    assert DATUM["owner"] == ADA, "the datum itself is left alone"


def test_the_values_that_must_not_be_told_are_known() -> None:
    assert sensitive_values(PAYMENT, DATUM) == {CARD, "Ada", "Bob", "Eve", "Zoe", "12.50"}
    assert has_sensitive(PAYMENT)
    assert not has_sensitive({**PAYMENT, "fields": PAYMENT["fields"][1:2]})


def test_the_longest_secret_is_taken_out_first() -> None:
    assert scrub("key (card)=(12345)", frozenset({"123", "12345"})) == f"key (card)=({MASK})"


class Placed(Event):
    order_id: str
    card: str


class Paid(Event):
    order_id: str
    card: str


class Declined(Event):
    order_id: str


class Cancelled(Event):
    order_id: str


CONTRACTS = schemas(
    {"name": "place", "by": "shop", "emits": ["Placed"], "compensated": "Cancelled"},
    {"name": "pay", "by": "bank", "on": ["Placed"], "emits": ["Paid"], "fails": "Declined", "pivot": True},
)
for event in CONTRACTS:
    if event["name"] in ("Placed", "Paid"):
        event["fields"].append(CARD_FIELD)
SAGA = Saga.of(*CONTRACTS)


def parked_with(pay: Callable[[Placed], Any]) -> tuple[str, Harness]:
    """Why the bank's workflow is parked after its handler did this."""
    shop, bank = Participant("shop", SAGA), Participant("bank", SAGA)

    @shop.compensation(of="place")
    def cancel(placed: Placed, tx: Transaction) -> Cancelled:
        return Cancelled(order_id=placed.order_id)

    @bank.step(step="pay", retry=Retry(attempts=1, quick=1))
    def take(placed: Placed, tx: Transaction) -> Paid | Declined:
        done: Paid = pay(placed)
        return done

    fleet = Harness(shop, bank)
    fleet.start(Placed(order_id="o1", card=CARD), workflow_id="w1")
    fleet.settle()
    [fence] = fences(fleet)
    assert fence.error is not None
    return fence.error, fleet


def fences(fleet: Harness) -> list[Fence]:
    with fleet.stores["bank"].unit() as unit:
        return [*unit.load("checkout", ["w1"])["w1"].fences.values()]


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    "pay",
    [
        lambda placed: _raise(TerminalError(f"card {placed.card} is stolen")),
        lambda placed: _raise(ValueError(f"UNIQUE constraint: (card)=({placed.card})")),
        lambda placed: Paid(order_id=[placed.card], card=placed.card),
        lambda placed: placed,
    ],
    ids=["raised", "from a database", "by pydantic", "returned"],
)
def test_a_parked_workflow_and_the_log_do_not_tell(pay: Callable[[Placed], Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    error, _ = parked_with(pay)

    assert CARD not in error
    assert "parked after attempt 1" in caplog.text
    assert CARD not in caplog.text


def test_the_reason_is_told_all_the_same() -> None:
    error, _ = parked_with(lambda placed: _raise(TerminalError(f"card {placed.card} is stolen")))

    assert error == f"TerminalError: card {MASK} is stolen"


def test_an_event_that_does_not_fit_is_told_without_its_values() -> None:
    with pytest.raises(EncodeError, match="not shown for its sensitive fields") as refusal:
        AvroCodec(SAGA).encode("checkout.Paid", {"order_id": 7, "card": CARD})

    assert refusal.value.__cause__ is None


def test_show_masks_results(tmp_path: Path) -> None:
    written(tmp_path / "contracts", CONTRACTS)
    result = AvroCodec(SAGA).encode("checkout.Paid", {"order_id": "o1", "card": CARD})
    opened = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
    workflow = Workflow(id="w1", version=1, lane=0, opened=opened)
    fence = Fence(step="pay", status=StepStatus.DONE, event="checkout.Paid", result=result, changed=opened)
    with closing(SqliteStore(tmp_path / "bank.db", migrate=True)) as store, store.unit() as unit:
        unit.save("checkout", Changes(workflows=[workflow], fences=[("w1", fence)]))
    saga = Commands(tmp_path)

    table = saga("show", "w1", "--schemas", "contracts", "--database", "sqlite:///bank.db")
    data = saga("show", "w1", "--schemas", "contracts", "--database", "sqlite:///bank.db", "--json")

    assert orjson.dumps({"order_id": "o1", "card": MASK}).decode() in table.out
    assert CARD not in table.out + data.out


def test_a_generated_class_does_not_show_it_either() -> None:
    text = python(SAGA, command="x")

    assert "    card: str = Field(repr=False)\n" in text
