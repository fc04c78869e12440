"""Choreography sagas over Kafka: long business transactions across services, with no coordinator.

    checkout = Saga.load("schemas/checkout")
    stock = Participant("stock", checkout)

    @stock.step
    def reserve(order: OrderPlaced, tx: Transaction) -> StockReserved | OutOfStock: ...

    @stock.compensation(of=reserve)
    def release(reserved: StockReserved, tx: Transaction) -> StockReleased: ...

Importing this package opens nothing and loads neither Kafka, Avro nor a database driver; the adapters are imported by name:
`saga.transport.kafka.KafkaBroker`, `saga.store.sqlite.SqliteStore`.
"""

from saga.clock import Clock, SystemClock
from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.engine.worker import Worker
from saga.errors import (
    BrokerError,
    ContractError,
    DefinitionError,
    HandlerError,
    LifecycleError,
    Overloaded,
    Refused,
    SagaError,
    StoreError,
    TerminalError,
)
from saga.participant.dependency import Dependency
from saga.participant.escalation import Parked
from saga.participant.failure import Failure
from saga.participant.gates import EnvironmentGates, Gates, OpenFeatureGates
from saga.participant.handler import ExternalCall, Pending
from saga.participant.participant import Participant
from saga.participant.retry import Retry
from saga.replay.projection import Projection, ProjectionTransaction
from saga.store.port import Transaction

__all__ = [
    "BrokerError",
    "Clock",
    "ContractError",
    "DefinitionError",
    "Dependency",
    "EnvironmentGates",
    "Event",
    "ExternalCall",
    "Failure",
    "Gates",
    "HandlerError",
    "LifecycleError",
    "OpenFeatureGates",
    "Overloaded",
    "Parked",
    "Participant",
    "Pending",
    "Projection",
    "ProjectionTransaction",
    "Refused",
    "Retry",
    "Saga",
    "SagaError",
    "StoreError",
    "SystemClock",
    "TerminalError",
    "Transaction",
    "Worker",
]
