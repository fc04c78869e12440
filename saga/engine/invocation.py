"""Calling a service's function: bytes to views, the call itself, the returned event to bytes; any failure is blamed on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from saga.contracts.event import Event
from saga.errors import ContractError, SagaError, TerminalError
from saga.participant.handler import ExternalCall, Handler, Pending
from saga.store.port import Transaction, Unit

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

Answered = tuple[str, bytes]
"""The full name of an event and its bytes."""


class HandlerFailure(SagaError):
    """A handler raised, or returned what it must not; the cause is what it raised.

    `final`: the same input will fail again, so that trying again is a waste. `tried` counts the tries before this one.
    """

    def __init__(self, handler: Handler, workflow_id: str, why: str, *, final: bool) -> None:
        self.handler, self.workflow_id, self.why, self.final, self.tried = handler, workflow_id, why, final, 0
        super().__init__(f"{handler.title} failed for workflow {workflow_id}: {why}")


class Invocation:
    """Calls handlers, coroutines on an event loop of its own; belongs to one thread."""

    def __init__(self, codec: AvroCodec) -> None:
        self.codec = codec
        self._loop: asyncio.AbstractEventLoop | None = None

    def arguments(self, handler: Handler, workflow_id: str, events: Mapping[str, bytes | None]) -> list[Event | None]:
        """The views of these events (full name to bytes) in the order of the parameters, None for one that is not there."""
        return [self._argument(handler, workflow_id, parameter.views, events) for parameter in handler.inputs]

    def call(self, handler: Handler, workflow_id: str, arguments: list[Event | None], last: Transaction | ExternalCall) -> Any:
        """What the function returned; raises HandlerFailure."""
        try:
            returned = handler.function(*arguments, last)
            return self.wait(returned) if handler.asynchronous else returned
        except Exception as error:
            self.blame(handler, workflow_id, last, error)

    def blame(self, handler: Handler, workflow_id: str, last: Transaction | ExternalCall, error: Exception) -> NoReturn:
        """Raise what an exception of the handler's stands for: HandlerFailure, or what its database says of itself."""
        if isinstance(last, Unit) and (technical := last.technical(error)) is not None:
            raise technical from error
        raise self.failure(handler, workflow_id, error) from error

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
            raise HandlerFailure(
                handler, workflow_id, f"it returned {returned!r}; expected an instance of {expected}", final=True
            )
        try:
            return name, self.codec.encode(name, returned.model_dump())
        except ContractError as error:
            raise self.failure(handler, workflow_id, error) from error

    @staticmethod
    def failure(handler: Handler, workflow_id: str, error: Exception) -> HandlerFailure:
        return HandlerFailure(
            handler, workflow_id, f"{type(error).__name__}: {error}", final=isinstance(error, TerminalError | ContractError)
        )

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def _argument(
        self, handler: Handler, workflow_id: str, views: Mapping[str, type[Event]], events: Mapping[str, bytes | None]
    ) -> Event | None:
        for name, view in views.items():
            if (payload := events.get(name)) is not None:
                try:
                    return view.model_validate(self.codec.decode(name, payload))
                except (ContractError, ValueError) as error:
                    raise HandlerFailure(
                        handler, workflow_id, f"its input {name} is unreadable: {error}", final=True
                    ) from error
        return None
