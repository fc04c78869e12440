"""Envelopes: CloudEvents headers both ways, read and written by the SDK of the CloudEvents project as well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid5

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.base import Format
from cloudevents.core.v1.event import CloudEvent

from saga.contracts.message import Kind, Message, event_id, from_headers, idempotency_key, to_headers
from saga.errors import DecodeError
from saga.protocol.facts import Fact, FactStatus

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MESSAGE = Message(
    kind=Kind("checkout.StockReserved", "stock", "checkout", 1, "reserve", FactStatus.DONE, attempt=2),
    id="0b6e9a5e-3c43-5a0a-8d5b-0d8f4c1f9a11",
    workflow_id="w-1",
    time=NOW,
    sequence=3,
    cause="c-1",
    deadline=NOW + timedelta(minutes=10),
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    tracestate="vendor=1",
    exceptions=frozenset({"reserve", "authorise"}),
    value=b"\0\0\0\0\1abc",
)
ABORT = MESSAGE._replace(kind=Kind("saga.AbortRequested", "orders", "checkout", 1, "", FactStatus.ABORT))


class Verbatim(Format):
    """Avro data is bytes already."""

    def read(self, event_factory: Any, data: Any) -> BaseCloudEvent:
        raise NotImplementedError

    def write(self, event: BaseCloudEvent) -> bytes:
        raise NotImplementedError

    def write_data(self, data: Any, datacontenttype: str | None) -> bytes:
        return bytes(data)

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body

    def get_content_type(self) -> str:
        raise NotImplementedError


def headers(message: Message = MESSAGE) -> dict[str, bytes]:
    return {name: value.encode() for name, value in to_headers(message)}


@pytest.mark.parametrize("message", [MESSAGE, ABORT], ids=["with everything", "an abort of the whole workflow"])
def test_a_message_survives_its_headers(message: Message) -> None:
    assert from_headers(headers(message), message.value) == message


def test_what_is_absent_has_no_header() -> None:
    bare = MESSAGE._replace(cause=None, deadline=None, traceparent=None, tracestate=None, exceptions=frozenset())

    assert {"ce_exceptions", "ce_causationid", "ce_deadline", "traceparent", "tracestate"} & set(headers(bare)) == set()
    assert from_headers(headers(bare), bare.value) == bare


def test_the_cloudevents_sdk_reads_what_we_write() -> None:
    event = from_binary(KafkaMessage(headers(), b"w-1", MESSAGE.value), Verbatim())

    assert event.get_specversion() == "1.0"
    assert event.get_id() == MESSAGE.id
    assert event.get_type() == "checkout.StockReserved"
    assert event.get_source() == "stock"
    assert event.get_subject() == "w-1"
    assert event.get_time() == NOW
    assert event.get_datacontenttype() == "application/avro"
    assert event.get_dataschema() == "urn:saga:checkout:1:checkout.StockReserved"
    assert {name: event.get_extension(name) for name in ("saga", "sagaversion", "step", "status", "sequence", "attempt")} == {
        "saga": "checkout", "sagaversion": "1", "step": "reserve", "status": "done", "sequence": "3", "attempt": "2",
    }  # fmt: skip
    assert event.get_extension("causationid") == "c-1"
    assert event.get_data() == MESSAGE.value


def test_we_read_what_the_cloudevents_sdk_writes() -> None:
    attributes: dict[str, Any] = {
        "id": MESSAGE.id, "type": "checkout.StockReserved", "source": "stock", "subject": "w-1", "specversion": "1.0",
        "time": NOW, "datacontenttype": "application/avro", "dataschema": "urn:saga:checkout:1:checkout.StockReserved",
        "saga": "checkout", "sagaversion": "1", "step": "reserve", "status": "done", "sequence": "3", "attempt": "2",
        "causationid": "c-1", "deadline": "2026-03-01T12:10:00.250000Z", "exceptions": "authorise,reserve",
    }  # fmt: skip
    written = to_binary(CloudEvent(attributes, MESSAGE.value), Verbatim(), lambda event: event.get_subject())

    read = from_headers({**written.headers, **_trace(headers())}, written.value)

    assert read == MESSAGE
    assert {**written.headers, **_trace(headers())} == headers()
    assert written.key == "w-1"


def _trace(of: dict[str, bytes]) -> dict[str, bytes]:
    """Trace context travels in headers of its own, outside of CloudEvents."""
    return {name: of[name] for name in ("traceparent", "tracestate")}


def test_only_a_done_fact_names_its_event() -> None:
    failed = MESSAGE.kind._replace(status=FactStatus.FAILED, type="checkout.OutOfStock")

    assert MESSAGE.fact == Fact("reserve", FactStatus.DONE, "checkout.StockReserved")
    assert failed.fact == Fact("reserve", FactStatus.FAILED)


@pytest.mark.parametrize(
    "name", ["ce_type", "ce_source", "ce_saga", "ce_sagaversion", "ce_status", "ce_id", "ce_subject", "ce_time", "ce_sequence"]
)
def test_a_missing_header_is_named_with_the_record_and_what_was_there(name: str) -> None:
    found = headers()
    del found[name]

    with pytest.raises(DecodeError, match=rf"record checkout\.events/2@7 has no header '{name}'; found .*binary mode headers"):
        from_headers(found, b"", topic="checkout.events", partition=2, offset=7)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ce_status", b"finished", "'finished' is not a valid FactStatus"),
        ("ce_sequence", b"first", "'first'"),
        ("ce_sagaversion", b"one", "'one'"),
        ("ce_time", b"yesterday", "'yesterday'"),
        ("ce_time", b"2026-03-01T12:00:00", "has no offset from UTC"),
        ("ce_deadline", b"soon", "'soon'"),
        ("ce_subject", b"\xff", "can't decode byte 0xff"),
        ("ce_id", None, "an attribute is null"),
    ],
)
def test_a_header_that_makes_no_sense_is_told(name: str, value: bytes | None, told: str) -> None:
    with pytest.raises(DecodeError, match="has a header that makes no sense") as refused:
        from_headers({**headers(), name: value}, b"")

    assert told in str(refused.value)


def test_a_record_without_any_header_is_told_so() -> None:
    with pytest.raises(DecodeError, match="found none"):
        from_headers({}, b"")


def test_a_moment_of_another_time_zone_is_the_same_moment() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert from_headers({**headers(), "ce_time": elsewhere.isoformat().encode()}, b"").time == NOW


def test_the_same_fact_always_has_the_same_id() -> None:
    """Forever: the namespace is part of the contract between versions of this library."""
    namespace = UUID("6f1a53c5-7b0c-5f2e-9a4e-2d1f3b6c8e90")

    assert event_id("checkout", "w-1", "reserve", "done") == str(uuid5(namespace, "checkout/w-1/reserve/done/0"))


def test_facts_that_differ_in_anything_have_different_ids() -> None:
    facts = [
        ("checkout", "w-1", "reserve", "done", 0),
        ("returns", "w-1", "reserve", "done", 0),
        ("checkout", "w-2", "reserve", "done", 0),
        ("checkout", "w-1", "dispatch", "done", 0),
        ("checkout", "w-1", "reserve", "compensated", 0),
        ("checkout", "w-1", "reserve", "done", 1),
    ]

    assert len({event_id(*fact) for fact in facts}) == len(facts)


def test_action_and_compensation_have_idempotency_keys_of_their_own() -> None:
    action = idempotency_key("checkout", "w-1", "authorise", "action")

    assert action == idempotency_key("checkout", "w-1", "authorise", "action")
    assert action != idempotency_key("checkout", "w-1", "authorise", "compensation")
    assert UUID(action).version == 5
