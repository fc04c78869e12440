"""Kafka has deleted records that shipping had still to read: its lanes stand where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from drills.drill import Drill
from drills.scene import Scene
from saga.contracts.topics import events_topic, group
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition

PUBLISHED = "SELECT count(*) FROM saga_outbox WHERE published IS NOT NULL"
ORDERS, LANES, SECONDS = 12, 4, 30.0
OTHERS = ("orders", "stock", "payments")


def cause(scene: Scene) -> None:
    scene.order(ORDERS)
    scene.settle()
    for service in OTHERS:
        scene.until(_has_heard_of_all(scene, service), f"{service} to hear that everybody has handled its events")
    scene.stop("shipping")
    scene.order(ORDERS)
    for service in ("stock", "payments"):
        scene.until(_has_published(scene, service), f"the events of {service} on their topic")
    _delete_records(scene)
    scene.start("shipping")
    scene.until(lambda: scene.figure("shipping", "saga.lanes.stopped") == LANES, "four lanes that have stopped")
    scene.look_at("shipping", LANES=" ".join(map(str, range(LANES))))


def _has_heard_of_all(scene: Scene, service: str) -> Callable[[], bool]:
    return lambda: scene.count(service, PUBLISHED) == 0


def _has_published(scene: Scene, service: str) -> Callable[[], bool]:
    return lambda: scene.count(service, PUBLISHED) >= ORDERS


def _delete_records(scene: Scene) -> None:
    """All that there are, which the other services have read."""
    servers = scene.fleet.ground.environment("shipping")["SAGA_BROKER"]
    broker, topic = KafkaBroker(KafkaSettings(servers)), events_topic("checkout")
    ends = {place: span.stop for place, span in broker.spans([Partition(topic, n) for n in range(LANES)]).items()}
    for service in OTHERS:
        scene.until(_has_read(broker, service, ends), f"{service} to have read its topic")
    admin, wanted = AdminClient({"bootstrap.servers": servers}), [TopicPartition(*place, end) for place, end in ends.items()]
    for answer in admin.delete_records(wanted, request_timeout=SECONDS).values():
        answer.result()


def _has_read(broker: KafkaBroker, service: str, ends: Mapping[Partition, int]) -> Callable[[], bool]:
    def read() -> bool:
        told = broker.committed(group("checkout", service), [*ends])
        return all(told.get(place, 0) >= end for place, end in ends.items())

    return read


DRILL = Drill(
    name="lane-paused",
    text="Kafka has deleted records that shipping had still to read",
    cause=cause,
    alarm=("shipping", "saga.lanes.stopped"),
    real=True,
)
