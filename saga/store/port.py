"""What the engine needs of the participant's database: the port, and the rows that cross it.

Every adapter passes the conformance suite in `tests/contract/test_store.py`. The tables, one set per service database:

| table           | one row per                      | purpose                                                        |
|-----------------|----------------------------------|----------------------------------------------------------------|
| saga_topics     | saga                             | the partition count on which all lanes rest; whose database    |
| saga_lane       | (saga, lane)                     | epoch of the owner, offset fences, number of the last batch    |
| saga_workflow   | (saga, workflow)                 | sequence counter, version, deadline, and the end once closed   |
| saga_fence      | (saga, workflow, own step)       | orders action and compensation whatever arrives first          |
| saga_inbox      | event taken in                   | dedup, and the facts known of an open workflow                 |
| saga_outbox     | event to be published            | written with the business change                               |
| saga_dead_letter| record that cannot be taken in   | kept whole, with the reason, until somebody decides            |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

from saga.contracts.message import Headers
from saga.errors import StoreError
from saga.protocol.facts import Fact, FactStatus, StepStatus, WorkflowStatus, stated
from saga.store.dead_letter import DeadLetters


class Result(Protocol):
    """The rows of one statement; asking for them is what waits for the database."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


@runtime_checkable
class Transaction(Protocol):
    """An open transaction of the service's own database, as handlers and callers of `start` see it.

    In a handler, `workflow_id` is the workflow at hand; elsewhere it is None. In a vectorised handler, `workflow_ids` are those
    at hand, in the order of its events; elsewhere there are none. Statements use the driver's own parameter style. Do not
    commit or roll back: whoever opened the transaction does.
    """

    workflow_id: str | None
    workflow_ids: Sequence[str]

    @property
    def connection(self) -> Any:
        """The driver's connection, for whatever `execute` does not cover."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Result: ...


@dataclass(slots=True, kw_only=True)
class Fence:
    """One own step that is not idle.

    `event` and `result` are the type and bytes of the event with which the action ended, for the compensation. `pending`: the
    handler returned `Pending`. `refused`: a done pivot has said so. `attempt`, `due` and `error` describe the latest try.
    `expires`: when the step's timeout passes, while its action has begun or is parked.
    """

    step: str
    status: StepStatus
    event: str | None = None
    result: bytes | None = None
    pending: bool = False
    refused: bool = False
    attempt: int = 0
    due: datetime | None = None
    error: str | None = None
    changed: datetime | None = None
    expires: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Received:
    """One event taken in. `payload` is kept where an own step may be triggered by it."""

    id: str
    step: str
    status: FactStatus
    type: str
    payload: bytes | None = None
    state: Literal["recorded", "handled"] = "handled"
    cause: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    received: datetime | None = None

    @property
    def fact(self) -> Fact:
        return stated(self.step, self.status, self.type)


class Intervention(NamedTuple):
    """What an operator did about a workflow: `verb` is retry, skip, resolve or abort, `step` empty for the whole workflow."""

    verb: str
    step: str
    event: str | None
    reason: str | None
    by: str
    at: datetime


@dataclass(slots=True, kw_only=True)
class Workflow:
    """What this store knows of one workflow.

    `sequence` is the last number given to a fact of this participant; `unpublished` the ids of its outbox rows not yet marked
    as published. `exceptions` are steps whose compensation was passed over or stated by hand, as far as is known here;
    `unwind_by` is when the initiator raises the alarm about an unwinding. Once `closed` is set, `inbox` is empty and `fences`
    hold statuses only.
    """

    id: str
    version: int
    lane: int
    status: WorkflowStatus = WorkflowStatus.IN_PROGRESS
    sequence: int = 0
    deadline: datetime | None = None
    opened: datetime
    closed: datetime | None = None
    gates: str | None = None
    error: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    exceptions: frozenset[str] = frozenset()
    interventions: tuple[Intervention, ...] = ()
    unwind_by: datetime | None = None
    fences: dict[str, Fence] = field(default_factory=dict)
    inbox: dict[str, Received] = field(default_factory=dict)
    unpublished: set[str] = field(default_factory=set)

    @property
    def is_parked(self) -> bool:
        """Whether its handlers are suspended here: the latest try of some step failed."""
        for fence in self.fences.values():  # noqa: SIM110, every event asks, and `any` would cost twice as much
            if fence.error is not None:
                return True
        return False

    @property
    def facts(self) -> list[Fact]:
        """Those taken in and still held; none once the workflow is closed."""
        return [received.fact for received in self.inbox.values()]


class OutboxRow(NamedTuple):
    """One event to be published: key `workflow_id`, explicit partition `lane` of `topic`, in order of `sequence`.

    `published` and `offset` say when it was seen on its topic, and where; they are not for `save`.
    """

    id: str
    saga: str
    lane: int
    topic: str
    workflow_id: str
    type: str
    sequence: int
    headers: Headers
    payload: bytes
    created: datetime
    published: datetime | None = None
    offset: int | None = None


class Waiting(NamedTuple):
    """Unpublished rows of one lane: how many, and when the oldest was written."""

    rows: int
    since: datetime


class Published(NamedTuple):
    """A delivery report: the outbox row of this workflow and sequence stands at `offset` of its topic and partition."""

    saga: str
    workflow_id: str
    sequence: int
    offset: int


@dataclass(slots=True, kw_only=True)
class Changes:
    """What one unit of work writes, set-based: rows to insert or replace, and workflows to fold into their closed row.

    A workflow in `closed` (and then in no other list but `outbox`) may be new to the store; its `saga_workflow` row is written
    with the final status of each own step, its fences and inbox rows go. Those in `ended` must be new to it.
    """

    workflows: list[Workflow] = field(default_factory=list)
    fences: list[tuple[str, Fence]] = field(default_factory=list)
    inbox: list[tuple[str, Received]] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    closed: list[Workflow] = field(default_factory=list)
    ended: list[Workflow] = field(default_factory=list)


@dataclass(slots=True)
class Lane:
    """Partition `number` of all topics of a saga, as its owner holds it.

    `offsets`: topic to the next offset to be read, all before it is in the store; `batch` numbers the last committed unit of
    work; `clean`: the previous owner ended in order. `acks` is what the owner keeps of acknowledgments, JSON to the store;
    `gaps` are spans never taken in; `trials`: what was begun, how often, as a process might die of it. `pruned`: see `forget`.
    """

    saga: str
    number: int
    epoch: int
    batch: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    clean: bool = True
    acks: dict[str, Any] = field(default_factory=dict)
    gaps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    trials: dict[str, int] = field(default_factory=dict)
    pruned: datetime | None = None

    def forget(self, until: datetime | None) -> None:
        """Workflows closed up to then are gone: one that began before `pruned`, which never moves back, may have run here."""
        self.pruned = max(filter(None, (self.pruned, until)), default=None)


@runtime_checkable
class Unit(Transaction, DeadLetters, Protocol):
    """An open transaction as the engine sees it.

    Its end raises CommitUnknown, StoreConflict or StatementFailed where a driver can tell; any other StoreError left nothing.
    """

    def partitions(self, saga: str) -> int | None:
        """The recorded partition count of the saga's topics; None before any lane was claimed."""
        ...

    def registered(self, saga: str) -> bool:
        """Whether the last worker that claimed a lane takes ids of schemas from a registry."""
        ...

    def load(self, saga: str, ids: Collection[str]) -> dict[str, Workflow]:
        """What is known of these workflows, their rows locked; unknown ones are absent."""
        ...

    def backlog(self, saga: str, limit: int) -> int:
        """How many outbox rows of the saga are not published; counts no further than `limit`."""
        ...

    def waiting(self, saga: str) -> dict[int, Waiting]:
        """Lane to its unpublished outbox rows, of lanes that have any; reads them all, so it is for looking, not for work."""
        ...

    def count_parked(self, saga: str, limit: int) -> int:
        """How many workflows of the saga are parked here; counts no further than `limit`."""
        ...

    def running(self, saga: str, lane: int) -> list[str]:
        """Ids of the lane's open workflows with an own step `running` or `compensating`, oldest first."""
        ...

    def due(self, saga: str, lanes: Collection[int], now: datetime, limit: int) -> list[tuple[int, str]]:
        """(lane, id) of parked workflows with a `due` fence, the longest waiting first; each such fence counts for `limit`."""
        ...

    def expired(
        self, saga: str, lanes: Collection[int], now: datetime, limit: int, *, deadlines: bool
    ) -> list[tuple[int, str]]:
        """(lane, id) of open workflows of these lanes with a fence that `expires`.

        With `deadlines` also those whose own deadline has passed, unless their `error` says that this has been seen to, and
        those of which `unwind_by` has passed.
        """
        ...

    def save(self, saga: str, changes: Changes) -> None: ...

    def mark(self, published: Sequence[Published]) -> None:
        """Note that these outbox rows are on their topic."""
        ...

    def clean(self, handled: Sequence[Published]) -> None:
        """Delete these outbox rows: all of their audience has acknowledged them."""
        ...

    def clean_before(self, saga: str, lane: int, topic: str, offset: int, limit: int) -> None:
        """Delete a lane's published rows whose records lie before this offset of the topic, the first `limit` of them."""
        ...

    def again(self, lost: Sequence[Published]) -> None:
        """Have these outbox rows published once more, those that still stand at this offset."""
        ...

    def parked(self, saga: str, lane: int) -> list[tuple[str, int]]:
        """(topic, offset) of the facts of this lane that are not handled: recorded ones, and those of an unknown version."""
        ...

    def prune(self, lane: Lane, before: datetime, limit: int) -> tuple[int, datetime | None]:
        """Delete workflows of the lane that were closed before this moment and have nothing in the outbox, the oldest first.

        Answers how many, and when the last of them was closed: `pruned` of the lane's row moves there. Raises LaneFenced.
        """
        ...

    def technical(self, error: Exception) -> StoreError | None:
        """What a driver's exception says of the database itself; None if the statement that raised it is to blame."""
        ...

    def count(self, lane: Lane) -> None:
        """Store the lane's trials if its epoch still holds, else raise LaneFenced. A release forgets them."""
        ...

    def advance(self, lane: Lane) -> None:
        """Store the lane as its owner has it, if its epoch still holds, else raise LaneFenced. The last statement."""
        ...

    @property
    def under_way(self) -> bool:
        """Whether the block has ended and its COMMIT is not answered."""
        ...

    def depart(self) -> None:
        """Have the end of the block send the COMMIT without waiting for the answer, if the database can be asked later.

        The thread may go on with another unit, which overtakes this one in nothing but what it loads.
        """
        ...

    def arrive(self) -> None:
        """Wait for a unit that is `under_way`; raises what the end of its block would have raised."""
        ...


