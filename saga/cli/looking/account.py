"""What one participant's database can tell of one workflow: rows turned into an account, the trouble first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from saga.cli import output
from saga.cli.looking.levels import Level, Told
from saga.contracts.message import Message, from_headers, open_gates
from saga.contracts.saga import Saga
from saga.contracts.sensitive import redact
from saga.errors import ContractError, DefinitionError, RegistryUnavailable
from saga.participant.dependency import awaited
from saga.participant.operator import is_parked
from saga.protocol import awaiting
from saga.protocol.definition import Step
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.protocol.gates import gates, variant
from saga.store.outbox import OutboxRow
from saga.store.workflow import Fence, Received, Workflow

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

UNPUBLISHED_PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAccount:
    """An own step that is not idle; `result` is the decoded event with which it ended, or its size in bytes."""

    step: str
    status: StepStatus
    attempt: int
    event: str | None
    result: dict[str, Any] | int | None
    pending: bool
    refused: bool
    error: str | None
    due: datetime | None
    expires: datetime | None
    changed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTaken:
    """A fact taken in; `state` is `recorded` until the handlers that it concerns have run."""

    received: datetime | None
    step: str
    status: FactStatus
    event: str
    state: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FactStated:
    """An own fact in the outbox; `missing` have still to acknowledge it, None where nobody says whom it concerns."""

    sequence: int
    stated: datetime
    step: str
    status: FactStatus
    event: str
    topic: str
    partition: int
    published: bool
    level: Level
    missing: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervened:
    """What an operator did."""

    at: datetime
    by: str
    verb: str
    step: str
    event: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One workflow as one database knows it.

    `trouble` is what a person should look at, `remedies` the commands that end it, the first to be tried first; `awaits` is
    what has to happen next.
    """

    saga: str
    id: str
    version: int
    participant: str | None
    status: WorkflowStatus
    exceptions: list[str]
    gates: dict[str, str]
    opened: datetime
    closed: datetime | None
    deadline: datetime | None
    unwind_by: datetime | None
    lane: int
    error: str | None
    traceparent: str | None
    parked: bool
    trouble: list[str]
    remedies: list[str]
    awaits: list[str]
    interventions: list[Intervened]
    steps: list[StepAccount]
    taken: list[FactTaken]
    stated: list[FactStated]
    handled: list[int]


def account(
    saga: str,
    workflow: Workflow,
    outbox: Sequence[OutboxRow],
    now: datetime,
    contracts: Saga | None,
    codec: AvroCodec | None,
    told: Told,
) -> Account:
    """Tell what is known. With the saga's `contracts` also what is awaited, with a `codec` what the results were.

    `told` is what was heard of acknowledgments. `handled` of the account are the sequence numbers of facts that need no row any
    more, since all that they concern have acknowledged them.
    """
    stated = [from_headers(_raw(row), row.payload, topic=row.topic, partition=row.lane) for row in outbox]
    fences = workflow.fences.values()
    here = _variant(workflow, contracts)
    participant = next((message.kind.source for message in stated), None)
    if participant is None and here is not None:
        participant = next((here[fence.step].by for fence in fences if fence.step in here), None)
    participant = participant or told.participants.get(saga)
    return Account(
        saga=saga,
        id=workflow.id,
        version=workflow.version,
        participant=participant,
        status=workflow.status,
        exceptions=sorted(workflow.exceptions),
        gates=_gates(workflow, contracts),
        opened=workflow.opened,
        closed=workflow.closed,
        deadline=workflow.deadline,
        unwind_by=workflow.unwind_by,
        lane=workflow.lane,
        error=workflow.error,
        traceparent=workflow.traceparent,
        parked=any(map(is_parked, fences)),
        trouble=[*_setbacks(workflow), *_trouble(workflow, stated, now)],
        remedies=[*_remedies(workflow, participant, here)],
        awaits=[*_awaits(workflow, participant, here)],
        interventions=[Intervened(**act._asdict()) for act in workflow.interventions],
        steps=[_step(fence, codec) for fence in fences],
        taken=[_taken(received) for received in sorted(workflow.inbox.values(), key=_arrival)],
        stated=[
            _stated(message, message.id not in workflow.unpublished, told.level(row), told.missing(row))
            for message, row in zip(stated, outbox, strict=True)
        ],
        handled=sorted({*range(1, workflow.sequence + 1)} - {row.sequence for row in outbox}),
    )


