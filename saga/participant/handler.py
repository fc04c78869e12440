"""A service's function, with what its annotations say: which events go in, which may come out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from saga.contracts.event import Event, is_event
from saga.contracts.saga import Saga
from saga.contracts.upcast import Fields, Upcasters
from saga.contracts.view import check_view
from saga.errors import DefinitionError
from saga.participant.dependency import Dependency
from saga.participant.retry import Retry
from saga.protocol.definition import Step
from saga.protocol.gates import gates, joins
from saga.store.port import Transaction

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec


@dataclass(frozen=True, slots=True)
class Pending:
    """Returned by a handler that must wait for the world: nothing is held, `Participant.resolve` goes on later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCall:
    """What the handler of an `external` step gets instead of a transaction: none is open while it runs.

    `idempotency_key` is the same at every attempt, and differs between action and compensation; hand it to the foreign system.
    """

    workflow_id: str
    idempotency_key: str
    attempt: int = 1


class Act(Enum):
    """What a handler does for its step."""

    ACTION = "action"
    COMPENSATION = "compensation"
    RECORDING = "recording"
    EVOLVE = "evolve"


@dataclass(frozen=True, slots=True)
class Input:
    """One event parameter: the contract's event names it accepts, each with the service's view.

    `raised` says of older events among them how they become the one that the view is of.
    """

    name: str
    views: Mapping[str, type[Event]]
    optional: bool = False
    raised: Mapping[str, Callable[[Fields], Fields]] = field(default_factory=dict)

    def read(self, codec: AvroCodec, event: str, payload: bytes) -> Event:
        """The view of an event's bytes, by the codec of its version; an older event is raised first, here and nowhere else.

        Raises ContractError, or whatever the view's own validators raise.
        """
        fields, raised = codec.decode(event, payload), self.raised.get(event)
        return self.views[event].model_validate(fields if raised is None else raised(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One function of a service, bound to a step of one version of the saga.

    `inputs` in the order of the parameters; the last parameter, a `Transaction` or an `ExternalCall`, is not among them.
    `results` maps each view that may be returned to the contract's event name; `needs` are the dependencies that it calls.
    With `batch` each parameter takes a list, an item for each of several workflows, and a list of results comes back.
    `waits` where the result may be `Pending`.
    """

    step: str
    act: Act
    version: int
    function: Callable[..., Any]
    inputs: tuple[Input, ...]
    results: Mapping[type[Event], str] = field(default_factory=dict)
    asynchronous: bool = False
    retry: Retry = field(default_factory=Retry)
    needs: tuple[Dependency, ...] = ()
    batch: bool = False
    waits: bool = False

    @property
    def title(self) -> str:
        """How messages for people name it."""
        return f"{self.function.__name__} ({self.act.value} of step {self.step!r})"


class _Signature:
    """Reads one function against the contract; every refusal names the function, what was found and what was expected."""

    def __init__(
        self,
        saga: Saga,
        step: Step,
        act: Act,
        function: Callable[..., Any],
        upcasters: Upcasters | None = None,
        *,
        batch: bool = False,
    ) -> None:
        self.saga, self.step, self.act, self.function, self.batch = saga, step, act, function, batch
        self.upcasters = upcasters or Upcasters()
        try:
            self.hints = get_type_hints(function)
        except NameError as error:
            raise self.wrong(f"an annotation that cannot be resolved: {error}", "names visible in the module") from error
        if batch and step.external:
            raise self.wrong("batch=True", "a step that is not external: the world is asked about each workflow by itself")

    def wrong(self, found: str, expected: str) -> DefinitionError:
        name = getattr(self.function, "__name__", repr(self.function))
        return DefinitionError(f"{name} ({self.act.value} of step {self.step.name!r}): found {found}; expected {expected}")

    def inputs(self, last: type) -> tuple[Input, ...]:
        *events, final = self._parameters()
        if self.hints.get(final) is not last:
            raise self.wrong(
                f"last parameter {final}: {self._written(final)}",
                f"{last.__name__}{', since the step is external' if last is ExternalCall else ''}",
            )
        return tuple(self._input(name) for name in events)

    def results(self) -> dict[type[Event], str]:
        views = {}
        for kind in self.kinds("return"):
            if kind is Pending and self.act is Act.ACTION and not self.batch:
                continue
            if not is_event(kind):
                raise self.wrong(f"return annotation {self._written('return')}", f"one event class, or a union{self._listed}")
            name = self.saga.event(kind.event_name)
            check_view(kind, self.saga, name, writes=True)
            views[kind] = name
        return views

    def _parameters(self) -> list[str]:
        names = list(inspect.signature(self.function).parameters)
        if len(names) < 2:
            raise self.wrong(f"parameters ({', '.join(names)})", "the event or events, and last the transaction")
        return names

    def _input(self, name: str) -> Input:
        kinds = self.kinds(name)
        views: dict[str, type[Event]] = {}
        raised: dict[str, Callable[[Fields], Fields]] = {}
        for kind in kinds:
            if kind is NoneType:
                continue
            if not is_event(kind):
                raise self.wrong(f"parameter {name}: {self._written(name)}", f"an event class, or a union{self._listed}")
            if olds := self._raised_to(kind):
                raised |= {old: partial(self.upcasters.raised, old, new) for old, new in olds.items()}
                views |= dict.fromkeys(olds, kind)
            else:
                event = self.saga.event(kind.event_name)
                check_view(kind, self.saga, event, writes=False)
                views[event] = kind
        return Input(name, views, NoneType in kinds, raised)

    def _raised_to(self, view: type[Event]) -> dict[str, str]:
        """The events of this step that are raised to the view's own one, where the step does not deal with that itself."""
        name = view.event_name
        undoing = [self.step.compensated] if isinstance(self.step.compensated, str) else []
        own = {*self.step.consumes, *self.step.outcomes, *undoing}
        new = name if "." in name else f"{self.saga.namespace}.{name}"
        return {} if new in own else {old: new for old in sorted(own) if self.upcasters.leads(old, new)}

    def kinds(self, name: str) -> tuple[Any, ...]:
        """What may be in this parameter, or come back; of a vectorised handler, what may be in the list."""
        hint = self.hints.get(name)
        if self.batch:
            (hint,) = get_args(hint) if get_origin(hint) is list else (None,)
        return _alternatives(hint)

    @property
    def _listed(self) -> str:
        return " of them, in a list[...] since it takes a batch" if self.batch else " of them"

    def _written(self, name: str) -> str:
        return str(self.hints.get(name, "no annotation"))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)


def action(
    saga: Saga,
    step: Step,
    function: Callable[..., Any],
    retry: Retry,
    needs: tuple[Dependency, ...] = (),
    upcasters: Upcasters | None = None,
    *,
    batch: bool = False,
) -> Handler:
    """Bind `function` as the action of `step`: one parameter for each event of a trigger, returns one of the step's events.

    With `batch`: a list for each event of a trigger, all of one length, and a list of results.
    """
    signature = _Signature(saga, step, Act.ACTION, function, upcasters, batch=batch)
    inputs = signature.inputs(ExternalCall if step.external else Transaction)
    for open_gates, join in joins(saga, step.name):
        if any(_served(join, parameter) is None for parameter in inputs) or not join <= _accepted(inputs):
            shut = gates(saga) - open_gates
            hint = f", the others `| None` (they do not come while {_names(shut)} is shut)" if join not in step.on else ""
            raise signature.wrong(
                f"parameters for {_names(_accepted(inputs))}", f"exactly one for each event of {_names(join)}{hint}"
            )
    if not _accepted(inputs) <= step.consumes:
        raise signature.wrong(f"parameters for {_names(_accepted(inputs))}", f"only {_names(step.consumes)}")
    results = signature.results()
    if set(results.values()) != set(step.outcomes):
        raise signature.wrong(f"return annotation of {_names(results.values())}", f"all of {_names(step.outcomes)}")
    return _handler(signature, inputs, results, retry, needs)


def _served(join: frozenset[str], parameter: Input) -> str | None:
    """The event of the join that this parameter takes, an empty string if it may stay None; None if it cannot be served."""
    taken = join & set(parameter.views)
    if len(taken) == 1:
        return next(iter(taken))
    return "" if parameter.optional and not taken else None


def compensation(
    saga: Saga,
    step: Step,
    function: Callable[..., Any],
    retry: Retry,
    needs: tuple[Dependency, ...] = (),
    upcasters: Upcasters | None = None,
    *,
    batch: bool = False,
) -> Handler:
    """Bind `function` as the compensation of `step`: takes the recorded result of the action, returns the declared event.

    With `batch`: a list of them each.
    """
    signature = _Signature(saga, step, Act.COMPENSATION, function, upcasters, batch=batch)
    if not isinstance(step.compensated, str):
        raise signature.wrong("a step without a compensating event", '"compensated" in the schema to name one')
    inputs = signature.inputs(ExternalCall if step.external else Transaction)
    if len(inputs) != 1 or set(inputs[0].views) != set(step.emits):
        raise signature.wrong(f"parameters for {_names(_accepted(inputs))}", f"one that takes {_names(step.emits)}")
    results = signature.results()
    if set(results.values()) != {step.compensated}:
        raise signature.wrong(f"return annotation of {_names(results.values())}", step.compensated)
    return _handler(signature, inputs, results, retry, needs)


def recording(saga: Saga, step: Step, function: Callable[..., Any], upcasters: Upcasters | None = None) -> Handler:
    """Bind `function` to be called in the transaction that commits the outcome of an external step."""
    signature = _Signature(saga, step, Act.RECORDING, function, upcasters)
    outcomes = {*step.outcomes, *([step.compensated] if isinstance(step.compensated, str) else [])}
    if not step.external:
        raise signature.wrong("a step that is not external", "an external one: any other handler has the transaction already")
    inputs = signature.inputs(Transaction)
    if len(inputs) != 1 or set(inputs[0].views) != outcomes:
        raise signature.wrong(f"parameters for {_names(_accepted(inputs))}", f"one that takes all of {_names(outcomes)}")
    if signature.hints.get("return") is not NoneType:
        raise signature.wrong(f"return annotation {signature.hints.get('return')}", "None")
    return _handler(signature, inputs, {}, Retry())


def evolve(
    saga: Saga,
    step: Step,
    event: str,
    function: Callable[..., Any],
    upcasters: Upcasters | None = None,
    *,
    batch: bool = False,
) -> Handler:
    """Bind `function`, `(event, what it came of, tx) -> None`, as what an own event of `step` leaves in the service's tables.

    What it came of is the step's trigger, or, for the compensating event, the event that it undoes. With `batch` each is a
    list.
    """
    signature = _Signature(saga, step, Act.EVOLVE, function, upcasters, batch=batch)
    inputs = signature.inputs(Transaction)
    came_of = {*step.emits} if event == step.compensated else {*step.consumes}
    if event not in inputs[0].views or not _accepted(inputs[1:]) <= came_of:
        expected = f"first {event}, then nothing but {_names(came_of)}"
        raise signature.wrong(f"parameters for {_names(inputs[0].views)}; {_names(_accepted(inputs[1:]))}", expected)
    if signature.hints.get("return") is not NoneType or inspect.iscoroutinefunction(function):
        raise signature.wrong(f"return annotation {signature.hints.get('return')}", "None, of a plain function")
    return _handler(signature, inputs, {}, Retry())


def _handler(
    signature: _Signature,
    inputs: tuple[Input, ...],
    results: dict[type[Event], str],
    retry: Retry,
    needs: tuple[Dependency, ...] = (),
) -> Handler:
    return Handler(
        step=signature.step.name,
        act=signature.act,
        version=signature.saga.version,
        function=signature.function,
        inputs=inputs,
        results=results,
        asynchronous=inspect.iscoroutinefunction(signature.function),
        retry=retry,
        needs=needs,
        batch=signature.batch,
        waits=Pending in signature.kinds("return"),
    )


def _accepted(inputs: tuple[Input, ...]) -> set[str]:
    return {event for parameter in inputs for event in parameter.views}


def _names(events: Any) -> str:
    return ", ".join(sorted(events)) or "nothing"
