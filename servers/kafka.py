"""Kafka: one KRaft node that is broker and controller, with the same settings on every rung and in docker-compose.yml."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from servers.classes import kept
from servers.container import Image, docker_host, running
from servers.maven import jars
from servers.process import LOOPBACK, LocalServer, free_port, run, workspace
from servers.programs import SHORT_LIVED, Report, java

VERSION = "4.3.1"
IMAGE = f"apache/kafka:{VERSION}"
ARTIFACTS = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4")

# The broker's defaults would let a killed member keep its partitions for 45 s, and a group wait 3 s for its first member.
SETTINGS: Mapping[str, str] = {
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.min.session.timeout.ms": "6000",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "6000",  # for so long a crashed broker's successor is refused
    "broker.heartbeat.interval.ms": "1000",
    "log.retention.hours": "168",
    "log.segment.bytes": "67108864",
    "log.cleaner.dedupe.buffer.size": "8388608",  # its default is a third of the heap we give
}
_ROLES: Mapping[str, str] = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
}
_LOGGING = """\
Configuration:
  status: error
  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: warn, AppenderRef: {ref: out}}}
"""
_PATIENCE = 10.0
# What it unpacks stays in its own folder, which is removed with it.
_OWN_FOLDER = ("-Djava.io.tmpdir=.", "-XX:-UsePerfData")
_JVM = ("-Xmx448m", "-Xms128m", "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.yaml", *_OWN_FOLDER)


def fetch(report: Report) -> None:
    """Get what `local` needs, which may take minutes on a new machine."""
    _program(report)


def local(report: Report, *, tethered: bool = True, guarded: str = "") -> LocalServer:
    """A broker on this machine, formatted and not yet started; its address is that of the bootstrap.

    At `guarded`, a second address, clients must say who they are (SASL_PLAINTEXT, SCRAM-SHA-256), every few seconds again, and
    may do what ACLs allow; at the first one everybody may do everything.
    """
    return _single(_program(report), tethered=tethered, guarded=guarded)


def prepared(
    report: Report, home: Path, properties: Mapping[str, str], *formatting: str, machine: Sequence[str] = ()
) -> list[str]:
    """The command of a node in this folder, once its storage is formatted; `machine` are more options of the Java machine."""
    java, *rest = _program(report)
    return _formatted([java, *machine, *rest], home, properties, *formatting)


@contextmanager
def containerised() -> Iterator[str]:
    """The bootstrap address of a broker in Docker; raises ServerMissing when Docker cannot run it."""
    port = free_port()  # a broker tells its clients where it is, so it must know before it starts
    image = Image("kafka", IMAGE, 9092, environment(f"{docker_host()}:{port}"), published=port)
    with running(image, "{host}:{port}", answers) as address:
        yield address


def environment(address: str) -> dict[str, str]:
    """The settings as the official image takes them, for clients that reach it at `address`."""
    inside = {**_ROLES, "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093", "advertised.listeners": f"PLAINTEXT://{address}"}
    properties = {**inside, "controller.quorum.voters": "1@localhost:9093", **SETTINGS}
    return {f"KAFKA_{key.replace('.', '_').upper()}": value for key, value in properties.items()}


def answers(address: str) -> bool:
    """Whether a broker at `address` tells who it is."""
    host, _, port = address.split(",")[0].rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()  # the client below takes no refusal for an answer
        client = AdminClient({"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.max.ms": 250})
        return bool(client.list_topics(timeout=_PATIENCE).brokers)
    except (OSError, ValueError, KafkaException):
        return False


def _program(report: Report) -> list[str]:
    machine, classes = str(java(report)), jars(f"kafka-{VERSION}", ARTIFACTS, report)
    return kept(f"kafka-{VERSION}", [machine, *_JVM, "-cp", f"{classes}/*"], _single, report)


def _single(program: Sequence[str], *, tethered: bool = True, guarded: str = "") -> LocalServer:
    home, address = workspace("kafka"), f"{LOOPBACK}:{free_port()}"
    listening = _listening(address, f"{LOOPBACK}:{free_port()}")
    properties = {**SETTINGS, **listening, **(_guarding(listening, guarded) if guarded else {})}
    command = _formatted(program, home, properties, "--cluster-id", uuid.uuid4().hex, "--standalone")
    return LocalServer("kafka", address, home, command, answers, tethered=tethered)


def _formatted(program: Sequence[str], home: Path, properties: Mapping[str, str], *formatting: str) -> list[str]:
    told = {**properties, "log.dirs": str(home / "data")}
    (home / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in told.items()))
    (home / "log4j2.yaml").write_text(_LOGGING)
    java, *rest = program
    tool = ["kafka.tools.StorageTool", "format", *formatting, "--config", "server.properties"]
    run("formatting the storage of kafka", [java, SHORT_LIVED, *rest, *tool], cwd=home)
    return [*program, "kafka.Kafka", "server.properties"]


def _listening(address: str, controller: str) -> dict[str, str]:
    return {
        **_ROLES,
        "listeners": f"PLAINTEXT://{address},CONTROLLER://{controller}",
        "controller.quorum.bootstrap.servers": controller,
    }


def _guarding(listening: Mapping[str, str], address: str) -> dict[str, str]:
    return {
        "listeners": f"{listening['listeners']},GUARDED://{address}",
        "listener.security.protocol.map": f"{listening['listener.security.protocol.map']},GUARDED:SASL_PLAINTEXT",
        "listener.name.guarded.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.guarded.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.guarded.connections.max.reauth.ms": "3000",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