def _variant(workflow: Workflow, contracts: Saga | None) -> Saga | None:
    """The saga as this workflow runs it."""
    try:
        return contracts and variant(contracts, open_gates(workflow.gates or ""))
    except (DefinitionError, ValueError):
        return contracts


def _gates(workflow: Workflow, contracts: Saga | None) -> dict[str, str]:
    """The gates as they were when it began; those that were shut are known from the contracts alone."""
    opened = open_gates(workflow.gates or "")
    names = opened | (gates(contracts) if contracts is not None else frozenset())
    return {name: "open" if name in opened else "shut" for name in sorted(names)}


def _raw(row: OutboxRow) -> dict[str, bytes | None]:
    return {name: value.encode() for name, value in row.headers}


def _setbacks(workflow: Workflow) -> Iterator[str]:
    """What is parked or stuck, and until when."""
    for fence in workflow.fences.values():
        what = f"compensation of step {fence.step}" if _is_undoing(fence) else f"step {fence.step}"
        until = f"next try {_clock(fence.due)}" if fence.due else "waits for an operator"
        if fence.status is StepStatus.STUCK:
            yield f"{what} is stuck after attempt {fence.attempt}: {fence.error or 'no error was recorded'}; {until}"
        elif is_parked(fence):
            tried = f": attempt {fence.attempt} failed:" if fence.attempt else ": parked:"
            yield f"{what}{'' if awaited(fence.error or '') else tried} {fence.error}; {until}"


def _remedies(workflow: Workflow, participant: str | None, contracts: Saga | None) -> Iterator[str]:
    parked = [fence for fence in workflow.fences.values() if is_parked(fence)]
    if not parked:
        return
    id_, target = workflow.id, f"MODULE:{participant or 'PARTICIPANT'}"
    yield output.command("retry", id_)
    for fence in parked:
        step = contracts[fence.step] if contracts is not None and fence.step in contracts else None
        if fence.status is not StepStatus.IDLE or (contracts and fence.step in contracts.after_pivot):
            for event in ("EVENT",) if step is None else _ends(fence, step):
                options = f"--event {event} --fields JSON --reason TEXT"
                yield output.command("resolve", target, id_, fence.step, options=options)
        elif step is not None and step.pivot:
            yield output.command("abort", target, id_, options="--reason TEXT")
        else:
            yield output.command("skip", target, id_, fence.step, options="--reason TEXT")


def _ends(fence: Fence, step: Step) -> Iterator[str]:
    """What an operator may state of it."""
    return map(_short, [str(step.compensated)] if _is_undoing(fence) else step.outcomes)


def _is_undoing(fence: Fence) -> bool:
    """As far as the fence alone tells: a step that waits for the world after the pivot, and got stuck, looks the same."""
    match fence.status:
        case StepStatus.STUCK:
            return fence.event is not None or fence.pending
        case StepStatus.DONE | StepStatus.COMPENSATING:
            return is_parked(fence)
    return False


def _trouble(workflow: Workflow, stated: Sequence[Message], now: datetime) -> Iterator[str]:
    if workflow.error:
        yield workflow.error
    if workflow.deadline and not workflow.closed and workflow.deadline < now:
        yield f"its deadline passed at {_clock(workflow.deadline)} and it is still open"
    if waiting := sum(received.state == "recorded" for received in workflow.inbox.values()):
        yield f"{waiting} of the facts taken in are recorded, but not handled"
    late = [m for m in stated if m.id in workflow.unpublished and now - m.time > UNPUBLISHED_PATIENCE]
    if late:
        oldest = min(message.time for message in late)
        yield f"{len(late)} own facts are not published, the oldest of {_clock(oldest)}: does a worker run? see: saga doctor"


