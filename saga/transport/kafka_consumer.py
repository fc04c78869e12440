"""A consumer on confluent-kafka: where to begin and when to stop is asked of `Assignments`, and no record is ever skipped.

Two rules keep that: records in hand are delivered before the error that came behind them, and after a failed callback
nothing more is delivered at all, because librdkafka would go on from positions that nobody decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock, Thread

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from saga.clock import Clock
from saga.errors import BrokerError, LifecycleError
from saga.transport.kafka_client import broker_error, kafka_partition, log, opened, partition_of, record_of, translated
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Assignments, Partition, Record, out_of_range

# librdkafka reports every failed connection; these say that waiting alone may not help.
_SURFACING = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._FATAL})

_FAREWELL = 5.0
_LOOK = 0.1


class KafkaConsumer:
    """All methods but `commit` belong to the polling thread; `commit` may be called from any and is sent at the next poll.

    (confluent-kafka makes a foreign thread wait until a running poll has returned.) When no broker can be reached, `poll`
    raises once, retriable; the client keeps trying to connect. A callback's exception is raised by the poll or close in
    which it happened; after that only `close` is allowed.

    A client that ends for good (a broker that was killed may have forgotten its group) is replaced by another one at the next
    poll, its partitions count as lost; one that ends before it was given any makes `poll` raise, not retriable.

    `spans` asks on a connection of its own: on that of a client that fetches, each answer waits behind a fetch, half a second.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        partitions: Mapping[str, int],
        assignments: Assignments,
        clock: Clock,
        spans: Callable[[Sequence[Partition]], Mapping[Partition, range]],
    ) -> None:
        self._assignments, self._clock, self._spans = assignments, clock, spans
        self._owned: set[Partition] = set()
        self._gone: set[Partition] = set()
        self._next: dict[tuple[str, int], int] = {}  # librdkafka knows no position before a record comes, nor of a seek
        self._errors: deque[BrokerError] = deque()
        self._failure: Exception | None = None
        self._offsets: dict[Partition, int] = {}
        self._refusals: set[int] = set()
        self._offsets_lock = Lock()
        self._closed = False
        self._incremental = settings.group_protocol == "consumer"
        self._timeout = settings.timeout
        self._alone = settings.lanes == "all"
        self._unclaimed = [Partition(topic, n) for topic, count in partitions.items() for n in range(count)]
        self._all, self._config = [*self._unclaimed], settings.consumer(group, sum(partitions.values()))
        self._has_begun = self._has_ended = False
        self._client = self._open()

    def _open(self) -> Consumer:
        client = opened(Consumer, {**self._config, "error_cb": self._on_error, "on_commit": self._on_commit})
        self._is_joining = not self._alone
        if not self._alone:
            topics = list(dict.fromkeys(partition.topic for partition in self._all))
            client.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        return client

    def poll(self, limit: int, timeout: float) -> list[Record]:
        self._refuse_unusable()
        if self._has_ended and not self._errors:
            self._replace()
        self._send_offsets()
        if self._errors:
            raise self._errors.popleft()
        if self._alone and self._unclaimed:
            self._claim_all()
        messages = self._fetch(limit, timeout)
        if self._failure:
            raise self._failure
        records = [record_of(message) for message in messages if message.error() is None or not self._set_aside(message)]
        records = [record for record in records if record[:2] in self._owned]
        self._next.update((record[:2], record[2] + 1) for record in records)
        if self._errors and not records:
            raise self._errors.popleft()
        return records

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        with self._offsets_lock:
            self._offsets.update(offsets)

    def pause(self, partitions: Iterable[Partition]) -> None:
        with translated("cannot pause"):
            self._client.pause([kafka_partition(p) for p in partitions])

    def resume(self, partitions: Iterable[Partition]) -> None:
        with translated("cannot resume"):
            self._client.resume([kafka_partition(p) for p in partitions])

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return self._behind_records({partition: span.stop for partition, span in self._spans([*partitions]).items()})

    def ends_seen(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        found: dict[Partition, tuple[int, int] | None] = {
            p: self._client.get_watermark_offsets(kafka_partition(p), cached=True) for p in partitions
        }
        return self._behind_records({p: marks[1] for p, marks in found.items() if marks is not None and marks[1] >= 0})

    def seek(self, partition: Partition, offset: int | None) -> None:
        self._next[partition] = OFFSET_BEGINNING if offset is None else offset
        start = kafka_partition(partition, self._next[partition])
        with translated(f"cannot seek {partition.topic}/{partition.number} to {offset}"):
            try:
                self._client.seek(start)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:
                    raise
                self._begin_anew(partition, start)

    def _begin_anew(self, partition: Partition, start: TopicPartition) -> None:
        """Read a partition again of which nothing is fetched since its offset was not there: librdkafka cannot seek in it."""
        if self._incremental or self._alone:
            self._client.incremental_unassign([start])
            self._client.incremental_assign([start])
        else:
            self._client.assign([start, *(kafka_partition(p, self._next[p]) for p in self._owned if p != partition)])

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        known, self._failure = self._failure, None
        self._hand_back(sorted(self._owned, key=lambda p: (p.topic, p.number)))
        self._finish_joining()
        self._take_leave()
        if self._failure:
            raise self._failure from known

    def _finish_joining(self) -> None:
        """Be let into a classic group before leaving it, since it hears no farewell behind a question to join.

        That is answered once those who are missed are given up; we would then be missed for another session.
        """
        give_up = self._clock.monotonic() + int(self._config.get("session.timeout.ms", 0)) / 1000
        while self._is_joining and not self._has_ended and self._clock.monotonic() < give_up:
            self._client.poll(_LOOK)

    def _take_leave(self) -> None:
        """Leave the group within `_FAREWELL` seconds, or without a word: without a broker librdkafka waits for a minute."""
        leaving = Thread(target=self._client.close, name="saga-kafka-leaving", daemon=True)
        leaving.start()
        leaving.join(_FAREWELL)
        if leaving.is_alive():
            log.warning("no answer: the group was left without a word, and will notice by the session's timeout")

    def _behind_records(self, ends: dict[Partition, int]) -> dict[Partition, int]:
        """The same, or where the last record ended if all behind it are markers of foreign transactions, or what they undid."""
        with translated("cannot ask for positions"):
            reached = {(p.topic, p.partition): p.offset for p in self._client.position([kafka_partition(p) for p in ends])}
        return {p: max(0, self._next.get(p, end)) if reached[p] >= end else end for p, end in ends.items()}

    def _replace(self) -> None:
        """Go on as another member, from the fences: whoever owned the partitions meanwhile has fenced us."""
        lost = sorted(self._owned)
        self._forget(lost)
        self._tell(self._assignments.lost, lost)
        self._take_leave()
        self._unclaimed, self._has_begun, self._has_ended = [*self._all], False, False
        self._client = self._open()

    def _failed(self, error: KafkaError, doing: str) -> BrokerError:
        """Our error; of a client that has ended it says whether another one may be better off."""
        found = broker_error(error, doing)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._has_ended, found.retriable = True, self._has_begun
        return found

    def _fetch(self, limit: int, timeout: float) -> list[Message]:
        """What has come, without a first record whose partition has gone meanwhile."""
        first = self._client.poll(timeout)
        if first is None:
            return []
        self._gone.clear()
        try:
            messages = self._client.consume(limit - 1, 0) if limit > 1 else []
        except KafkaException as error:
            self._errors.append(self._failed(error.args[0], "cannot consume"))
            messages = []
        if first.error() or partition_of(first) not in self._gone:
            messages.insert(0, first)
        return messages

    def _set_aside(self, message: Message) -> bool:
        """Keep an error for later; False for a record."""
        if (error := message.error()) is None:
            return False
        failed = self._failed(error, f"cannot consume {message.topic() or ''}".rstrip())
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # librdkafka fetches nothing of that partition any more
            offset, failed.retriable = message.offset(), False
            failed = failed if offset is None else out_of_range(partition_of(message), offset)
        self._errors.append(failed)
        return True

    def _claim_all(self) -> None:
        with translated("cannot reach Kafka"):
            # A client not yet connected asks for the beginning of a partition in vain, and again only half a second later.
            self._client.get_watermark_offsets(kafka_partition(self._unclaimed[0]), timeout=self._timeout)
        claimed, self._unclaimed = self._unclaimed, []
        starts = self._begin(claimed)
        if self._failure is None:
            self._client.assign(starts)

    def _on_assign(self, client: Consumer, parts: list[TopicPartition]) -> None:
        # The members' protocol needs an answer even when the callback failed; nothing of it is ever delivered then.
        self._is_joining = False
        starts = ([] if self._closed else self._begin(_partitions(parts))) or parts
        if self._incremental:
            client.incremental_assign(starts)
        else:
            client.assign(starts)

    def _begin(self, partitions: Sequence[Partition]) -> list[TopicPartition]:
        if not partitions:
            return []
        try:
            starts = self._assignments.assigned(partitions)
            found = {p: OFFSET_BEGINNING if (start := starts[p]) is None else start for p in partitions}
        except Exception as failure:
            self._failure = failure
            return []
        self._owned.update(partitions)
        self._next.update(found.items())
        self._has_begun = True
        return [kafka_partition(p, start) for p, start in found.items()]

    def _on_revoke(self, _client: Consumer, parts: list[TopicPartition]) -> None:
        self._is_joining = True
        self._hand_back(_partitions(parts))

    def _on_lost(self, _client: Consumer, parts: list[TopicPartition]) -> None:
        self._is_joining = True
        lost = [p for p in _partitions(parts) if p in self._owned]
        self._forget(lost)
        self._tell(self._assignments.lost, lost)

    def _hand_back(self, partitions: Iterable[Partition]) -> None:
        going = [p for p in partitions if p in self._owned]
        self._tell(self._assignments.revoked, going)
        self._send_offsets()
        self._forget(going)

    def _tell(self, callback: Callable[[Sequence[Partition]], None], partitions: Sequence[Partition]) -> None:
        try:
            if partitions:
                callback(partitions)
        except Exception as failure:
            self._failure = failure

    def _forget(self, partitions: Iterable[Partition]) -> None:
        self._owned.difference_update(partitions)
        self._gone.update(partitions)

    def _send_offsets(self) -> None:
        with self._offsets_lock:
            offsets, self._offsets = self._offsets, {}
        mine = [kafka_partition(p, offset) for p, offset in offsets.items() if p in self._owned]
        if mine:
            try:
                self._client.commit(offsets=mine, asynchronous=True)
            except KafkaException as error:
                self._on_commit(error.args[0], mine)

    def _on_commit(self, error: KafkaError | None, _offsets: list[TopicPartition]) -> None:
        """Tell each reason once, until offsets are committed again: whoever is no member for a while tries at every poll."""
        if error is None:
            self._refusals.clear()
        elif error.code() not in self._refusals:
            self._refusals.add(error.code())
            log.warning("offsets were not committed: %s", error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _SURFACING or error.fatal():
            self._errors.append(self._failed(error, "the connection to Kafka failed"))
        else:
            log.debug("librdkafka: %s", error)

    def _refuse_unusable(self) -> None:
        if self._closed:
            raise LifecycleError("this consumer is closed; open another one")
        if self._failure:
            raise LifecycleError(f"this consumer stopped when a callback failed ({self._failure!r}); close it")


def _partitions(parts: Iterable[TopicPartition]) -> list[Partition]:
    return [Partition(p.topic, p.partition) for p in parts]
