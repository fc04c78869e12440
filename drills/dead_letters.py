"""Somebody else's records on the saga's topic: nobody can say of which workflow they are."""

from __future__ import annotations

from confluent_kafka import Producer

from drills.drill import Drill
from drills.scene import Scene
from saga.contracts.topics import fact_topics

KEPT = "SELECT count(*) FROM saga_dead_letter WHERE state = 'waiting'"
FIRST = "SELECT topic, record_partition, record_offset FROM saga_dead_letter WHERE state = 'waiting'"
SECONDS = 30.0


def cause(scene: Scene) -> None:
    servers = scene.fleet.ground.environment("stock")["SAGA_BROKER"]
    events, _ = fact_topics("checkout")
    producer = Producer({"bootstrap.servers": servers})
    for number in range(3):
        producer.produce(events, partition=number, key=b"cart-17", value=b'{"clicked": "buy now"}')
    producer.flush(SECONDS)
    scene.order(3)
    scene.until(lambda: scene.count("stock", KEPT) == 3, "three dead letters")
    scene.look_at("stock", PLACE=_place(scene))


def _place(scene: Scene) -> str:
    topic, partition, offset = scene.fleet.books.rows("stock", FIRST)[0]
    return f"{topic}/{partition}@{offset}"


DRILL = Drill(
    name="dead-letters",
    text="a program of somebody else writes to the topic of the saga",
    cause=cause,
)