def _awaits(workflow: Workflow, participant: str | None, contracts: Saga | None) -> Iterator[str]:
    if unpublished := len(workflow.unpublished):
        yield f"{unpublished} own facts are to be published"
    if workflow.closed:
        return
    here = [*_from_here(workflow)]
    yield from here
    if contracts is not None and participant is not None:
        others = [said for step in contracts.owned(participant) for said in _from_others(step, workflow, contracts)]
        yield from others or ([] if here else [_the_end(workflow, contracts)])


def _from_here(workflow: Workflow) -> Iterator[str]:
    for fence in workflow.fences.values():
        until = f", until {_clock(fence.expires)}" if fence.expires else ""
        match fence.status:
            case StepStatus.RUNNING if fence.pending:
                yield f"step {fence.step}: its outcome, which the service gives with `resolve` (it returned Pending){until}"
            case StepStatus.RUNNING:
                yield f"step {fence.step}: the answer to the call that is in hand{until}"
            case StepStatus.COMPENSATING if not fence.pending:
                yield f"step {fence.step}: the end of its compensation"


def _from_others(step: Step, workflow: Workflow, saga: Saga) -> Iterator[str]:
    """What others have to state before an own step can go on."""
    unwinding = workflow.status is WorkflowStatus.FAILED
    fence = workflow.fences.get(step.name)
    if fence is None and not unwinding:
        done = {fact.event for fact in workflow.facts if fact.status is FactStatus.DONE}
        missing = min((join - done for join in step.on), key=len, default=frozenset())
        if missing:
            said = (f"{_short(event)} ({_owner(saga, saga.emitter[event])})" for event in sorted(missing))
            yield f"step {step.name}: {', '.join(said)}"
    elif unwinding and (reports := awaiting.awaited(saga, step.by, workflow.facts, workflow.fences).get(step.name)):
        yield f"undoing step {step.name}: reports of {awaiting.told(saga, reports, workflow.facts)}"


def _the_end(workflow: Workflow, saga: Saga) -> str:
    if workflow.status is WorkflowStatus.FAILED:
        return f"the end: {_owner(saga, saga.root.name)} compensated"
    return f"the end: {_owner(saga, saga.sink.name)} done"


def _owner(saga: Saga, step: str) -> str:
    return f"{step} by {saga[step].by}"


def _clock(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _short(event: str) -> str:
    return event.rpartition(".")[2]


def _step(fence: Fence, codec: AvroCodec | None) -> StepAccount:
    return StepAccount(
        step=fence.step,
        status=fence.status,
        attempt=fence.attempt,
        event=fence.event,
        result=_result(fence, codec),
        pending=fence.pending,
        refused=fence.refused,
        error=fence.error,
        due=fence.due,
        expires=fence.expires,
        changed=fence.changed,
    )


def _result(fence: Fence, codec: AvroCodec | None) -> dict[str, Any] | int | None:
    if fence.result is None:
        return None
    if codec is None or fence.event is None:
        return len(fence.result)
    try:
        shown: dict[str, Any] = redact(codec.saga.contract(fence.event), codec.decode(fence.event, fence.result))
        return shown
    except (ContractError, RegistryUnavailable) as error:
        return {"undecoded": str(error), "bytes": len(fence.result)}


def _taken(received: Received) -> FactTaken:
    return FactTaken(
        received=received.received,
        step=received.step,
        status=received.status,
        event=received.type,
        state=received.state,
        topic=received.topic,
        partition=received.partition,
        offset=received.offset,
    )


def _stated(message: Message, published: bool, level: Level, missing: list[str] | None) -> FactStated:
    return FactStated(
        sequence=message.sequence,
        stated=message.time,
        step=message.kind.step,
        status=message.kind.status,
        event=message.kind.type,
        topic=message.topic,
        partition=message.partition,
        published=published,
        level=level,
        missing=missing,
    )


def _arrival(received: Received) -> tuple[float, str, int]:
    return (received.received.timestamp() if received.received else 0.0, received.topic, received.offset)
