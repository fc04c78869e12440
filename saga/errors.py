"""Every error the library raises, one tree; imports nothing.

SagaError
├── DefinitionError            a saga, a handler or a setting is wrong: found at declaration or at start, never retried
│   └── PartitionCountChanged     the topics no longer have the partition count recorded in the store
├── ContractError              bytes, headers or an event disagree with the saga's schemas
│   ├── EncodeError               an event cannot be written as its contract says
│   ├── DecodeError               bytes cannot be read as their contract says
│   │   └── UnknownSchema            the registry does not know (yet) with which schema they were written
│   ├── EventTooLarge             an event would not fit into one Kafka record
│   └── SchemaNotFound            the registry answers that it has no such schema
├── RegistryUnavailable        the schema registry does not answer, and the cache does not know
├── StoreError                 the participant's database said no; the driver's error is the cause
│   ├── StoreBehind               the topics hold own facts that the store does not know: it was restored or lost
│   ├── StoreRefused              it will not be opened with these settings, however long one waits
│   ├── StoreBusy                 another worker process holds the database file
│   ├── StoreConflict             serialization failure, deadlock or lock timeout: the same work may be done again at once
│   ├── StatementFailed           a pipelined statement of some handler failed; which one's is not known
│   ├── Overstayed                the server ended a transaction that asked nothing of it for too long
│   ├── CommitUnknown             the answer to COMMIT was lost: committed or not, only the store can tell
│   └── LaneFenced                another owner took the lane over, or what was confirmed is lost; nothing must be committed
│       └── StoreReplaced            another server has taken the database's place since the lane was claimed
├── BrokerError                Kafka said no; `.retriable` tells whether trying again can help
│   └── OffsetOutOfRange          a partition does not hold the offset at which a lane must go on
├── LifecycleError             something was used before it was started or after it was stopped
├── LaneStopped                a lane cannot go on; the message says which record and why
│   └── TopicRecreated            one of its topics was deleted and made again
├── Refused                    a wish that came too late, e.g. resolving a step that was already undone
├── Overloaded                 a bound is reached; try again after `.retry_after` seconds
└── HandlerError               for handler authors to raise
    └── TerminalError             do not try this step again
"""

from __future__ import annotations


class SagaError(Exception):
    """Root of the tree: `except SagaError` catches all that the library raises on purpose."""


class DefinitionError(SagaError):
    """A saga, handler or setting is wrong; the text says what was found, what was expected and what to do."""


class PartitionCountChanged(DefinitionError):
    """The partition count is part of the contract: a workflow's lane is computed from it."""

    def __init__(self, saga: str, recorded: int, found: int) -> None:
        self.saga, self.recorded, self.found = saga, recorded, found
        super().__init__(
            f"the topics of saga {saga!r} have {found} partitions, but this store recorded {recorded}: "
            f"workflows would change lanes. Recreate the topics with {recorded} partitions, "
            f"or drain the saga and start with a new database."
        )


class ContractError(SagaError):
    """Bytes, headers or an event disagree with the saga's schemas."""


class EncodeError(ContractError):
    """An event cannot be written as its contract says."""


class DecodeError(ContractError):
    """Bytes cannot be read as their contract says."""


class UnknownSchema(DecodeError):
    """The registry does not know with which schema bytes were written; it may be behind, so that trying again can help."""


class EventTooLarge(ContractError):
    """An event would not fit into one Kafka record; raised before anything is committed."""

    def __init__(self, event: str, size: int, limit: int) -> None:
        self.event, self.size, self.limit = event, size, limit
        super().__init__(
            f"event {event} is {size} bytes encoded, the limit is {limit}: it could never be published. "
            f"Put the bulk elsewhere and send a reference, or raise SAGA_MAX_EVENT_BYTES (or the participant's "
            f"max_event_bytes) in every service, together with the topics' max.message.bytes."
        )


class SchemaNotFound(ContractError):
    """The registry answers that it has no such schema."""


class RegistryUnavailable(SagaError):
    """The schema registry does not answer, and what was asked is not in the cache; trying again later can help."""


class StoreError(SagaError):
    """The participant's database said no; the driver's error is the cause."""


class StoreBehind(StoreError):
    """The topics hold facts of this participant that its store does not know."""


class StoreRefused(StoreError):
    """The database will not be opened with these settings, however long one waits; the text says what to correct."""


class StoreBusy(StoreError):
    """Another worker process holds the database file; SQLite allows one."""


class StoreConflict(StoreError):
    """Transactions were in each other's way and nothing was committed: the same work may be done again at once."""


class StatementFailed(StoreError):
    """A pipelined statement failed after its handler had returned, and with it the transaction of the whole batch."""


class Overstayed(StoreError):
    """The server ended a transaction that asked nothing of it for too long: a handler dawdled, or the process was stopped."""


class CommitUnknown(StoreError):
    """The connection was lost before COMMIT was answered: the transaction is committed or not."""


class LaneFenced(StoreError):
    """Another owner raised the lane's epoch, or the store lost what it had confirmed: the transaction must not commit."""

    why = "was taken over by another owner, or its database has lost what it had confirmed to us"

    def __init__(self, saga: str, lane: int, epoch: int) -> None:
        self.saga, self.lane, self.epoch = saga, lane, epoch
        super().__init__(f"lane {saga}/{lane} {self.why} (our epoch was {epoch})")


class StoreReplaced(LaneFenced):
    """Another server has taken the database's place: before a lane goes on, its topics tell whether something was lost."""

    why = "is compared with its topics: another server has taken the database's place"


class BrokerError(SagaError):
    """Kafka said no."""

    def __init__(self, message: str, *, retriable: bool = False) -> None:
        self.retriable = retriable
        super().__init__(message)


class OffsetOutOfRange(BrokerError):
    """A partition does not hold the offset at which a lane must go on: records aged out, or the topic was re-created."""

    def __init__(self, topic: str, partition: int, offset: int, found: str = "") -> None:
        self.topic, self.partition, self.offset = topic, partition, offset
        super().__init__(
            f"{topic}/{partition} has no offset {offset}{found}: the records aged out, or the topic was re-created. "
            f"Check the topic's retention and who re-created it; nothing was skipped. To go on from the first that is there: "
            f"saga lanes skip"
        )


class LifecycleError(SagaError):
    """Something was used before it was started or after it was stopped."""


class LaneStopped(SagaError):
    """A lane cannot go on; every other lane can."""

    def __init__(self, saga: str, lane: int, reason: str) -> None:
        self.saga, self.lane, self.reason = saga, lane, reason
        super().__init__(f"lane {saga}/{lane} stopped: {reason}")


class TopicRecreated(LaneStopped):
    """A topic of the lane was deleted and made again: its offsets mean something else now, so nothing is published either."""

    def __init__(self, saga: str, lane: int, topics: tuple[str, ...], reason: str) -> None:
        self.topics = topics
        super().__init__(saga, lane, reason)


class Refused(SagaError):
    """A wish that came too late: the step it names has been decided otherwise."""


class Overloaded(SagaError):
    """A bound is reached and nothing was written; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class HandlerError(SagaError):
    """For handler authors: a technical failure; business failures are returned events."""


class TerminalError(HandlerError):
    """For handler authors: trying this step again cannot help."""
