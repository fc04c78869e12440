"""The work by hand once more, with the rows, headers, ids and models that the promises need: what they cost anybody.

It writes the library's own tables, hears its own answers come back, and advances its lanes with each transaction. As in
`benchmarks.loops` everything is known beforehand: one saga, one step, no failure, timer, gate, operator, trace or other owner.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha1
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
import orjson
import psycopg
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.loops import until_marked
from benchmarks.workload import BATCH, BUSINESS, PARTITIONS, Accepted, Placed
from saga import Saga
from saga.contracts.avro import AvroCodec

TYPE = "bench.Accepted"
CLAIM = """INSERT INTO saga_lane (saga, lane, epoch, batch, offsets, clean, backend)
SELECT %s, lane, 1, 0, '{}', false, 0 FROM generate_series(0, %s - 1) AS lane"""
WORKFLOWS = """SELECT workflow_id, sequence, closed FROM saga_workflow
WHERE workflow_id = ANY(%(ids)b::text[]) AND saga = %(saga)s ORDER BY workflow_id FOR UPDATE"""
FENCES = "SELECT workflow_id, step, status FROM saga_fence WHERE workflow_id = ANY(%(ids)b::text[]) AND saga = %(saga)s"
RECEIVED = "SELECT workflow_id, id FROM saga_inbox WHERE workflow_id = ANY(%(ids)b::text[]) AND saga = %(saga)s"
UNPUBLISHED = """SELECT aggregateid, id FROM saga_outbox
WHERE aggregateid = ANY(%(ids)b::text[]) AND saga = %(saga)s AND coalesce(published, '-infinity') = '-infinity'"""
OPEN = """INSERT INTO saga_workflow (saga, workflow_id, version, lane, status, sequence, opened)
SELECT %(saga)s, id, 1, lane, 'accepted', 1, %(now)s::timestamptz
FROM unnest(%(ids)b::text[], %(lanes)b::integer[]) AS new (id, lane)"""
FENCE = """INSERT INTO saga_fence (saga, workflow_id, step, status, event, result, pending, refused, attempt, changed)
SELECT %(saga)s, id, 'accept', 'done', 'bench.Accepted', payload, false, false, 1, %(now)s::timestamptz
FROM unnest(%(ids)b::text[], %(payloads)b::bytea[]) AS new (id, payload)"""
INBOX = """INSERT INTO saga_inbox
    (saga, workflow_id, id, step, status, type, state, topic, record_partition, record_offset, received)
SELECT %(saga)s, id, event, 'place', 'done', 'bench.Placed', 'handled', %(topic)s, lane, record_offset, %(now)s::timestamptz
FROM unnest(%(ids)b::text[], %(events)b::text[], %(lanes)b::integer[], %(offsets)b::bigint[])
    AS new (id, event, lane, record_offset)"""
OUTBOX = """INSERT INTO saga_outbox
    (id, aggregatetype, aggregateid, type, payload, saga, lane, sequence, headers, created)
