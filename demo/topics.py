"""The saga's topics on somebody's Kafka: what they hold already, and the removal of those that a run has made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

PATIENCE = 10.0
PATIENCE_AT_THE_END = 2.0
"""To delete what a run has made may not hold Ctrl-C up."""


class Topics:
    """These topics on the cluster at `servers`; raises KafkaException where it does not answer."""

    def __init__(self, servers: str, names: Sequence[str]) -> None:
        self.names = names
        self._client: dict[str, str | int | float | bool] = {"bootstrap.servers": servers, "log_level": 0}

    def records(self) -> dict[str, int]:
        """How many records each topic holds; those that do not exist are absent."""
        client = Consumer({**self._client, "group.id": "saga.demo"})
        try:
            found = client.list_topics(timeout=PATIENCE).topics
            there = {name: found[name].partitions for name in self.names if name in found}
            return {name: sum(_records(client, name, number) for number in numbers) for name, numbers in there.items()}
        finally:
            client.close()

    def delete(self, names: Iterable[str], *, patience: float = PATIENCE_AT_THE_END) -> None:
        """Delete these; one that is gone already is no error."""
        if not (wanted := [name for name in names if name in self.names]):
            return
        admin = AdminClient(self._client)  # kept until the answers are there: they end with it
        for answer in admin.delete_topics(wanted, request_timeout=patience).values():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise


def _records(client: Consumer, topic: str, number: int) -> int:
    ends = client.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE)
    if ends is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return ends[1] - ends[0]
