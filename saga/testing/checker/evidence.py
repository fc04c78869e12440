"""What a run of a saga left behind: topics, stores, what callers were told, and what a service can say of its own effects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from saga.contracts.saga import Saga
from saga.contracts.topics import acks_topic
from saga.handling.intake import may_be_pruned
from saga.replay.contracts import Contracts
from saga.replay.history import History
from saga.replay.source import Source, TopicSource
from saga.store.archive import Archive
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow
from saga.store.workflow import Workflow
from saga.testing.checker.invariant import Invariant
from saga.transport.port import Broker, Partition, Record

_PAGE = 1_000
_ALL = 1_000_000_000
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


class Call(NamedTuple):
    """What a caller asked and was told; an answer that was lost is `unknown`, which is neither of the others."""

    verb: Literal["start", "abort", "resolve"]
    workflow: str
    outcome: Literal["ok", "failed", "unknown"]
    step: str = ""


class Effect(NamedTuple):
    """One effect of a handler, as the service's own tables have it; `act` is `action` or `compensation`."""

    participant: str
    workflow: str
    step: str
    act: str


class Claim(NamedTuple):
    """Something a service can check itself: `problems` yields a sentence for each breach of `text`.

    Usually of I5 (money, units) or I12 (those whom a fault did not touch went on); `looked` says at how much it looks.
    """

    invariant: Invariant
    text: str
    problems: Callable[[], Iterable[str]]
    looked: str = ""


class Books:
    """One participant's store, read at once: workflows and outbox rows by workflow id, lanes by number. In memory."""

    def __init__(self, workflows: Iterable[Workflow], rows: Iterable[OutboxRow] = (), lanes: Iterable[Lane] = ()) -> None:
        self.lanes = {lane.number: lane for lane in lanes}
        self.workflows = {workflow.id: workflow for workflow in workflows}
        self.rows: dict[str, list[OutboxRow]] = defaultdict(list)
        for row in rows:
            self.rows[row.workflow_id].append(row)

    @classmethod
    def read(cls, saga: str, store: Archive) -> Books:
        """Everything that a store of any kind holds of a saga; nobody should write to it meanwhile."""
        lanes = [lane for lane in store.lanes() if lane.saga == saga]
        outstanding = (row for row in store.outstanding(_FOREVER, _ALL) if row.saga == saga)
        return cls(_workflows(saga, store), outstanding, lanes)

    def may_have_pruned(self, history: History, saga: Saga | None) -> bool:
        """Whether it is not here because it had ended, and those that began then have been deleted."""
        if history.workflow in self.workflows:
            return False
        told = [entry for entry in history.entries.values() if entry.message is not None]
        lanes = ((self.lanes.get(entry.record.partition), entry.message) for entry in told)
        return any(lane and message and may_be_pruned(lane, message, saga) for lane, message in lanes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is judged; the more there is of it, the more invariants are.

    `source` are the facts, `acks` the records of the acks topic, `books` the stores by participant. `calls` are those of all
    callers. `effects`: all effects of the steps that leave any. `claims` are the service's own checks. `secrets` must be
    nowhere but in the values of records; `texts` are logs, pages, metrics. `duplicates` is how many records may have come
    again. `quiet`: all faults are over and time enough has passed, so that everything must have ended.
    """

    contracts: Contracts
    source: Source
    acks: Iterable[Record] | None = None
    books: Mapping[str, Books] = field(default_factory=dict)
    calls: Sequence[Call] | None = None
    effects: Iterable[Effect] | None = None
    claims: Sequence[Claim] = ()
    secrets: Collection[str] = ()
    texts: Iterable[str] = ()
    duplicates: int | None = None
    quiet: bool = True

    @classmethod
    def gather(
        cls,
        contracts: Contracts,
        broker: Broker,
        stores: Mapping[str, Archive],
        *,
        calls: Sequence[Call] | None = None,
        effects: Iterable[Effect] | None = None,
        claims: Sequence[Claim] = (),
        secrets: Collection[str] = (),
        texts: Iterable[str] = (),
        duplicates: int | None = None,
        quiet: bool = True,
    ) -> Evidence:
        """What the topics at `broker` and the stores hold now. Raises BrokerError or StoreError where they do not answer."""
        source = TopicSource(broker, contracts.name)
        return cls(
            contracts=contracts,
            source=source,
            acks=_acks(broker, contracts.name, source.count),
            books={name: Books.read(contracts.name, store) for name, store in stores.items()},
            calls=calls,
            effects=effects,
            claims=claims,
            secrets=secrets,
            texts=texts,
            duplicates=duplicates,
            quiet=quiet,
        )


def _acks(broker: Broker, saga: str, count: int) -> Iterable[Record] | None:
    topic = acks_topic(saga)
    partitions = [Partition(topic, number) for number in range(count)]
    if broker.partitions([topic])[topic] is None or any(span.start for span in broker.spans(partitions).values()):
        return None
    return broker.read(dict.fromkeys(partitions))


def _workflows(saga: str, store: Archive) -> Iterator[Workflow]:
    after = ""
    while page := store.page(saga, after, _PAGE):
        yield from page
        after = page[-1].id
