"""The fold: from the facts of a workflow to a record of the saga schema. Pure, and the same in whatever order they came."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from saga.contracts.message import Message, open_gates
from saga.contracts.saga import Saga
from saga.contracts.sensitive import redact
from saga.errors import ContractError, DecodeError
from saga.protocol.decide import Close, decide, status
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.protocol.gates import gates
from saga.replay.contracts import Contracts
from saga.replay.history import History
from saga.replay.holes import Hole, holes

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

_STANDS = {
    FactStatus.COMPENSATED: StepStatus.COMPENSATED,
    FactStatus.FAILED: StepStatus.FAILED,
    FactStatus.SKIPPED: StepStatus.SKIPPED,
    FactStatus.DONE: StepStatus.DONE,
    FactStatus.STUCK: StepStatus.STUCK,
}
"""What a step's facts make of it, the strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where one workflow stands, as far as its facts say.

    `events` has for each step the type and the fields of the event that tells its latest outcome, None where no domain event
    does. Nobody states that a step has begun, so a step is never `running` here.
    """

    id: str
    version: int
    status: WorkflowStatus
    exceptions: bool
    opened: datetime
    closed: datetime | None
    gates: Mapping[str, str]
    steps: Mapping[str, StepStatus]
    events: Mapping[str, tuple[str, dict[str, Any]] | None]
    holes: tuple[Hole, ...] = ()

    def record(self) -> dict[str, Any]:
        """As a record of the saga schema with its first field `workflow`; union branches are (name, record)."""
        workflow = {
            "id": self.id,
            "version": self.version,
            "status": self.status.value,
            "exceptions": self.exceptions,
            "opened": self.opened,
            "closed": self.closed,
            "gates": dict(self.gates),
            "steps": {name: stands.value for name, stands in self.steps.items()},
        }
        return {"workflow": workflow, **self.events}

    def shown(self, saga: Saga) -> State:
        """What of it may be shown: what the saga's contracts call sensitive is hidden."""
        events = {step: event and (event[0], redact(saga.contract(event[0]), event[1])) for step, event in self.events.items()}
        return replace(self, events=events)


def state(contracts: Contracts, history: History, *, at: datetime | None = None) -> State | None:
    """The state of a workflow, or how it was `at` a moment; None if nothing of it counts, or nothing had happened yet.

    `holes` says what is missing of it, in which case the state is that of the rest.
    """
    if (saga := contracts.of(history)) is None:
        return None
    messages = [m for m in history.messages(saga) if at is None or m.time <= at]
    if not messages:
        return None
    outcome, closing = end(saga, messages)
    events, unread = _events(saga, contracts.codec(saga.version), messages)
    return State(
        id=history.workflow,
        version=saga.version,
        status=outcome,
        exceptions=any(message.exceptions for message in messages),
        opened=min(message.time for message in messages),
        closed=closing,
        gates=_gates(contracts.sagas[saga.version], open_gates(messages[0].kind.gates)),
        steps=step_statuses(saga, messages),
        events=events,
        holes=(*holes(history, contracts), *unread),
    )


def _gates(saga: Saga, opened: frozenset[str]) -> dict[str, str]:
    return {gate: "open" if gate in opened else "shut" for gate in sorted(gates(saga))}


def end(saga: Saga, messages: Collection[Message]) -> tuple[WorkflowStatus, datetime | None]:
    """How the workflow stands, and since when it is over; asked of the protocol itself."""
    facts = [message.fact for message in messages]
    for act in decide(saga, saga.initiator, facts, {}):
        if isinstance(act, Close):
            closing = {FactStatus.DONE: saga.sink.name, FactStatus.COMPENSATED: saga.root.name}
            return act.outcome, max(m.time for m in messages if closing.get(m.kind.status) == m.kind.step)
    return status(saga, facts, {}), None


def step_statuses(saga: Saga, messages: Collection[Message]) -> dict[str, StepStatus]:
    """Where each step stands by the facts about it."""
    return {step.name: _step_status([m for m in messages if m.kind.step == step.name]) for step in saga.steps}


def _step_status(messages: list[Message]) -> StepStatus:
    last = {message.kind.status: 0 for message in messages}
    for message in messages:
        last[message.kind.status] = max(last[message.kind.status], message.sequence)
    if FactStatus.COMPENSATED not in last and last.get(FactStatus.STUCK, 0) > last.get(FactStatus.DONE, 0):
        return StepStatus.STUCK  # its compensation, since the step was done before
    return next((stands for fact, stands in _STANDS.items() if fact in last), StepStatus.IDLE)


def _events(
    saga: Saga, codec: AvroCodec, messages: list[Message]
) -> tuple[dict[str, tuple[str, dict[str, Any]] | None], list[Hole]]:
    events: dict[str, tuple[str, dict[str, Any]] | None] = {}
    unread = []
    for step in saga.steps:
        own = {m.kind.status: m for m in messages if m.kind.step == step.name and not m.kind.type.startswith("saga.")}
        telling = next((own[fact] for fact in _STANDS if fact in own), None)
        events[step.name] = None
        if telling is not None:
            try:
                events[step.name] = telling.kind.type, _decoded(saga, codec, telling)
            except ContractError as error:
                unread.append(Hole("payload", f"{telling.topic}/{telling.partition}@{telling.offset}: {error}"))
    return events, unread


def _decoded(saga: Saga, codec: AvroCodec, telling: Message) -> dict[str, Any]:
    if telling.kind.type not in saga.types:
        raise DecodeError(f"{telling.kind.type} is no event of saga {saga.name} v{saga.version}; expected one of its contracts")
    return codec.decode(telling.kind.type, telling.value)
