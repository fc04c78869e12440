"""Which Kafka to talk to, and the client settings that our guarantees rest on: those are fixed here and refused elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from saga.errors import DefinitionError

Config = dict[str, str]

READERS = "saga.reader"
MIN_RECORD_BYTES = 1_000_000  # an event of the codec's limit (900 000 bytes), its key and its headers

# The mock cluster answers a fetch only when its wait is over.
EMBEDDED_CLIENT: Mapping[str, str] = {"fetch.wait.max.ms": "10"}

_CLIENT: Mapping[str, str] = {
    "client.id": "saga",
    "log_level": "2",  # what matters arrives as an error; a lost connection would be logged at every attempt
    "reconnect.backoff.ms": "250",
    "reconnect.backoff.max.ms": "5000",
}
_READ: Mapping[str, str] = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "allow.auto.create.topics": "false",
}
# While a member of a classic group is missed, all its lanes stand still as soon as anybody joins. Epochs make an early end of a
# session harmless, so it is as short as brokers allow by default; all members hear of a newcomer within a heartbeat.
_CLASSIC: Mapping[str, str] = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
_HEARTBEATS = 3
_WRITE: Mapping[str, str] = {
    "enable.idempotence": "true",
    "acks": "all",
    "partitioner": "murmur2_random",
    "linger.ms": "1",  # a batch is handed over in one go, so waiting for more costs latency and gains nothing
    "compression.type": "lz4",
    "message.max.bytes": str(MIN_RECORD_BYTES),
}

# What a client may hold in memory; the library's own defaults let a consumer take hundreds of megabytes.
_READ_BOUNDS: Mapping[str, str] = {
    "queued.max.messages.kbytes": "8192",
    "fetch.max.bytes": "2097152",
    "max.partition.fetch.bytes": "262144",
    "fetch.queue.backoff.ms": "20",  # a full queue is looked at again soon: it is emptied in much less than the default second
}
_QUEUED = 10_000
_LEAST_QUEUED = 100
_WRITE_BOUNDS: Mapping[str, str] = {"queue.buffering.max.kbytes": "32768", "queue.buffering.max.messages": "20000"}

_OFFSETS = "a position is moved only by the transaction that wrote its effects"
_OURS = "KafkaBroker sets it itself"
# Key to the only value that keeps the guarantee (None: no value does) and why.
_GUARANTEES: Mapping[str, tuple[str | None, str]] = {
    "enable.auto.commit": ("false", _OFFSETS),
    "auto.commit.enable": ("false", _OFFSETS),
    "enable.auto.offset.store": ("false", _OFFSETS),
    "auto.offset.reset": ("error", "any other value skips or repeats records in silence"),
    "isolation.level": ("read_committed", "an aborted record is not a fact"),
    "enable.partition.eof": ("false", "the end of a partition would be taken for an error"),
    "allow.auto.create.topics": ("false", "a topic made by accident has the wrong partition count"),
    "partition.assignment.strategy": ("range", "any other assignor splits lanes: partition p of all topics must go together"),
    "group.remote.assignor": ("range", "any other assignor splits lanes: partition p of all topics must go together"),
    "partitioner": ("murmur2_random", "any other partitioner sends a workflow to a foreign lane"),
    "acks": ("all", "a record could be lost after its delivery was reported"),
    "request.required.acks": ("all", "a record could be lost after its delivery was reported"),
    "enable.idempotence": ("true", "a retry could repeat or reorder records"),
    "delivery.report.only.error": ("false", "the outbox marks rows by their delivery reports"),
    "transactional.id": (None, "the outbox takes the place of Kafka transactions"),
    "bootstrap.servers": (None, "it is the setting `servers`"),
    "metadata.broker.list": (None, "it is the setting `servers`"),
    "group.protocol": (None, "it is the setting `group_protocol`"),
    "group.id": (None, "groups are named after saga and participant"),
    "test.mock.num.brokers": (None, "a mock cluster is owned by EmbeddedBroker"),
    "error_cb": (None, _OURS),
    "on_commit": (None, _OURS),
    "on_delivery": (None, _OURS),
}

_MEMBER_ONLY = ("group.", "heartbeat.", "max.poll.", "partition.assignment.", "session.")
_CONSUMER_ONLY = (
    *_MEMBER_ONLY,
    "auto.",
    "check.crcs",
    "enable.auto.",
    "fetch.",
    "isolation.",
    "max.partition.fetch.",
    "queued.",
)
_PRODUCER_ONLY = (
    *("acks", "batch.", "compression.", "delivery.", "enable.idempotence", "linger.", "message.send.max."),
    *("message.timeout.", "partitioner", "queue.buffering.", "request.timeout.", "retries", "sticky."),
)


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Construction raises DefinitionError for a client setting that would break a guarantee, or that contradicts another.

    `lanes="group"` shares the partitions with the other members of the group; `"all"` takes every partition without
    coordination, for a participant that runs as exactly one process. `embedded` says that `servers` are an
    EmbeddedBroker's, which this process need not own. `timeout` (seconds) bounds every question to the cluster.
    `client` holds further librdkafka settings, passwords among them; each goes to the kinds of client that know it.
    """

    servers: str
    _: KW_ONLY
    group_protocol: Literal["consumer", "classic"] = "consumer"
    lanes: Literal["group", "all"] = "group"
    embedded: bool = False
    timeout: float = 10.0
    client: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.servers.strip():
            raise DefinitionError("no Kafka servers given; expected host:port, several separated by commas")
        for server in self.servers.split(","):
            _refuse_no_port(server.strip())
        if self.group_protocol not in ("consumer", "classic") or self.lanes not in ("group", "all"):
            raise DefinitionError(
                f"found group_protocol={self.group_protocol!r}, lanes={self.lanes!r}; "
                f"expected group_protocol 'consumer' or 'classic' and lanes 'group' or 'all'"
            )
        if self.embedded and self.group_protocol == "classic":
            raise DefinitionError(
                "found group_protocol='classic' for an embedded broker, where such a group waits 3 s to join and cannot "
                "rejoin; expected 'consumer'"
            )
        for key, value in self.client.items():
            _refuse_broken_guarantee(key, str(value))
        if self.group_protocol == "classic":
            _refuse_restless(*(str(self.client.get(key, value)) for key, value in _CLASSIC.items()))

    def consumer(self, group: str, partitions: int = 1) -> Config:
        """A member of `group`, or with `lanes="all"` one that only commits offsets under its name.

        What it holds ahead is bounded over all `partitions` of its topics together, in messages and in bytes.
        """
        classic = self.group_protocol == "classic"
        assignor = "partition.assignment.strategy" if classic else "group.remote.assignor"
        ours = {"group.id": group, "group.protocol": self.group_protocol, assignor: "range"}
        ahead = {"queued.min.messages": str(max(_LEAST_QUEUED, _QUEUED // max(1, partitions)))}
        session = _CLASSIC if classic else {}  # of the new protocol the broker's settings hold
        return self._config({**_READ, **_READ_BOUNDS, **ahead, **session}, _PRODUCER_ONLY) | ours

    def reader(self) -> Config:
        """A consumer that joins no group and is told where a partition ends; also asks for metadata without creating topics."""
        config = self._config({**_READ, **_READ_BOUNDS}, _PRODUCER_ONLY + _MEMBER_ONLY)
        return config | {"group.id": READERS, "enable.partition.eof": "true"}

    def producer(self) -> Config:
        return self._config({**_WRITE, **_WRITE_BOUNDS}, _CONSUMER_ONLY)

    def admin(self) -> Config:
        return self._config({}, _CONSUMER_ONLY + _PRODUCER_ONLY)

    def _config(self, kind: Mapping[str, str], foreign: tuple[str, ...]) -> Config:
        extra = {**(EMBEDDED_CLIENT if self.embedded else {}), **self.client}
        own = {key: str(value) for key, value in extra.items() if not key.startswith(foreign)}
        return {"bootstrap.servers": self.servers, **_CLIENT, **kind, **own}


def _refuse_no_port(server: str) -> None:
    """Or librdkafka takes it for a server that is away."""
    try:
        sound = urlsplit(f"//{server.rpartition('://')[2]}").port != 0
    except ValueError:
        sound = False
    if not sound:
        raise DefinitionError(
            f"found the Kafka server {server!r}; expected host:port with a port from 1 to 65535, as in localhost:9092. "
            f"Correct SAGA_BROKER."
        )


def _refuse_broken_guarantee(key: str, value: str) -> None:
    if key in _GUARANTEES:
        expected, why = _GUARANTEES[key]
        if expected is None or value.lower() not in {expected, "-1" if expected == "all" else expected}:
            wanted = f"it must stay {expected}" if expected else "leave it out"
            raise DefinitionError(f"the Kafka client setting {key}={value} is refused: {why}; {wanted}")
    if key == "message.max.bytes" and not (value.isdigit() and int(value) >= MIN_RECORD_BYTES):
        raise DefinitionError(
            f"the Kafka client setting message.max.bytes={value} is refused: the codec lets through events that would then "
            f"never be published; expected at least {MIN_RECORD_BYTES}"
        )


def _refuse_restless(session: str, heartbeat: str) -> None:
    """A member whose session may end between two heartbeats is thrown out again and again, and its lanes never settle."""
    if not (session.isdigit() and heartbeat.isdigit() and 0 < _HEARTBEATS * int(heartbeat) <= int(session)):
        raise DefinitionError(
            f"found session.timeout.ms={session} and heartbeat.interval.ms={heartbeat}; expected {_HEARTBEATS} heartbeats or "
            f"more in a session, in milliseconds: lanes of a member that is thrown out for one late heartbeat never settle"
        )