def as_unit(tx: object) -> Unit | None:
    """A transaction of a store's as the engine sees it, None for anything else.

    The class is asked: `isinstance` would ask for every attribute, and the connection costs a round trip.
    """
    return cast("Unit", tx) if hasattr(type(tx), "advance") else None


class Store(Protocol):
    """The participant's own database. Connections are per thread; every method may be called from any thread."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A transaction on a connection of the store's own: committed at the end of the block, rolled back on an exception."""
        ...

    def join(self, connection: Any) -> Unit:
        """Ride on a transaction that the caller has open and will commit or roll back.

        Raises DefinitionError where none is open, or where the database lacks our tables.
        """
        ...

    def unit(self, *, eager: bool = False) -> AbstractContextManager[Unit]:
        """As `transaction`, for the engine.

        A driver that pipelines may report a handler's failing statement late, at another statement or at the end; with
        `eager` it must not, so that the handler at fault is known.
        """
        ...

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        """Become the lane's owner by raising its epoch; marks it unclean until `release`.

        Records `partitions` at the first claim of the saga; raises PartitionCountChanged if it differs from the record.
        Records also whose database this is, and whether ids of schemas are `registered` for it.
        """
        ...

    def committed(self, lane: Lane) -> bool:
        """Whether the unit of work that advanced to this lane's batch number is in the store; waits for one in doubt."""
        ...

    def release(self, lane: Lane) -> None:
        """End ownership in an orderly way: the lane is clean. Does nothing if it was taken over."""
        ...

    def pending(self, saga: str, lane: int, limit: int, *, known: Collection[str] = ()) -> list[OutboxRow]:
        """Unpublished rows of the lane but those with `known` ids, by (workflow, sequence), never split by another gap."""
        ...

    def unhandled(self, saga: str, lane: int, after: tuple[str, int], limit: int) -> list[OutboxRow]:
        """Published rows of the lane behind this topic and offset, in order of both; without their payload."""
        ...

    def woken(self) -> bool:
        """Whether another connection may have written to the outbox since the last call; may err towards True."""
        ...

    def close(self) -> None: ...
