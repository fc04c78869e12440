"""A saga, or one participant's part of it, as an AsyncAPI 3.0 document.

Source: AsyncAPI specification 3.0.0; Kafka bindings 0.5.0; CloudEvents 1.0.2, Kafka protocol binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from saga.contracts.acknowledged import RECORD as ACKNOWLEDGED
from saga.contracts.message import CONTENT_TYPE
from saga.contracts.saga import Saga
from saga.contracts.topics import acks_topic, compensations_topic, events_topic, group
from saga.documents.example import example
from saga.documents.statement import Statement, statements
from saga.protocol.facts import FactStatus

Document = dict[str, Any]

_AVRO = "application/vnd.apache.avro;version=1.9.0"
_WIRE = {
    "schemaIdLocation": "payload",
    "schemaIdPayloadEncoding": "confluent",
    "schemaLookupStrategy": "TopicRecordNameStrategy",
}
_KAFKA = {"bindingVersion": "0.5.0"}
_TEXT = {"type": "string"}
_CONTENT = {
    "events": "What is done, keyed by workflow id",
    "compensations": "What failed, was skipped or was undone, keyed by workflow id",
    "acks": "What was taken in, without a key: partition p speaks of partition p of the others",
}
_SCHEMAS = "#/components/schemas"


def asyncapi(saga: Saga, participant: str | None = None, *, partitions: int | None = None) -> Document:
    """The document of one participant, seen from inside it; without one, of the whole saga with everybody's operations.

    `partitions` is the count of each topic, left open where it is not known.
    """
    told = statements(saga)
    who = sorted(saga.participants) if participant is None else [participant]
    told = [statement for statement in told if any(name in statement.by | statement.heard for name in who)]
    return {
        "asyncapi": "3.0.0",
        "id": ":".join(("urn:saga", saga.name, str(saga.version), *([participant] if participant else []))),
        "info": _info(saga, participant),
        "defaultContentType": CONTENT_TYPE,
        "channels": {_channel(topic): _topic(topic, told, partitions) for topic in _topics(told)},
        "operations": {
            key: operation for name in who for key, operation in _operations(saga, name, told, alone=participant is not None)
        },
        "components": {
            "schemas": {"headers": _headers(), "acknowledgment": _acknowledgment()},
            "messages": {type_: _message(saga, type_, told) for type_ in sorted({statement.type for statement in told})},
        },
    }


def _info(saga: Saga, participant: str | None) -> Document:
    steps = [step.name for step in saga.owned(participant)] if participant else []
    part = f"\n\nThe part of {participant}: {', '.join(steps)}." if participant else ""
    return {
        "title": f"{saga.name}: {participant}" if participant else saga.name,
        "version": f"{saga.version}.0.0",
        "description": f"{saga.own.get('doc', '')}{part}",
        "contact": {"name": saga.owner},
    }


def _topics(told: Iterable[Statement]) -> list[str]:
    return sorted({statement.topic for statement in told}, reverse=True)


def _channel(topic: str) -> str:
    return topic.rpartition(".")[2]


def _topic(topic: str, told: Iterable[Statement], partitions: int | None) -> Document:
    types = sorted({statement.type for statement in told if statement.topic == topic})
    counted = {} if partitions is None else {"partitions": partitions}
    return {
        "address": topic,
        "description": f"{_CONTENT[_channel(topic)]}. All topics of the saga have one partition count, which never changes.",
        "messages": {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in types},
        # Event history: what compaction removes could not be replayed.
        "bindings": {"kafka": {"topic": topic, **counted, "topicConfiguration": {"cleanup.policy": ["delete"]}, **_KAFKA}},
    }


def _operations(saga: Saga, participant: str, told: Sequence[Statement], *, alone: bool) -> list[tuple[str, Document]]:
    found = []
    for action in ("send", "receive"):
        for topic in (events_topic(saga.name), compensations_topic(saga.name), acks_topic(saga.name)):
            types = sorted(
                {s.type for s in told if s.topic == topic and participant in (s.by if action == "send" else s.heard)}
            )
            if types:
                key = f"{action}_{_channel(topic)}"
                found.append((key if alone else f"{participant}_{key}", _operation(saga, participant, action, topic, types)))
    return found


def _operation(saga: Saga, participant: str, action: str, topic: str, types: Iterable[str]) -> Document:
    channel = f"#/channels/{_channel(topic)}"
    receives = {"groupId": {**_TEXT, "const": group(saga.name, participant)}} if action == "receive" else {}
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": f"What {participant} {'states' if action == 'send' else 'must handle'} on {topic}",
        "tags": [{"name": participant}],
        "bindings": {"kafka": {**receives, **_KAFKA}},
        "messages": [{"$ref": f"{channel}/messages/{type_}"} for type_ in types],
    }


def _message(saga: Saga, type_: str, told: Iterable[Statement]) -> Document:
    schema = saga.contract(type_)
    statuses = sorted({said.status.value for said in told if said.type == type_ and said.status})
    exact: Document = {"ce_type": {"const": type_}, **({"ce_status": {"enum": statuses}} if statuses else {})}
    every = "acknowledgment" if type_ == ACKNOWLEDGED else "headers"
    key = {} if type_ == ACKNOWLEDGED else {"key": {**_TEXT, "description": "The workflow id."}}
    return {
        "name": type_,
        "title": str(schema["name"]),
        "summary": schema.get("doc", ""),
        "contentType": CONTENT_TYPE,
        "headers": {"allOf": [{"$ref": f"{_SCHEMAS}/{every}"}, {"type": "object", "properties": exact}]},
        "payload": {"schemaFormat": _AVRO, "schema": schema},
        "bindings": {"kafka": {**key, **_WIRE, **_KAFKA}},
        "examples": [{"name": "generated", "payload": example(type_, saga.types)}],
    }


def _headers() -> Document:
    """CloudEvents in binary mode, with this library's extensions."""
    described = {
        "ce_specversion": "CloudEvents version.",
        "ce_id": "UUIDv5 of saga, workflow, step, status and index: the same for every attempt.",
        "ce_type": "Full name of the Avro record.",
        "ce_source": "The participant that states it.",
        "ce_subject": "The workflow id, as in the key.",
        "ce_time": "When it was stated.",
        "ce_dataschema": "Names the schema: urn:saga:NAME:VERSION:TYPE.",
        "ce_saga": "Name of the saga.",
        "ce_sagaversion": "Version of the saga, fixed when the workflow began.",
        "ce_status": "What it says of the step.",
        "ce_sequence": "Counts what the source stated about this workflow, from 1, over all topics.",
        "ce_attempt": "The attempt that led to it, counted durably from 1.",
        "content-type": "Of the value.",
    }
    optional = {
        "ce_step": "The step it is about; left out of a wish to abort the whole workflow.",
        "ce_causationid": "The event that led to it.",
        "ce_deadline": "The workflow's deadline, for information.",
        "ce_gates": "The feature gates that were open as the workflow began: a JSON list of names, the same in all its facts.",
        "ce_exceptions": "Steps whose compensation was passed over or stated by hand, as far as the source knows; with commas.",
        "traceparent": "W3C Trace Context.",
        "tracestate": "W3C Trace Context.",
    }
    properties: Document = {name: {**_TEXT, "description": text} for name, text in {**described, **optional}.items()}
    properties["ce_specversion"]["const"] = "1.0"
    properties["ce_status"]["enum"] = [status.value for status in FactStatus]
    properties["ce_time"]["format"] = properties["ce_deadline"]["format"] = "date-time"
    properties["content-type"]["const"] = CONTENT_TYPE
    return {
        "type": "object",
        "description": "CloudEvents 1.0, binary mode.",
        "required": [*described],
        "properties": properties,
    }


def _acknowledgment() -> Document:
    """The headers of an acknowledgment, which is no fact about a workflow."""
    needed = ("ce_specversion", "ce_type", "ce_source", "ce_saga", "content-type")
    described = _headers()["properties"]
    return {"type": "object", "required": [*needed], "properties": {name: described[name] for name in needed}}
