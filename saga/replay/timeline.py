"""One workflow told over all services: what happened in causal order, what is missing, who is awaited. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from saga.contracts.message import Message
from saga.contracts.saga import Saga
from saga.contracts.sensitive import redact
from saga.errors import ContractError
from saga.protocol.decide import Compensate, Refuse, Run, Skip, decide
from saga.protocol.facts import FactStatus, StepStatus, audience
from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.history import History
from saga.replay.holes import holes, notices
from saga.replay.state import State, state, step_statuses


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One record of a workflow, told.

    `words` says it in a sentence, `fields` are those of the event where it can be read, sensitive ones hidden. `depth` counts
    the causes before it; `heard_by` are the participants that must handle it.
    """

    id: str
    time: datetime
    source: str
    sequence: int
    step: str
    status: str
    type: str
    words: str
    depth: int
    cause: str | None
    attempt: int
    heard_by: tuple[str, ...]
    fields: Mapping[str, Any] | None
    place: str


@dataclass(frozen=True, slots=True)
class Awaited:
    """What must come next: from whom, of which step, in words, and until when if a time limit is set.

    `keeper` is another participant who must see to it once that has passed: a deadline is the initiator's.
    """

    participant: str
    step: str
    what: str
    until: datetime | None
    keeper: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All of it that may be shown; `state` is None where the workflow cannot be folded, and `holes` then says why."""

    saga: str
    workflow: str
    state: State | None
    moments: tuple[Moment, ...]
    awaited: tuple[Awaited, ...]
    holes: tuple[str, ...]
    notices: tuple[str, ...]


def timeline(contracts: Contracts, history: History) -> Timeline:
    """What is known of one workflow; anything that a record says is told, understood or not."""
    saga, stands = contracts.of(history), state(contracts, history)
    missing = stands.holes if stands else holes(history, contracts)
    return Timeline(
        saga=contracts.name,
        workflow=history.workflow,
        state=stands.shown(contracts.sagas[stands.version]) if stands else None,
        moments=tuple(_moments(contracts, saga, history)),
        awaited=tuple(awaited(saga, history.messages(saga))) if saga and stands and stands.closed is None else (),
        holes=tuple(hole.text for hole in missing),
        notices=tuple(notices(history, saga)),
    )


def _moments(contracts: Contracts, saga: Saga | None, history: History) -> Iterator[Moment]:
    depths: dict[str, int] = {}
    for entry in history.ordered(saga):
        depths[entry.id] = depths.get(entry.cause or "", -1) + 1
        fields = _fields(contracts, entry)
        message = entry.message
        heard = audience(saga, message.fact) if saga and message and (not entry.step or entry.step in saga) else frozenset()
        yield Moment(
            id=entry.id,
            time=entry.time,
            source=entry.source,
            sequence=entry.sequence,
            step=entry.step,
            status=entry.status,
            type=entry.type,
            words=_words(entry, fields or {}),
            depth=depths[entry.id],
            cause=entry.cause,
            attempt=message.kind.attempt if message else 1,
            heard_by=tuple(sorted(heard)),
            fields=fields,
            place=entry.place,
        )


def _fields(contracts: Contracts, entry: Entry) -> dict[str, Any] | None:
    version = entry.version if entry.version in contracts.sagas else contracts.latest.version
    if entry.type not in contracts.sagas[version].types:
        return None
    schema = contracts.sagas[version].contract(entry.type)
    try:
        return cast("dict[str, Any]", redact(schema, contracts.codec(version).decode(entry.type, entry.record.value or b"")))
    except ContractError:
        return None


def _words(entry: Entry, fields: Mapping[str, Any]) -> str:
    name, step = entry.type.rpartition(".")[2] or "a record without a type", entry.step
    reason, by = fields.get("reason"), fields.get("requested_by")
    why = f": {reason}" if reason else ""
    who = f" by {by}" if by else ""
    control = entry.type.startswith("saga.")
    match entry.status:
        case "done":
            return f"{step} done: {name}"
        case "failed":
            return f"{step} failed, all tries spent{why}" if control else f"{step} failed: {name}"
        case "skipped":
            return f"{step} will not happen: skipped{who}{why}"
        case "compensated":
            return f"{step} passed by, nothing to undo" if control else f"{step} undone: {name}"
        case "stuck":
            return f"{step} is stuck and waits for an operator{why}"
        case "abort":
            return f"wish to unwind{who}{why}"
        case "refused":
            return f"refused to unwind: {step} is done, there is no way back"
        case "note" if "verb" in fields:
            event = f" with {fields['event']}" if fields.get("event") else ""
            return f"operator's {fields['verb']} of {fields.get('step') or 'the workflow'}{event}{who}{why}"
    said = ", ".join(f"{key} {value}" for key, value in fields.items() if value is not None)
    return f"{f'{step} ' if step else ''}{entry.status or 'unknown'}: {name}{f' ({said})' if said else ''}"


@dataclass(frozen=True, slots=True)
class _Stands:
    """An own step of a participant, as its facts tell."""

    status: StepStatus
    pending: bool = False
    refused: bool = False


def awaited(saga: Saga, messages: list[Message]) -> Iterator[Awaited]:
    """What each participant must do now, by the very function with which it decides.

    What takes no work is to be said at once, so its time limit is that of the latest record.
    """
    facts = [message.fact for message in messages]
    refused = {m.kind.step for m in messages if m.kind.status is FactStatus.REFUSED}
    statuses = step_statuses(saga, messages)
    deadline = next((m.deadline for m in messages if m.deadline), None)
    at_once = max((m.time for m in messages), default=None)
    for step in saga.steps:
        if statuses[step.name] is StepStatus.STUCK:
            yield Awaited(step.by, step.name, f"an operator, for step {step.name}", None)
    for participant in sorted(saga.participants):
        own = (step.name for step in saga.owned(participant) if statuses[step.name] is not StepStatus.IDLE)
        fences = {name: _Stands(statuses[name], refused=name in refused) for name in own}
        for act in decide(saga, participant, facts, fences):
            match act:
                case Run(name, trigger):
                    began = max(m.time for m in messages if m.kind.type in trigger)
                    timeout = began + limit if (limit := saga[name].timeout) else None
                    until = min(filter(None, [timeout, deadline]), default=None)
                    is_deadline = until is not None and until != timeout and name not in saga.after_pivot
                    keeper = saga.initiator if is_deadline and participant != saga.initiator else None
                    yield Awaited(participant, name, f"the outcome of {name}", until, keeper)
                case Compensate(name):
                    yield Awaited(participant, name, f"the undoing of {name}", None)
                case Skip(name):
                    until = None if saga[name].external else at_once  # the world may still be asked for its outcome
                    yield Awaited(participant, name, f"word that {name} will not happen", until)
                case Refuse(name):
                    yield Awaited(participant, name, f"the refusal of {name}", at_once)
