"""Calling a service's function: bytes to views, the call itself, the returned event to bytes; any failure is blamed on it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from saga.contracts.event import Event
from saga.contracts.sensitive import scrub, sensitive_values
from saga.count import many
from saga.errors import ContractError, Overstayed, RegistryUnavailable, SagaError, StatementFailed, UnknownSchema
from saga.participant.dependency import Dependency
from saga.participant.failure import Failure, FailureKind, failure_of, infrastructure
from saga.participant.handler import Act, ExternalCall, Handler, Input, Pending
from saga.participant.participant import Participant
from saga.store.port import Transaction
from saga.text import storable

Answered = tuple[str, bytes]
"""The full name of an event and its bytes."""


class Escaped(Exception):
    """What a handler raised to end its task or process, which is only its own failure: a worker has more in hand."""


@contextmanager
def contained() -> Iterator[None]:
    """Around a call of a service's function: one that is cancelled, or calls `sys.exit`, ends nothing but itself."""
    try:
        yield
    except (asyncio.CancelledError, SystemExit) as error:
        raise Escaped(f"it raised {type(error).__name__}({error}), which ends this call alone") from error


class HandlerFailure(SagaError):
    """A handler raised, or returned what it must not; the cause is what it raised.

    `tried` counts the tries before this one. `is_hushed` if `why` leaves out what the cause itself would tell.
    """

    def __init__(self, handler: Handler, workflow_id: str, why: str, failure: Failure, *, is_hushed: bool = False) -> None:
        self.handler, self.workflow_id, self.failure, self.tried = handler, workflow_id, failure, 0
        self.why = storable(why)
        self.is_hushed = is_hushed
        super().__init__(f"{handler.title} failed for workflow {workflow_id}: {self.why}")

    @property
    def shown_cause(self) -> BaseException | None:
        """The exception behind it, unless it would tell what is hushed."""
        return None if self.is_hushed else self.__cause__

    @property
    def kind(self) -> FailureKind:
        return self.failure.kind

    @property
    def is_unreadable(self) -> bool:
        """Whether it is the input that could not be read, though it may be tried again: its schema may still come."""
        return self.kind is FailureKind.POISON or isinstance(self.__cause__, UnknownSchema)

    @property
    def dependency(self) -> Dependency | None:
        """What is away, if that is why."""
        return self.failure.dependency

    @property
    def is_of_recording(self) -> bool:
        """Whether it is what the world answered that could not be recorded."""
        return self.handler.act is Act.RECORDING

    def spent(self, attempt: int) -> int:
        """How many tries have counted, this one being the `attempt`th from 1: what a dependency fails does not count."""
        return attempt if self.dependency is None else attempt - 1

    def is_quick(self, attempt: int) -> bool:
        """Whether the try after this one, the `attempt`th from 1, is made at once."""
        return self.kind is FailureKind.TRANSIENT and self.handler.retry.is_quick(attempt)

    def delay(self, attempt: int, chance: float) -> float | None:
        """Seconds to wait for the next try, None if there is to be none; `chance` is in [0, 1)."""
        return self.handler.retry.delay(attempt, chance) if self.kind is FailureKind.TRANSIENT else None


class Latest(NamedTuple):
    """The handler that ran last: in a batch of one, what the database says no later than at COMMIT is of its making."""

    handler: Handler
    workflow_id: str
    tried: int


