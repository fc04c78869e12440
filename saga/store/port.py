"""What the engine needs of the participant's database.

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

import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast, runtime_checkable

from saga.errors import StoreError
from saga.store.dead_letter import DeadLetters
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published, Waiting
from saga.store.workflow import Fence, Received, Workflow


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


@runtime_checkable
class Unit(Transaction, DeadLetters, Protocol):
    """An open transaction as the engine sees it.

    Its end raises CommitUnknown, StoreConflict or StatementFailed where a driver can tell; any other StoreError left nothing.
    `timeline` names the history that its database follows, None where that is not told: a replica that takes the place of a
    server begins another one, and so does a backup that is restored.
    """

    timeline: str | None

    def partitions(self, saga: str) -> int | None:
        """The recorded partition count of the saga's topics; None before any lane was claimed."""
        ...

    def registered(self, saga: str) -> bool:
        """Whether the last worker that claimed a lane takes ids of schemas from a registry."""
        ...

    def author(self, saga: str) -> str | None:
        """The participant whose database this is, as its worker said at the last `claim`; None before that."""
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

    def due(
        self, saga: str, lanes: Collection[int], versions: Collection[int], now: datetime, limit: int
    ) -> list[tuple[int, str]]:
        """(lane, id) of parked workflows of these versions with a `due` fence, the longest waiting first.

        Each such fence counts for `limit`.
        """
        ...

    def expired(
        self,
        saga: str,
        lanes: Collection[int],
        versions: Collection[int],
        now: datetime,
        limit: int,
        *,
        deadlines: Collection[int],
    ) -> list[tuple[int, str]]:
        """(lane, id) of open workflows of these lanes and versions with a fence that `expires`.

        Of the versions in `deadlines` also those whose own deadline has passed, unless their `error` says that this has been
        seen to, and those of which `unwind_by` has passed.
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

    def batches(self, saga: str) -> Mapping[int, tuple[int, int]]:
        """Lane to its epoch and to the number of the last unit of work that was committed."""
        ...

    def count(self, lane: Lane) -> None:
        """Store the lane's trials if its epoch still holds, else raise LaneFenced. A release forgets them."""
        ...

    def advance(self, lane: Lane) -> None:
        """Store the lane as its owner has it, the last statement; `pruned` never moves back.

        Raises LaneFenced if its epoch does not hold any more, or if the store has lost what was committed before: a replica
        that took the place of a server may be some transactions behind.
        """
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


class Immediate:
    """How a unit ends that has no server to wait for: whether it departs or not, the end of its block commits."""

    timeline: str | None = None

    @property
    def under_way(self) -> bool:
        return False

    def depart(self) -> None: ...

    def arrive(self) -> None: ...


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
        Records also whose database this is, and whether ids of schemas are `registered` for it; raises DefinitionError where a
        worker of another participant holds the lane, or left it unclean.
        """
        ...

    def committed(self, lane: Lane) -> bool:
        """Whether the unit of work that advanced to this lane's batch number is in the store; waits for one in doubt."""
        ...

    def release(self, lane: Lane) -> None:
        """End ownership in an orderly way: the lane is clean.

        Does nothing if it was taken over, or if the store may have lost something of it: its next owner is to look for himself.
        """
        ...

    def pending(
        self, saga: str, lane: int, limit: int, *, known: Collection[str] = (), most_bytes: int = sys.maxsize
    ) -> list[OutboxRow]:
        """Unpublished rows of the lane but those with `known` ids, by (workflow, sequence), never split by another gap.

        They end with the one that reaches `limit`, or with which payloads come to `most_bytes`.
        """
        ...

    def unhandled(self, saga: str, lane: int, after: tuple[str, int], limit: int) -> list[OutboxRow]:
        """Published rows of the lane behind this topic and offset, in order of both; without their payload."""
        ...

    def woken(self) -> bool:
        """Whether another connection may have written to the outbox since the last call; may err towards True."""
        ...

    def close(self) -> None: ...
