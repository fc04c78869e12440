"""What AsyncAPI documents say; whether the official parser reads them is asked in `tests/foreign`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from saga import Saga
from saga.contracts.message import Kind, Message, to_headers
from saga.documents.asyncapi import asyncapi
from saga.protocol.facts import Fact, FactStatus, audience
from tests.documented import CHECKOUT, returns

SAGA = Saga.load(CHECKOUT)


def told(document: dict[str, Any], operation: str) -> set[str]:
    return {message["$ref"].rpartition("/")[2] for message in document["operations"][operation]["messages"]}


def test_a_participant_sends_what_it_states() -> None:
    stock = asyncapi(SAGA, "stock")

    assert told(stock, "send_events") == {"checkout.StockReserved"}
    assert told(stock, "send_compensations") == {
        *("checkout.OutOfStock", "checkout.StockReleased"),
        *("saga.StepSkipped", "saga.StepStuck", "saga.AbortRequested"),
    }


@pytest.mark.parametrize("saga", [SAGA, returns()], ids=lambda saga: saga.name)
def test_a_participant_receives_what_it_is_the_audience_of(saga: Saga) -> None:
    for participant in saga.participants:
        heard = {
            event
            for step in saga.steps
            for event in step.emits
            if participant in audience(saga, Fact(step.name, FactStatus.DONE, event))
        }

        document = asyncapi(saga, participant)

        assert told(document, "receive_events") == heard
        assert document["operations"]["receive_events"]["bindings"]["kafka"]["groupId"]["const"] == f"{saga.name}.{participant}"


def test_a_participant_is_told_of_nothing_that_others_settle_among_themselves() -> None:
    messages = asyncapi(SAGA, "shipping")["components"]["messages"]

    assert "checkout.OrderPlaced" not in messages
    assert "checkout.PaymentAuthorised" in messages


def test_the_sagas_document_has_the_operations_of_all() -> None:
    operations = asyncapi(SAGA)["operations"]

    assert {name for name in operations if name.endswith("send_events")} == {f"{p}_send_events" for p in SAGA.participants}


def test_every_header_that_is_written_is_described_and_no_other() -> None:
    kind = Kind("checkout.OrderPlaced", "orders", "checkout", 1, "place", FactStatus.DONE, gates='["gift"]')
    now = datetime(2026, 1, 1, tzinfo=UTC)
    fullest = Message(kind, "id", "workflow", now, 1, "cause", now, "00-trace", "state", frozenset({"place"}))
    barest = Message(kind._replace(step="", gates=""), "id", "workflow", now, 1)

    headers = asyncapi(SAGA)["components"]["schemas"]["headers"]

    assert set(headers["properties"]) == {name for name, _ in to_headers(fullest)}
    assert set(headers["required"]) == {name for name, _ in to_headers(barest)}


def test_a_control_record_is_told_with_the_steps_that_may_state_it() -> None:
    desk, warehouse = asyncapi(returns(), "desk"), asyncapi(returns(), "ware-house")

    assert {"saga.StepFailed", "saga.StepCompensated"} <= told(warehouse, "send_compensations")
    assert "saga.Refused" in told(desk, "send_compensations")
    assert "saga.Refused" not in told(warehouse, "send_compensations")


def test_payloads_are_self_contained_and_examples_mask_what_is_sensitive() -> None:
    [opened] = [m for name, m in asyncapi(returns())["components"]["messages"].items() if name == "returns.ReturnOpened"]

    [customer] = [field["type"] for field in opened["payload"]["schema"]["fields"] if field["name"] == "customer"]
    assert customer["fields"][0]["name"] == "mail"
    assert opened["examples"][0]["payload"]["customer"] == {"mail": "***", "age": 0}
    assert opened["examples"][0]["payload"]["weight"] == 0.5