SELECT answer, %(topic)s, id, 'bench.Accepted', payload, %(saga)s, lane, 1, headers, %(now)s::timestamptz
FROM unnest(%(answers)b::text[], %(ids)b::text[], %(payloads)b::bytea[], %(lanes)b::integer[], %(headers)b::text[])
    AS new (answer, id, payload, lane, headers)"""
MARK = """UPDATE saga_outbox AS o SET published = now(), record_offset = report.record_offset
FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bigint[]) AS report (saga, id, sequence, record_offset)
WHERE o.aggregateid = report.id AND o.saga = report.saga AND o.sequence = report.sequence"""
ADVANCE = "UPDATE saga_lane SET batch = batch + 1, offsets = %s::json WHERE saga = %s AND epoch = 1"

_NAMESPACE = bytes.fromhex("6f1a53c57b0c5f2e9a4e2d1f3b6c8e90")


class Taken(NamedTuple):
    """A placed order as its record has it."""

    event: str
    id: str
    value: bytes
    lane: int
    offset: int


class Answer(NamedTuple):
    """What is said of it; `headers` once as they travel and once as the row keeps them."""

    id: str
    headers: list[tuple[str, Any]]
    written: str
    payload: bytes


class Loop:
    """Connections and codecs of one run, which owns all lanes of a database with the library's tables."""

    def __init__(self, servers: str, dsn: str, bench: Saga, topics: tuple[str, str]) -> None:
        self.saga, self.topic = bench.name, topics[0]
        self.reader = fastavro.parse_schema(bench.contract("bench.Placed"))
        self.writer = fastavro.parse_schema(bench.contract(TYPE))
        self.prefix = b"\0" + AvroCodec(bench).schema_id(TYPE).to_bytes(4, "big")
        self.constant = {
            "ce_specversion": "1.0",
            "ce_type": TYPE,
            "ce_source": "ledger",
            "ce_dataschema": f"urn:saga:{self.saga}:1:{TYPE}",
            "content-type": "application/avro",
            "ce_saga": self.saga,
            "ce_sagaversion": "1",
            "ce_step": "accept",
            "ce_status": "done",
            "ce_attempt": "1",
        }
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.connection.execute("SET enable_seqscan = off")  # as the engine does: plans are made while tables are empty
        self.connection.execute(CLAIM, (self.saga, PARTITIONS))
        self.consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"{self.topic}.loop",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self.producer = Producer(
            {"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4"}
        )
        self.consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in range(PARTITIONS)])
        self.offsets: dict[str, dict[str, int]] = {}
        self.delivered: dict[str, int] = {}

    def close(self) -> None:
        self.consumer.close()
        self.connection.close()

    def take(self, message: Message) -> Taken | None:
        """Nothing for what was said here."""
        headers: dict[str, Any] = dict(message.headers() or [])
        topic, lane, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        self.offsets.setdefault(str(lane), {})[topic] = offset + 1
        if headers["ce_source"] == b"ledger":
            return None
        assert (headers["ce_saga"], headers["ce_step"], headers["ce_status"]) == (self.saga.encode(), b"place", b"done")
        assert (headers["ce_subject"], int(headers["ce_sequence"])) == (message.key(), 1)
        assert datetime.fromisoformat(headers["ce_time"].decode()).tzinfo is not None
        return Taken(headers["ce_id"].decode(), headers["ce_subject"].decode(), message.value() or b"", lane, offset)

    def answer(self, taken: Taken, now: str, calls: list[tuple[int]]) -> Answer:
        """Call what a handler would be, which notes its statement among the calls."""
        fields: Any = fastavro.schemaless_reader(BytesIO(taken.value[5:]), self.reader, None)
        placed = Placed.model_validate(fields)
        calls.append((placed.account,))
        accepted = Accepted(**placed.__dict__)
        buffer = BytesIO()
        buffer.write(self.prefix)
        fastavro.schemaless_writer(buffer, self.writer, accepted.__dict__)
        digest = sha1(_NAMESPACE + f"{self.saga}/{taken.id}/accept/done/0".encode(), usedforsecurity=False).hexdigest()
        id = f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
        own = {"ce_id": id, "ce_subject": taken.id, "ce_time": now, "ce_sequence": "1", "ce_causationid": taken.event}
        headers = [*own.items(), *self.constant.items()]
        return Answer(id, headers, orjson.dumps(headers).decode(), buffer.getvalue())

    def publish(self, taken: Taken, answer: Answer) -> None:
        def report(error: object, delivered: Message) -> None:
            assert error is None, error
            self.delivered[taken.id] = delivered.offset() or 0

        self.producer.produce(
            self.topic,
            answer.payload,
            taken.id.encode(),
            taken.lane,
            headers=answer.headers,
            on_delivery=report,
        )


def batched(loop: Loop, count: int, batch: int = BATCH) -> float:
    """Handle `count` events, about `batch` to a transaction; answers the seconds from the first record to the last mark."""
    return until_marked(lambda: turn(loop, batch), loop.producer, count, rest=0.05)


def turn(loop: Loop, batch: int) -> tuple[int, int]:
    """One transaction of what is there, of which half is what was said here; answers what was handled and what marked."""
    first = loop.consumer.poll(0.001)
    messages = [first, *loop.consumer.consume(2 * batch - 1, 0.005)] if first is not None else []
    loop.producer.poll(0)
    taken = [one for one in map(loop.take, messages) if one is not None]
    if not taken and (messages or not loop.delivered):
        return 0, 0  # a transaction for what was said here alone would cost as much as one for five hundred
    marks, loop.delivered = loop.delivered, {}
    with loop.connection.pipeline():
        loop.connection.execute("BEGIN")
        answers = _handle(loop, taken) if taken else []
        if marks:
            same = [loop.saga] * len(marks)
            loop.connection.execute(MARK, (same, [*marks], [1] * len(marks), [*marks.values()]))
        loop.connection.execute(ADVANCE, (orjson.dumps(loop.offsets).decode(), loop.saga))
        loop.connection.execute("COMMIT")
    for one, answer in zip(taken, answers, strict=True):
        loop.publish(one, answer)
    if messages:
        loop.consumer.commit(asynchronous=True)
    return len(taken), len(marks)


def _handle(loop: Loop, taken: list[Taken]) -> list[Answer]:
    ids, now = [one.id for one in taken], datetime.now(UTC).isoformat()
    wanted = {"saga": loop.saga, "ids": ids}
    asked = [loop.connection.execute(sql, wanted) for sql in (WORKFLOWS, FENCES, RECEIVED, UNPUBLISHED)]
    assert not any(cursor.fetchall() for cursor in asked), "every order here is new"
    calls: list[tuple[int]] = []
    answers = [loop.answer(one, now, calls) for one in taken]
    loop.connection.cursor().executemany(BUSINESS, calls)
    columns = {
        "topic": loop.topic,
        "now": now,
        "lanes": [one.lane for one in taken],
        "events": [one.event for one in taken],
        "offsets": [one.offset for one in taken],
        "answers": [answer.id for answer in answers],
        "headers": [answer.written for answer in answers],
        "payloads": [answer.payload for answer in answers],
    }
    for sql in (OPEN, FENCE, INBOX, OUTBOX):
        loop.connection.execute(sql, wanted | columns)
    return answers
