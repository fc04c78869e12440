"""The same work by hand: a batched loop as good as we can write it (the limit), and the loop of most tutorials (naive).

No library code runs here but the making of input; ids are computed as cheaply as they can be, records stay dictionaries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import orjson
import psycopg
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.workload import BATCH, BUSINESS, PARTITIONS
from saga import Saga
from saga.contracts.avro import AvroCodec

TABLES = """
CREATE TABLE inbox (id text PRIMARY KEY, received timestamptz NOT NULL DEFAULT now());
CREATE TABLE outbox (id text PRIMARY KEY, key text NOT NULL, type text NOT NULL, headers text NOT NULL, payload bytea NOT NULL,
    created timestamptz NOT NULL DEFAULT now(), published timestamptz, record_offset bigint);
"""
# Binary parameters: psycopg escapes the quotes inside a text array one by one, in Python.
DEDUP = "INSERT INTO inbox (id) SELECT * FROM unnest(%b::text[]) ON CONFLICT DO NOTHING RETURNING id"
OUTBOX = """INSERT INTO outbox (id, key, type, headers, payload)
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[])"""
MARK = """UPDATE outbox SET published = now(), record_offset = m.record_offset
FROM unnest(%b::text[], %b::bigint[]) AS m (id, record_offset) WHERE outbox.id = m.id"""

TYPE = "bench.Accepted"
CONSTANT = [
    ("ce_specversion", b"1.0"),
    ("ce_type", TYPE.encode()),
    ("ce_source", b"ledger"),
    ("ce_dataschema", b"urn:saga:bench:1:bench.Accepted"),
    ("content-type", b"application/avro"),
    ("ce_saga", b"bench"),
    ("ce_sagaversion", b"1"),
    ("ce_step", b"accept"),
    ("ce_status", b"done"),
    ("ce_attempt", b"1"),
]


class Loop:
    """Connections and codecs of one run; `source` is read from its beginning, answers go to `target`."""

    def __init__(self, servers: str, dsn: str, bench: Saga, source: str, target: str) -> None:
        self.source, self.target = source, target
        self.reader = fastavro.parse_schema(bench.contract("bench.Placed"))
        self.writer = fastavro.parse_schema(bench.contract(TYPE))
        self.prefix = b"\0" + AvroCodec(bench).schema_id(TYPE).to_bytes(4, "big")
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"{source}.loop",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self.producer = Producer(
            {"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4"}
        )
        self.consumer.assign([TopicPartition(source, number, 0) for number in range(PARTITIONS)])
        self.delivered: dict[str, int] = {}

    def close(self) -> None:
        self.consumer.close()
        self.connection.close()

    def answer(self, message: Message) -> tuple[str, str, int, list[tuple[str, bytes]], bytes]:
        """Id of the input, key, account, headers and payload of the answer."""
        headers = dict(message.headers() or [])
        id, key = _text(headers["ce_id"]), (message.key() or b"").decode()
        fields: dict[str, Any] = fastavro.schemaless_reader(BytesIO((message.value() or b"")[5:]), self.reader, None)  # type: ignore[assignment]
        buffer = BytesIO()
        buffer.write(self.prefix)
        fastavro.schemaless_writer(buffer, self.writer, fields)
        own = [
            ("ce_id", f"{id}+".encode()),
            ("ce_subject", key.encode()),
            ("ce_time", b"2026-01-01T00:00:00Z"),
            ("ce_sequence", b"1"),
            ("ce_causationid", id.encode()),
        ]
        return id, key, fields["account"], own + CONSTANT, buffer.getvalue()

    def publish(self, id: str, key: str, headers: list[tuple[str, bytes]], payload: bytes) -> None:
        def report(error: object, delivered: Message) -> None:
            assert error is None, error
            self.delivered[id] = delivered.offset() or 0

        self.producer.produce(self.target, payload, key.encode(), headers=headers, on_delivery=report)  # type: ignore[arg-type]


def batched(loop: Loop, count: int, batch: int = BATCH) -> float:
    """Handle `count` events, `batch` to a transaction; answers the seconds from the first record to the last mark."""
    return until_marked(lambda: turn(loop, batch), loop.producer, count, rest=1)


def until_marked(turn: Callable[[], tuple[int, int]], producer: Producer, count: int, *, rest: float) -> float:
    """Turn until so many are marked, and wait `rest` seconds for reports where nothing was handled; seconds as `batched`."""
    marked, began = 0, 0.0
    while marked < count:
        now = time.perf_counter()
        handled, marks = turn()
        began = began or (now if handled else 0.0)
        if not handled:
            producer.flush(rest)
        marked += marks
    return time.perf_counter() - began


def turn(loop: Loop, batch: int = BATCH) -> tuple[int, int]:
    """One transaction of what is there; answers how many events were handled, and how many answers marked as published."""
    first = loop.consumer.poll(0.001)
    messages = [first, *loop.consumer.consume(batch - 1, 0)] if first is not None else []
    loop.producer.poll(0)
    marks, loop.delivered = loop.delivered, {}
    if not messages and not marks:
        return 0, 0
    answers = [loop.answer(message) for message in messages]
    with loop.connection.transaction():
        fresh = {id for (id,) in loop.connection.execute(DEDUP, ([a[0] for a in answers],)).fetchall()}
        rows = [a for a in answers if a[0] in fresh]
        with loop.connection.pipeline():
            if rows:
                loop.connection.cursor().executemany(BUSINESS, [(row[2],) for row in rows])
                loop.connection.execute(OUTBOX, _columns(rows))
            if marks:
                loop.connection.execute(MARK, (list(marks), list(marks.values())))
    for id, key, _, headers, payload in rows:
        loop.publish(id, key, headers, payload)
    if messages:
        loop.consumer.commit(asynchronous=True)
    return len(messages), len(marks)


def naive(loop: Loop, count: int, *, synchronous: bool = True) -> float:
    """One transaction, one produce and flush, one mark and one offset commit for each event; answers the seconds."""
    handled, began = 0, 0.0
    while handled < count:
        message = loop.consumer.poll(1.0)
        if message is None:
            continue
        began = began or time.perf_counter()
        id, key, account, headers, payload = loop.answer(message)
        with loop.connection.transaction():
            if loop.connection.execute(DEDUP, ([id],)).fetchall():
                loop.connection.execute(BUSINESS, (account,))
                loop.connection.execute(OUTBOX, _columns([(id, key, account, headers, payload)]))
        loop.publish(id, key, headers, payload)
        loop.producer.flush()
        loop.connection.execute(MARK, ([id], [loop.delivered.pop(id)]))
        if synchronous:
            loop.consumer.commit(message=message, asynchronous=False)
        else:
            loop.consumer.commit(message=message, asynchronous=True)
        handled += 1
    return time.perf_counter() - began


def _columns(rows: list[tuple[str, str, int, list[tuple[str, bytes]], bytes]]) -> tuple[list[Any], ...]:
    return (
        [row[0] for row in rows],
        [row[1] for row in rows],
        [TYPE for _ in rows],
        [orjson.dumps([[name, value.decode()] for name, value in row[3]]).decode() for row in rows],
        [row[4] for row in rows],
    )


def _text(raw: str | bytes | None) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw or ""


CONTENDERS: dict[str, Callable[[Loop, int], float]] = {
    "limit": batched,
    "naive": naive,
    "naive_async": lambda loop, count: naive(loop, count, synchronous=False),
}
