"""What a service declares: its handlers, by version, step and act, each held against the contract at once. Inert."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from saga.contracts.event import Event, require_events
from saga.contracts.saga import Saga
from saga.contracts.upcast import Upcasters
from saga.errors import DefinitionError
from saga.participant import handler
from saga.participant.dependency import Dependency, Needs, Seconds, needed, seconds
from saga.participant.escalation import Escalation, Listener
from saga.participant.evolve import Evolution, Evolve
from saga.participant.failure import Classify
from saga.participant.handler import Act, Handler, Pending
from saga.participant.retry import Retry
from saga.participant.versions import Versions
from saga.protocol.definition import Step

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

Outcome = Event | Pending | None
Function = TypeVar("Function", bound=Callable[..., Outcome | Awaitable[Outcome]])
Vectorised = TypeVar("Vectorised", bound=Callable[..., Sequence[Event] | Awaitable[Sequence[Event]]])
Hook = TypeVar("Hook", bound=Classify)
Told = TypeVar("Told", bound=Listener)


class Declarations:
    """The handlers of participant `name`, by version, step and act.

    `dependencies` are those that handlers may need, by name; `classifier` has the service's own word on failures; `escalation`
    knows who is to be told of parked workflows, `evolution` what own events leave in the service's tables.
    """

    def __init__(self, name: str, versions: Versions, upcasters: Upcasters) -> None:
        self.name, self.versions, self.upcasters = name, versions, upcasters
        self.handlers: dict[tuple[int, str, Act], Handler] = {}
        self.dependencies: dict[str, Dependency] = {}
        self.classifier: Classify | None = None
        self.escalation = Escalation()
        self.evolution = Evolution(name, versions, upcasters)

    @property
    def saga(self) -> Saga:
        """The latest version, all gates open."""
        return self.versions.latest

    @property
    def codec(self) -> AvroCodec:
        """Turns the events of the latest version into bytes and back."""
        return self.versions.codec(self.saga.version)

    @overload
    def step(self, function: Function, /) -> Function: ...
    @overload
    def step(
        self,
        function: None = None,
        /,
        *,
        step: str | None = None,
        retry: Retry | None = None,
        needs: Needs = (),
        versions: Iterable[int] | None = None,
        batch: Literal[False] = False,
    ) -> Callable[[Function], Function]: ...
    @overload
    def step(
        self,
        function: None = None,
        /,
        *,
        batch: Literal[True],
        step: str | None = None,
        retry: Retry | None = None,
        needs: Needs = (),
        versions: Iterable[int] | None = None,
    ) -> Callable[[Vectorised], Vectorised]: ...
    def step(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        step: str | None = None,
        retry: Retry | None = None,
        needs: Needs = (),
        versions: Iterable[int] | None = None,
        batch: bool = False,
    ) -> Any:
        """Declare the handler of the step that bears the function's name (or `step`); the function comes back untouched.

        It is for all versions of the saga that have the step, or for those of `versions`.

        It takes one parameter for each event of a trigger, then `tx: Transaction`, and returns one of the step's events. For an
        `external` step the last parameter is an `ExternalCall`. What it `needs` was declared with `dependency`: while that is
        away the handler is not called. Raises DefinitionError for what the contract does not know.

        With `batch` it is called once for all workflows of a unit of work whose turn it is: each event parameter is a list, the
        n-th items of which are of the n-th workflow of `tx.workflow_ids`, and as long a list of results comes back in that
        order. If it raises, it is called again with fewer, until the workflow is found that is to blame.
        """
        if function is not None and not callable(function):
            raise DefinitionError(f"found .step({function!r}); expected .step alone, or .step(step={function!r})")
        given = retry or Retry(), self._declared(needs), self.upcasters

        def declare(function: Function) -> Function:
            for saga, owned in self._in_versions(step or function.__name__, versions):
                if not owned.on:
                    raise DefinitionError(f"step {owned.name!r} begins the saga: call `start` instead of declaring a handler")
                self._add(saga, partial(handler.action, saga, owned, function, *given, batch=batch))
            return function

        return declare(function) if function is not None else declare

    @overload
    def compensation(
        self,
        *,
        of: Callable[..., Any] | str,
        retry: Retry | None = None,
        needs: Needs = (),
        versions: Iterable[int] | None = None,
        batch: Literal[False] = False,
    ) -> Callable[[Function], Function]: ...
    @overload
    def compensation(
        self,
        *,
        of: Callable[..., Any] | str,
        batch: Literal[True],
        retry: Retry | None = None,
        needs: Needs = (),
        versions: Iterable[int] | None = None,
    ) -> Callable[[Vectorised], Vectorised]: ...
    def compensation(
        self,
        *,
        of: Callable[..., Any] | str,
        retry: Retry | None = None,
        needs: Needs = (),
        versions: Iterable[int] | None = None,
        batch: bool = False,
    ) -> Any:
        """Declare what undoes a step, named by its handler or by its name (the root has no handler).

        It is for the versions of that handler, for all that have a step of that name, or for those of `versions`.

        It takes the event with which the action ended (None for an action that was withdrawn while `Pending`) and the
        transaction, and returns the event that reports the undoing. `needs` and `batch` as for a step.
        """
        given = retry or Retry(), self._declared(needs), self.upcasters

        def declare(function: Function) -> Function:
            for saga, step in self._versions_of(of, versions):
                self._add(saga, partial(handler.compensation, saga, step, function, *given, batch=batch))
            return function

        return declare

    def recording(
        self, *, of: Callable[..., Any] | str, versions: Iterable[int] | None = None
    ) -> Callable[[Function], Function]:
        """Declare what an external step writes to the service's own tables, in the transaction that commits its outcome.

        It takes any of the step's events, the compensating one included, and the transaction, and returns None.
        """

        def declare(function: Function) -> Function:
            for saga, step in self._versions_of(of, versions):
                self._add(saga, partial(handler.recording, saga, step, function, self.upcasters))
            return function

        return declare

    def evolve(self, *events: type[Event], batch: bool = False) -> Callable[[Evolve], Evolve]:
        """Declare what own events left in the service's tables, so that `saga rebuild` can fill them again.

        The function is `(event, tx) -> None`; between the two it may take the events of the step's trigger or, for a
        compensating event, the event that is undone. It writes rows and does nothing else: no worker ever calls it, and
        while it runs there is nothing to publish to. Raises DefinitionError for what is no own event.

        With `batch` each event is a list, the n-th items of which are of the n-th workflow of `tx.workflow_ids`: one statement
        then writes the rows of thousands.
        """

        require_events(events, "evolve")

        def declare(function: Evolve) -> Evolve:
            self.evolution.add(function, events, batch=batch)
            return function

        return declare

    def unchanged_by(self, *events: type[Event]) -> None:
        """Declare that these own events left nothing in the service's tables."""
        require_events(events, "unchanged_by")
        self.evolution.add_nothing(events)

    @overload
    def on_parked(self, function: Told, /) -> Told: ...
    @overload
    def on_parked(self, function: None = None, /, *, every: bool) -> Callable[[Told], Told]: ...
    def on_parked(self, function: Told | None = None, /, *, every: bool = False) -> Any:
        """Declare who is told of a workflow that was parked and waits for an operator, with `every` of each that was parked.

        The function takes a `Parked`, is called after the commit in the worker's thread, and should be quick; what it raises is
        logged and changes nothing. It is told again of each further failure, and not at all if the process dies meanwhile.
        """

        def declare(function: Told) -> Told:
            self.escalation.add(function, every=every)
            return function

        return declare(function) if function is not None else declare

    def dependency(
        self,
        name: str,
        *,
        errors: Iterable[type[Exception]] = (),
        failure_rate: float = 0.5,
        window: Seconds = 30.0,
        minimum_calls: int = 10,
        pause: Seconds = 5.0,
        probes: int = 1,
    ) -> Dependency:
        """Declare something outside that handlers call, and when it counts as away; they say `needs=` what this answers.

        A handler's exception of one of these `errors`, or one that `classify` says is the dependency's, spends no attempt: the
        workflow waits. When at least `failure_rate` of at least `minimum_calls` within `window` ended so, none is made for
        `pause`; then `probes` go through, and when all of them succeed, everything does. Times are seconds or timedeltas;
        each process finds out for itself. Raises DefinitionError for settings that make no sense.
        """
        if name in self.dependencies:
            raise DefinitionError(f"participant {self.name!r} has a dependency {name!r} already; keep one of them")
        self.dependencies[name] = Dependency(
            name=name,
            errors=tuple(errors),
            failure_rate=failure_rate,
            window=seconds(window),
            minimum_calls=minimum_calls,
            pause=seconds(pause),
            probes=probes,
        )
        return self.dependencies[name]

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

    def check(self) -> None:
        """Refuse (DefinitionError) to run while a step lacks its handler, or a compensation that can undo all it may leave."""
        for saga in self.versions:
            for step in saga.owned(self.name):
                self._check(saga, step)

    def _check(self, saga: Saga, step: Step) -> None:
        where = "" if self._is_alone else f" in version {saga.version}"
        if step.on and (saga.version, step.name, Act.ACTION) not in self.handlers:
            raise DefinitionError(
                f"participant {self.name!r} has no handler for its step {step.name!r}{where}; "
                f"write a function {step.name} and decorate it with .step"
            )
        if isinstance(step.compensated, str) and (saga.version, step.name, Act.COMPENSATION) not in self.handlers:
            raise DefinitionError(
                f"participant {self.name!r} cannot undo its step {step.name!r}{where}: no compensation emits "
                f"{step.compensated}; decorate one with .compensation(of={step.name if step.on else repr(step.name)})"
            )
        action, undo = (self.handlers.get((saga.version, step.name, act)) for act in (Act.ACTION, Act.COMPENSATION))
        if action and undo and action.waits and not (parameter := undo.inputs[0]).optional:
            raise DefinitionError(
                f"{undo.title}: found parameter {parameter.name} that takes no None; expected `| None`, since "
                f"{action.function.__name__} may answer Pending: what is withdrawn while it waits has no event to undo"
            )

    @property
    def _is_alone(self) -> bool:
        return len(self.versions.numbers) == 1

    def saga_of(self, number: int | None) -> Saga:
        """The saga of this version, None for the latest; raises DefinitionError for one that is not known here."""
        if number is not None and number not in self.versions:
            known = ", ".join(map(str, self.versions.numbers))
            raise DefinitionError(f"{self.name!r} knows saga {self.saga.name!r} of version {known}; found {number}")
        return self.saga if number is None else self.versions.saga_of(number)

    def _in_versions(self, name: str, numbers: Iterable[int] | None) -> list[tuple[Saga, Step]]:
        """The step in each of these versions, by default in each that has it."""
        if numbers is not None:
            return [(saga, self.owned(name, saga)) for saga in map(self.saga_of, numbers)]
        found = [(saga, step) for saga in self.versions for step in saga.owned(self.name) if step.name == name]
        return found or [(self.saga, self.owned(name, self.saga))]

    def owned(self, name: str, saga: Saga) -> Step:
        """An own step of the saga by its name; raises DefinitionError for another one."""
        for step in saga.owned(self.name):
            if step.name == name:
                return step
        mine = ", ".join(step.name for step in saga.owned(self.name))
        other = f"; it belongs to {saga[name].by!r}" if name in saga else ""
        raise DefinitionError(
            f"participant {self.name!r} has no step {name!r} in saga {saga.name!r} of version {saga.version}{other}. "
            f"Its steps are {mine}; a handler is named after its step, or declared with step=..."
        )

    def _declared(self, needs: Needs) -> tuple[Dependency, ...]:
        for each in (found := needed(needs)):
            if each not in self.dependencies.values():
                raise DefinitionError(
                    f"found needs={each!r}, which {self.name!r} did not declare; expected an answer of its own `dependency`"
                )
        return found

    def _versions_of(self, of: Callable[..., Any] | str, numbers: Iterable[int] | None) -> list[tuple[Saga, Step]]:
        if isinstance(of, str):
            return self._in_versions(of, numbers)
        declared = [handler for handler in self.handlers.values() if handler.function is of]
        if not declared:
            name = getattr(of, "__name__", of)
            raise DefinitionError(f"{name!r} is not declared as a step of {self.name!r}; declare it first")
        return self._in_versions(declared[0].step, numbers or [handler.version for handler in declared])

    def _add(self, saga: Saga, bound: Callable[[], Handler]) -> None:
        try:
            new = bound()
        except DefinitionError as error:
            if self._is_alone:
                raise
            raise DefinitionError(
                f"{error} in version {saga.version}; if it is not for that one, say so with versions=..."
            ) from error
        if (old := self.handlers.get((new.version, new.step, new.act))) is not None:
            raise DefinitionError(
                f"{new.title}: step {new.step!r} has {old.title} already; keep one of them, or give each its versions=..."
            )
        self.handlers[new.version, new.step, new.act] = new
