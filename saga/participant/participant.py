"""What a service embeds: the handlers of its steps, and the ways in. Inert: nothing is opened until a worker runs it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from saga.clock import Clock, SystemClock
from saga.contracts import ids
from saga.contracts.event import Event
from saga.contracts.saga import Saga
from saga.contracts.topics import lane_of
from saga.errors import DefinitionError, LifecycleError, Overloaded, Refused
from saga.participant import handler, operator
from saga.participant.failure import Classify
from saga.participant.handler import Act, Handler, Pending
from saga.participant.ledger import Ledger
from saga.participant.retry import Retry
from saga.protocol.decide import Close, Refuse, decide
from saga.protocol.definition import Step
from saga.store.port import Transaction, Unit, Workflow

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec
    from saga.contracts.registry import Registry

log = logging.getLogger("saga.operator")

MAX_BACKLOG = 100_000
COUNT_EVERY = 1.0

Outcome = Event | Pending | None
Function = TypeVar("Function", bound=Callable[..., Outcome | Awaitable[Outcome]])
Hook = TypeVar("Hook", bound=Classify)


class Participant:
    """A service's part in one saga.

    `name` is the `by` of its steps in the saga schema, its Kafka consumer group is `<saga>.<name>`. `max_backlog` bounds the
    unpublished events, beyond which `start` refuses. `clock` and `ids` (of new workflows) are arguments for tests.
    """

    def __init__(
        self,
        name: str,
        saga: Saga,
        *,
        max_backlog: int = MAX_BACKLOG,
        clock: Clock | None = None,
        ids: Callable[[], str] = ids.workflow_id,
    ) -> None:
        if not saga.owned(name):
            raise DefinitionError(
                f"saga {saga.name!r} has no participant {name!r}; its steps are by {', '.join(sorted(saga.participants))}. "
                f"Use one of these names, or add the step to the saga schema."
            )
        self.name, self.saga = name, saga
        self.clock = clock or SystemClock()
        self.registry: Registry | None = None
        self.handlers: dict[tuple[str, Act], Handler] = {}
        self.classifier: Classify | None = None
        self._ids, self._max_backlog = ids, max_backlog
        self._backlog, self._count_again = 0, 0.0

    def __repr__(self) -> str:
        return f"<Participant {self.name} of {self.saga.name}>"

    @cached_property
    def codec(self) -> AvroCodec:
        """Turns this saga's events into bytes and back; loads the Avro library at first use."""
        from saga.contracts.avro import AvroCodec

        return AvroCodec(self.saga, self.registry)

    def use(self, registry: Registry) -> None:
        """Take the ids of schemas from this registry; to be said before anything is encoded, in each process alike."""
        if "codec" in self.__dict__ and self.registry is not registry:
            raise LifecycleError(f"{self!r} has encoded events already; say `use(registry)` before anything is started")
        self.registry = registry

    @overload
    def step(self, function: Function, /) -> Function: ...
    @overload
    def step(
        self, function: None = None, /, *, step: str | None = None, retry: Retry | None = None
    ) -> Callable[[Function], Function]: ...
    def step(
        self, function: Callable[..., Any] | None = None, /, *, step: str | None = None, retry: Retry | None = None
    ) -> Any:
        """Declare the handler of the step that bears the function's name (or `step`); the function comes back untouched.

        It takes one parameter for each event of a trigger, then `tx: Transaction`, and returns one of the step's events. For an
        `external` step the last parameter is an `ExternalCall`. Raises DefinitionError for what the contract does not know.
        """

        def declare(function: Function) -> Function:
            owned = self._owned(step or function.__name__)
            if not owned.on:
                raise DefinitionError(f"step {owned.name!r} begins the saga: call `start` instead of declaring a handler")
            self._add(handler.action(self.saga, owned, function, retry or Retry()))
            return function

        return declare(function) if function is not None else declare

    def compensation(self, *, of: Callable[..., Any] | str, retry: Retry | None = None) -> Callable[[Function], Function]:
        """Declare what undoes a step, named by its handler or by its name (the root has no handler).

        It takes the event with which the action ended (None for an action that was withdrawn while `Pending`) and the
        transaction, and returns the event that reports the undoing.
        """

        def declare(function: Function) -> Function:
            self._add(handler.compensation(self.saga, self._step_of(of), function, retry or Retry()))
            return function

        return declare

    def recording(self, *, of: Callable[..., Any] | str) -> Callable[[Function], Function]:
        """Declare what an external step writes to the service's own tables, in the transaction that commits its outcome.

        It takes any of the step's events, the compensating one included, and the transaction, and returns None.
        """

        def declare(function: Function) -> Function:
            self._add(handler.recording(self.saga, self._step_of(of), function))
            return function

        return declare

    def classify(self, function: Hook, /) -> Hook:
        """Declare what the service's own exceptions stand for; the function comes back untouched.

        It is asked about every exception of a handler that the store or the registry is not to blame for, and answers a
        `Failure`, or None to leave it to the defaults, as it does if it raises. It must be quick and must not block.
        """
        if self.classifier is not None or inspect.iscoroutinefunction(function):
            raise DefinitionError(
                f"found {getattr(function, '__name__', function)!r} to classify failures of {self.name!r}; expected one plain "
                f"function. Join what you have to say into one `def`."
            )
        self.classifier = function
        return function

    def start(self, event: Event, tx: Transaction, *, workflow_id: str | None = None, traceparent: str | None = None) -> str:
        """Begin a workflow in the caller's transaction: it exists if and only if that commits. Answers its id.

        With a `workflow_id` that is known already nothing happens, so a repeated request is harmless. Raises DefinitionError
        if the event is not the first of the saga, ContractError if it does not fit its contract, Overloaded if too many
        events wait to be published.
        """
        root = self.saga.root
        name = self.saga.event(event.event_name)
        if root.by != self.name or name not in root.emits:
            raise DefinitionError(
                f"{self.name!r} cannot start saga {self.saga.name!r} with {name}; "
                f"it is started by {root.by!r} with {' or '.join(root.emits)}"
            )
        workflow_id = workflow_id or self._ids()
        ledger = self._ledger(tx)
        if workflow_id in ledger.load([workflow_id]):
            return workflow_id
        payload = self.codec.encode(name, event.model_dump())
        self._refuse_overload(ledger.unit)
        lane = lane_of(workflow_id, self._partitions(tx))
        workflow = ledger.open(workflow_id, lane, traceparent=traceparent, deadline=self.saga.deadline)
        ledger.finish(workflow, root, name, payload)
        self._settle(ledger, workflow)
        return workflow_id

    def abort(self, workflow_id: str, tx: Transaction, *, reason: str, by: str | None = None) -> None:
        """Wish, in the caller's transaction, that the workflow unwinds; the pivot's owner decides whether it came in time.

        `by` is the person that wishes it, if it is not the service's own. Raises Refused for a workflow that this participant
        does not know or that has ended.
        """
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, "abort")
        ledger.abort(workflow, reason, by=by)
        ledger.write()
        log.info("abort of %s workflow %s, by %s: %s", self.saga.name, workflow_id, by or self.name, reason)

    def resolve(
        self, workflow_id: str, step: str, event: Event, tx: Transaction, *, reason: str | None = None, by: str | None = None
    ) -> None:
        """Give, in the caller's transaction, the outcome of a step whose handler returned `Pending`, or that is parked.

        Of a parked or stuck action it is one of the step's outcomes, of such a compensation its compensating event; no
        handler runs, so what it would have written is the caller's to write. `reason` and `by` are for the log. Raises
        Refused if the step does not wait: it was withdrawn by an abort, or resolved already.
        """
        owned, name = self._owned(step), self.saga.event(event.event_name)
        if name not in (possible := (*owned.outcomes, *([owned.compensated] if isinstance(owned.compensated, str) else []))):
            raise DefinitionError(f"step {step!r} cannot end with {name}; expected {' or '.join(possible)}")
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, f"resolve step {step!r} of")
        payload = self.codec.encode(name, event.model_dump())
        operator.resolve(ledger, workflow, owned, name, payload, reason=reason or "no reason given", by=by or self.name)
        self._settle(ledger, workflow)

    def retry(self, workflow_id: str, tx: Transaction, *, by: str | None = None) -> None:
        """Ask, in the caller's transaction, that a parked workflow is tried again now, its attempts counted anew.

        Raises Refused if it is not parked here.
        """
        ledger = self._ledger(tx)
        workflow = self._open_workflow(ledger, workflow_id, "retry")
        if not operator.retry(ledger.unit, self.saga.name, [workflow], ledger.now, by=by or self.name):
            raise Refused(f"workflow {workflow_id} is not parked here: nothing of it waits for another try")

    def skip(self, workflow_id: str, step: str, tx: Transaction, *, reason: str, by: str | None = None) -> None:
        """Give up, in the caller's transaction, a parked action before the pivot: it is skipped, and the workflow unwinds.

        The facts say `reason` and `by`. Raises Refused at and after a pivot, for what is done or being undone, and where
        a call to the world may have had its effect; the text says what to do instead.
        """
        ledger, owned = self._ledger(tx), self._owned(step)
        workflow = self._open_workflow(ledger, workflow_id, f"skip step {step!r} of")
        operator.skip(ledger, workflow, owned, reason=reason, by=by or self.name)
        self._settle(ledger, workflow)

    def check(self) -> None:
        """Refuse (DefinitionError) to run while a step lacks its handler or its compensation."""
        for step in self.saga.owned(self.name):
            if step.on and (step.name, Act.ACTION) not in self.handlers:
                raise DefinitionError(
                    f"participant {self.name!r} has no handler for its step {step.name!r}; "
                    f"write a function {step.name} and decorate it with .step"
                )
            if isinstance(step.compensated, str) and (step.name, Act.COMPENSATION) not in self.handlers:
                raise DefinitionError(
                    f"participant {self.name!r} cannot undo its step {step.name!r}: no compensation emits "
                    f"{step.compensated}; decorate one with .compensation(of={step.name if step.on else repr(step.name)})"
                )

    def _settle(self, ledger: Ledger, workflow: Workflow) -> None:
        """What a caller's transaction can itself bring about: an end, or a refusal. Handlers run in workers only."""
        for act in decide(self.saga, self.name, workflow.facts, workflow.fences):
            if isinstance(act, Close | Refuse):
                ledger.carry_out(workflow, act)
        ledger.write()

    def _refuse_overload(self, unit: Unit) -> None:
        """Counted at most once a second: so many are let in beyond the bound as begin within one."""
        if self.clock.monotonic() >= self._count_again:
            self._count_again = self.clock.monotonic() + COUNT_EVERY
            self._backlog = unit.backlog(self.saga.name, self._max_backlog + 1)
        if self._backlog > self._max_backlog:
            raise Overloaded(
                f"more than {self._max_backlog} events of {self.name!r} wait to be published: Kafka is away, or no worker of "
                f"{self.name!r} runs. Nothing was begun; try again later.",
                retry_after=COUNT_EVERY,
            )

    def _ledger(self, tx: Transaction) -> Ledger:
        if not isinstance(tx, Unit):
            raise LifecycleError(
                f"found {type(tx).__name__}; expected a transaction from `store.transaction()` or `store.join(connection)`"
            )
        return Ledger(self.saga, self.name, self.codec, tx, self.clock.now())

    def _open_workflow(self, ledger: Ledger, workflow_id: str, wish: str) -> Workflow:
        workflow = ledger.load([workflow_id]).get(workflow_id)
        if workflow is None:
            raise Refused(f"cannot {wish} workflow {workflow_id}: participant {self.name!r} knows none of this id")
        if workflow.closed:
            raise Refused(f"cannot {wish} workflow {workflow_id}: it ended {workflow.status} at {workflow.closed:%F %T}")
        return workflow

    def _partitions(self, tx: Transaction) -> int:
        assert isinstance(tx, Unit)
        if (count := tx.partitions(self.saga.name)) is None:
            raise LifecycleError(
                f"the partition count of saga {self.saga.name!r} is not known to this database yet; run a worker of "
                f"{self.name!r} once (it records the count when it takes its first lane)"
            )
        return count

    def _owned(self, name: str) -> Step:
        for step in self.saga.owned(self.name):
            if step.name == name:
                return step
        mine = ", ".join(step.name for step in self.saga.owned(self.name))
        other = f"; it belongs to {self.saga[name].by!r}" if name in self.saga else ""
        raise DefinitionError(
            f"participant {self.name!r} has no step {name!r} in saga {self.saga.name!r}{other}. Its steps are {mine}: "
            f"name the function after one of them, or pass step=..."
        )

    def _step_of(self, of: Callable[..., Any] | str) -> Step:
        if isinstance(of, str):
            return self._owned(of)
        for declared in self.handlers.values():
            if declared.function is of:
                return self._owned(declared.step)
        raise DefinitionError(f"{getattr(of, '__name__', of)!r} is not declared as a step of {self.name!r}; declare it first")

    def _add(self, new: Handler) -> None:
        if (old := self.handlers.get((new.step, new.act))) is not None:
            raise DefinitionError(f"{new.title}: step {new.step!r} has {old.title} already; keep one of them")
        self.handlers[new.step, new.act] = new
