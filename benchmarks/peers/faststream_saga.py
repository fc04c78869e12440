"""Four steps as FastStream services in one process: `python faststream_saga.py DATABASE_URL COUNT IN_FLIGHT SERVERS SAGA`.

Each step's subscriber takes a batch, and writes inbox, business change and outbox in one transaction; a relay of
`faststream-outbox` publishes what is there to Kafka. Batches, workers of the relay and group commit of finished rows as its
documents advise for throughput; offsets are committed after the handler. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream_outbox import OutboxBroker, make_outbox_table, outbox_autovacuum_ddl
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

HOPS = ("placed", "reserved", "charged", "shipped")
INBOX = "CREATE TABLE inbox (id text PRIMARY KEY)"
FRESH = text("INSERT INTO inbox SELECT * FROM unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING RETURNING id")
BUSINESS = text("UPDATE accounts SET events = events + 1 WHERE id = :account")
BATCH, RELAYS = 500, 16
WARMING = 50


async def main(url: str, count: int, in_flight: int, servers: str, name: str) -> None:
    order = json.loads(sys.stdin.read())
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name="outbox")
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=100)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(text(INBOX))
        await connection.execute(text(outbox_autovacuum_ddl("outbox")))
    kafka, outbox = (
        KafkaBroker(servers, enable_idempotence=True, acks="all", logger=None),
        OutboxBroker(engine, outbox_table=table, logger=None),
    )
    free = asyncio.Semaphore(in_flight)

    async def step(connection: AsyncConnection, hop: int, orders: list[dict[str, Any]]) -> None:
        ids = [f"{one['order']}/{hop}" for one in orders]
        fresh = set((await connection.execute(FRESH, {"ids": ids})).scalars())
        mine = [one for one, id in zip(orders, ids, strict=True) if id in fresh]
        if mine:
            await connection.execute(BUSINESS, [{"account": one["account"]} for one in mine])
            await outbox.publish_batch(*mine, queue=HOPS[hop], session=connection)

    def relay(hop: int) -> None:
        publisher = kafka.publisher(f"{name}.{HOPS[hop]}")

        @publisher
        @outbox.subscriber(
            HOPS[hop],
            max_workers=RELAYS,
            fetch_batch_size=BATCH,
            min_fetch_interval=0.01,
            max_fetch_interval=0.5,
            terminal_flush_batch_size=100,
        )
        async def publish(body: dict[str, Any]) -> dict[str, Any]:
            return body

    def service(hop: int) -> None:
        @kafka.subscriber(
            f"{name}.{HOPS[hop - 1]}",
            batch=True,
            max_records=BATCH,
            group_id=f"{name}.{hop}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.ACK,
            fetch_max_wait_ms=10,
        )
        async def act(orders: list[dict[str, Any]]) -> None:
            async with engine.begin() as connection:
                await step(connection, hop, orders)

    def finish() -> None:
        @kafka.subscriber(
            f"{name}.{HOPS[3]}",
            batch=True,
            max_records=BATCH,
            group_id=f"{name}.end",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=10,
        )
        async def end(orders: list[dict[str, Any]]) -> None:
            for _ in orders:
                free.release()

    for hop in range(4):
        relay(hop)
    for hop in range(1, 4):
        service(hop)
    finish()

    async def start(first: int, many: int) -> None:
        """A transaction for each workflow, so many open at once."""

        async def begin(number: int) -> None:
            async with engine.begin() as connection:
                await step(connection, 0, [{**order, "order": f"order-{number:010}", "account": number % 10_000}])

        begun = set()
        for number in range(first, first + many):
            await free.acquire()
            begun.add(task := asyncio.create_task(begin(number)))
            task.add_done_callback(begun.discard)
        for _ in range(in_flight):  # all have ended once all places are free
            await free.acquire()
        for _ in range(in_flight):
            free.release()

    await kafka.start()
    await outbox.start()
    await start(0, WARMING)
    began, cpu = time.perf_counter(), time.process_time()
    await start(WARMING, count)
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "updates": 4 * (count + WARMING)}), flush=True)
    await outbox.stop()
    await kafka.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
