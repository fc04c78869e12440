"""How long a whole workflow takes at a tenth, a half and four fifths of what can be done, with an open loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from benchmarks import four_steps
from benchmarks.four_steps import PARTICIPANTS, WARMING
from benchmarks.suite import plot
from benchmarks.suite.fleet import Fleet
from benchmarks.suite.place import Place
from benchmarks.suite.results import PLOTS, Table, number, stderr
from benchmarks.workload import BUSINESS, PARTITIONS, key, placed
from saga.contracts.topics import saga_topics
from saga.store.postgres import PostgresStore

SHARES = (0.1, 0.5, 0.8)
CAPACITY_OF, SECONDS = 3000, 25
PATIENCE = 120.0


def latency(place: Place) -> Iterator[Table]:
    """One table: a row for each load."""
    table = Table(
        "Latency of a whole workflow of four steps",
        "Four participants in one process, starts from another, each in a transaction of its own at its appointed time "
        "whether or not earlier ones have ended (open loop). Milliseconds from that time to a consumer that sees the "
        "last event.",
        ("load", "workflows/s", "p50 ms", "p99 ms", "p99.9 ms", "workflows"),
        "at low load four hops, each a fetch, a commit and a delivery report; near capacity the queue before each participant, "
        "whose batches grow with it.",
        plot="latency.svg",
    )
    label = place.label("latency")
    with Fleet(place, "four", label, [PARTICIPANTS]) as fleet:
        count = place.count(CAPACITY_OF)
        capacity = count / fleet.took(count, burst=1)
        stderr.print(f"  capacity: {capacity:,.0f} workflows/s")
        first, lines = WARMING + count, dict[str, list[float]]()
        for share in SHARES:
            per_second = max(share * capacity, 1.0)
            many = max(int(per_second * (SECONDS if not place.small else 4)), 20)
            taken = sorted(_measured(fleet, first, many, per_second))
            first += many
            found = [taken[min(int(len(taken) * part), len(taken) - 1)] for part in (0.5, 0.99, 0.999)]
            table.add(f"{share:.0%}", number(per_second), *(number(ms, 1) for ms in found), number(many))
            for name, value in zip(("p50", "p99", "p99.9"), found, strict=True):
                lines.setdefault(name, []).append(value)
    places = [f"{share:.0%} of capacity" for share in SHARES]
    plot.lines(PLOTS / "latency.svg", "Latency of a whole workflow", "ms", places, lines)
    yield table


def _measured(fleet: Fleet, first: int, many: int, per_second: float) -> list[float]:
    """Milliseconds of each workflow."""
    topic = saga_topics(fleet.label)[0]
    consumer = Consumer({"bootstrap.servers": fleet.place.kafka, "group.id": f"{topic}.watch", "enable.auto.commit": False})
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), 30)[1] for number in range(PARTITIONS)]
    consumer.assign([TopicPartition(topic, number, end) for number, end in enumerate(ends)])
    due = {key(first + number).encode(): number / per_second for number in range(many)}
    began = time.perf_counter() + 0.5
    starter = threading.Thread(target=_start, args=(fleet, first, many, began, per_second))
    starter.start()
    taken: list[float] = []
    limit = time.monotonic() + many / per_second + PATIENCE
    try:
        while len(taken) < many:
            assert time.monotonic() < limit, f"{len(taken)} of {many} workflows have ended"
            message = consumer.poll(0.1)
            if message is None or message.error() is not None or message.key() not in due:
                continue
            if ("ce_step", b"ship") in (message.headers() or []):
                taken.append((time.perf_counter() - began - due[message.key() or b""]) * 1000)
    finally:
        starter.join()
        consumer.close()
    return taken


def _start(fleet: Fleet, first: int, many: int, began: float, per_second: float) -> None:
    shop = four_steps.participants(four_steps.saga(fleet.label))["shop"]
    with closing(PostgresStore(fleet.stores["shop"])) as store:
        for number in range(many):
            time.sleep(max(began + number / per_second - time.perf_counter(), 0))
            with store.transaction() as tx:
                tx.execute(BUSINESS, (placed(first + number)["account"],))
                shop.start(four_steps.Placed(**placed(first + number)), tx, workflow_id=key(first + number))