class Invocation:
    """Calls handlers, coroutines on an event loop of its own; belongs to one thread."""

    def __init__(self, participant: Participant) -> None:
        self.participant, self.versions = participant, participant.versions
        self.calling: tuple[Handler, str] | None = None
        self.given: Sequence[Event | None] = ()
        self._loop: asyncio.AbstractEventLoop | None = None

    def arguments(self, handler: Handler, workflow_id: str, events: Mapping[str, bytes | None]) -> list[Event | None]:
        """The views of these events (full name to bytes) in the order of the parameters, None for one that is not there."""
        return [self._argument(handler, workflow_id, parameter, events) for parameter in handler.inputs]

    def call(self, handler: Handler, workflow_id: str, arguments: list[Event | None], last: Transaction | ExternalCall) -> Any:
        """What the function returned; raises HandlerFailure, StoreError, RegistryUnavailable.

        `calling` says meanwhile which, and for which workflow; `given` its arguments, until the next call.
        """
        self.calling, self.given = (handler, workflow_id), arguments
        return self._call(handler, workflow_id, arguments, last)

    def call_together(
        self, handler: Handler, workflow_ids: Sequence[str], rows: Sequence[list[Event | None]], last: Transaction
    ) -> list[Any]:
        """What a vectorised function returned: a result for each workflow, whose arguments are a row; raises as `call` does.

        A failure is told of the first of them: any may be to blame.
        """
        first, count = workflow_ids[0], len(workflow_ids)
        self.calling = handler, first if count == 1 else f"{first} and {count - 1} others"
        self.given = [argument for row in rows for argument in row]
        returned = self._call(handler, first, [list(column) for column in zip(*rows, strict=True)], last)
        if not isinstance(returned, list) or len(returned) != count:
            found = many(len(returned), "result") if isinstance(returned, list) else f"a {type(returned).__name__}"
            why = f"it returned {found} for {many(count, 'workflow')}; expected a list with one result for each"
            raise HandlerFailure(handler, first, why, Failure.PERMANENT)
        return returned

    def _call(self, handler: Handler, workflow_id: str, arguments: Sequence[Any], last: Transaction | ExternalCall) -> Any:
        try:
            with contained():
                returned = handler.function(*arguments, last)
                return self.wait(returned) if handler.asynchronous else returned
        except Exception as error:
            raise self.blame(handler, workflow_id, last, error, self.given) from error
        finally:
            self.calling = None

    def blame(
        self, handler: Handler, workflow_id: str, last: object, error: Exception, arguments: Sequence[Event | None] = ()
    ) -> SagaError:
        """What an exception of the handler's stands for: HandlerFailure, or what store or registry say of themselves."""
        return infrastructure(error, last) or self.failure(handler, workflow_id, error, arguments)

    def blame_latest(self, latest: Latest, error: StatementFailed | Overstayed) -> HandlerFailure:
        """What a statement that failed late, or a transaction that lasted too long, says of the handler that ran last."""
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        kind = self.failure(latest.handler, latest.workflow_id, cause).failure
        why = self.hushed(latest.handler, str(error), self.given)
        failure = HandlerFailure(latest.handler, latest.workflow_id, why, kind, is_hushed=why != str(error))
        failure.tried = latest.tried
        return failure

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end on this thread's loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def encode(self, handler: Handler, workflow_id: str, returned: Any) -> Answered | Pending:
        """The returned event as bytes; raises HandlerFailure for what is not a declared result or cannot be written."""
        if isinstance(returned, Pending):
            return returned
        if (name := handler.results.get(type(returned))) is None:
            expected = " or ".join(view.__name__ for view in handler.results)
            forgotten = ": write `async def`, and `await` what it calls" if inspect.iscoroutine(returned) else ""
            why = f"it returned a {type(returned).__name__}; expected an instance of {expected}{forgotten}"
            raise HandlerFailure(handler, workflow_id, why, Failure.PERMANENT)
        try:
            return name, self.versions.codec(handler.version).encode(name, returned.model_dump())
        except ContractError as error:
            raise self.failure(handler, workflow_id, error) from error

    def failure(
        self, handler: Handler, workflow_id: str, error: Exception, arguments: Sequence[Event | None] = ()
    ) -> HandlerFailure:
        """What an exception that is the handler's own stands for; sensitive values of its arguments are not told."""
        failure = failure_of(error, self.participant.classifier, handler.needs)
        said = f"{type(error).__name__}: {error}"
        why = self.hushed(handler, said, arguments)
        if failure.dependency is not None:
            why = f"{failure.dependency.awaited}: {why}"
        return HandlerFailure(handler, workflow_id, why, failure, is_hushed=said not in why)

    def hushed(self, handler: Handler, text: str, arguments: Sequence[Event | None]) -> str:
        """The text without the sensitive values that the handler was given."""
        secrets: frozenset[str] = frozenset()
        saga = self.versions.saga_of(handler.version)
        views = [(name, view) for parameter in handler.inputs for name, view in parameter.views.items()]
        for argument in arguments:
            for name in (name for name, view in views if type(argument) is view):
                assert argument is not None
                secrets |= sensitive_values(saga.contract(name), argument.model_dump())
        return scrub(text, secrets)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def _argument(
        self, handler: Handler, workflow_id: str, parameter: Input, events: Mapping[str, bytes | None]
    ) -> Event | None:
        for name in parameter.views:
            if (payload := events.get(name)) is not None:
                try:
                    return parameter.read(self.versions.codec(handler.version), name, payload)
                except RegistryUnavailable:
                    raise
                except Exception as error:  # a view's validators are the service's own
                    why = f"its input {name} is unreadable: {error}"
                    # a schema that is not there may be on its way to this registry
                    kind = Failure.TRANSIENT if isinstance(error, UnknownSchema) else Failure.POISON
                    raise HandlerFailure(handler, workflow_id, why, kind) from error
        return None
