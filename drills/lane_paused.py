"""Kafka has deleted records that shipping had still to read: its lanes stand where nothing is."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from drills.drill import Drill
from drills.scene import Scene
from saga.contracts.topics import fact_topics

PUBLISHED = "SELECT count(*) FROM saga_outbox WHERE published IS NOT NULL"
ORDERS, LANES, SECONDS = 12, 4, 30.0


def cause(scene: Scene) -> None:
    scene.order(ORDERS)
    scene.settle()
    scene.stop("shipping")
    scene.order(ORDERS)
    for service in ("stock", "payments"):
        scene.until(_has_published(scene, service), f"the events of {service} on their topic")
    _delete_records(scene)
    scene.start("shipping")
    scene.until(lambda: scene.figure("shipping", "saga.lanes.stopped") == LANES, "four lanes that have stopped")
    scene.look_at("shipping", LANES=" ".join(map(str, range(LANES))))


def _has_published(scene: Scene, service: str) -> Callable[[], bool]:
    return lambda: scene.count(service, PUBLISHED) >= ORDERS


def _delete_records(scene: Scene) -> None:
    events, _ = fact_topics("checkout")
    admin = AdminClient({"bootstrap.servers": scene.fleet.ground.environment("shipping")["SAGA_BROKER"]})
    ends = [TopicPartition(events, number, OFFSET_END) for number in range(LANES)]
    for answer in admin.delete_records(ends, request_timeout=SECONDS).values():
        answer.result()


DRILL = Drill(
    name="lane-paused",
    text="Kafka has deleted records that shipping had still to read",
    cause=cause,
    alarm=("shipping", "saga.lanes.stopped"),
    real=True,
)
