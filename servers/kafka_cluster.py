"""Kafka with three brokers and a controller apart: every record has three copies, two of which a producer waits for.

One broker may go and nothing waits; while two are away, nothing that is written is taken.
"""

from __future__ import annotations

import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from servers.kafka import SETTINGS, answers, prepared
from servers.process import LOOPBACK, LocalServer, free_port, workspace
from servers.programs import SHORT_LIVED, Report

BROKERS = (1, 2, 3)
_CONTROLLER = 100
_PATIENCE = 10.0
_COPIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "replica.lag.time.max.ms": "6000",
}


@dataclass(frozen=True)
class Cluster:
    """The nodes; `brokers` by their ids."""

    controller: LocalServer
    brokers: dict[int, LocalServer]

    @property
    def address(self) -> str:
        """Where clients begin."""
        return ",".join(broker.address for broker in self.brokers.values())

    def start(self) -> None:
        for node in (self.controller, *self.brokers.values()):
            node.start()

    def stop(self) -> None:
        for node in (*self.brokers.values(), self.controller):
            node.stop()

    def leaders(self, topic: str) -> dict[int, int]:
        """Partition to the broker that leads it, -1 where none does."""
        return {
            number: one.leader for number, one in self._admin().list_topics(topic, _PATIENCE).topics[topic].partitions.items()
        }

    def is_whole(self) -> bool:
        """Whether every broker has every record of every topic."""
        with suppress(KafkaException):
            topics = self._admin().list_topics(timeout=_PATIENCE).topics.values()
            return all({*one.isrs} == {*BROKERS} for topic in topics for one in topic.partitions.values())
        return False

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})


def local(report: Report) -> Cluster:
    """Nodes on this machine, formatted and not yet started."""
    id, voter = uuid.uuid4().hex, f"{LOOPBACK}:{free_port()}"
    shared = {
        **SETTINGS,
        **_COPIES,
        "controller.quorum.voters": f"{_CONTROLLER}@{voter}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    quorum = {"node.id": str(_CONTROLLER), "process.roles": "controller", "listeners": f"CONTROLLER://{voter}"}
    home = workspace("kafka-controller")
    command = prepared(report, home, {**shared, **quorum}, "--cluster-id", id, machine=[SHORT_LIVED])
    controller = LocalServer("kafka-controller", voter, home, command, _listens)
    return Cluster(controller, {number: _broker(report, id, number, shared) for number in BROKERS})


def _broker(report: Report, id: str, number: int, shared: dict[str, str]) -> LocalServer:
    home, address = workspace(f"kafka-{number}"), f"{LOOPBACK}:{free_port()}"
    own = {"node.id": str(number), "process.roles": "broker", "listeners": f"PLAINTEXT://{address}"}
    command = prepared(report, home, {**shared, **own}, "--cluster-id", id, machine=[SHORT_LIVED])
    return LocalServer(f"kafka-{number}", address, home, command, answers)


def _listens(address: str) -> bool:
    """Whether somebody does; a controller tells clients nothing."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError:
        return False
    return True
