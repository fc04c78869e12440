"""Calls to the world outside the transaction: their intent is committed before, their answer after."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from saga.clock import Clock
from saga.contracts.event import Event
from saga.contracts.message import idempotency_key
from saga.contracts.trace import NOWHERE, TraceContext, is_sampled
from saga.errors import SagaError
from saga.failpoints import Failpoint, failpoint
from saga.handling.breakers import Breakers, Unasked
from saga.handling.invocation import Answered, HandlerFailure, Invocation, contained
from saga.handling.tracing import Tracer
from saga.participant.handler import Act, ExternalCall, Handler, Pending

CONCURRENT_CALLS = 16
QUICK_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Intent:
    """A committed intent: the fence of `step` says `running` (action) or `compensating`; the world may know or not.

    `tried` counts earlier tries; `asked`: an earlier owner, or an earlier try, may have called the world already. `context` is
    the place in the trace of what led to it.
    """

    workflow_id: str
    step: str
    act: Act
    handler: Handler
    arguments: list[Event | None]
    tried: int = 0
    asked: bool = False
    context: TraceContext = NOWHERE


@dataclass(frozen=True, slots=True)
class Answer:
    """What the world said to an intent, not committed yet; `outcome` is the event's name and bytes, `context` the call's place
    in a trace."""

    workflow_id: str
    step: str
    act: Act
    outcome: Answered | Pending
    context: TraceContext = NOWHERE


class Externals:
    """Carries out intents, several at a time, each with its handler's own retries; the order among them does not matter.

    `calling` holds those that are being carried out.
    """

    def __init__(
        self,
        saga: str,
        invocation: Invocation,
        breakers: Breakers,
        tracer: Tracer,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.saga, self.invocation, self.breakers, self.tracer = saga, invocation, breakers, tracer
        self.clock, self.chance = clock, chance
        self.calling: list[Intent] = []
        self._pool = ThreadPoolExecutor(CONCURRENT_CALLS, thread_name_prefix="saga-external")

    def carry_out(self, intents: Sequence[Intent], until: float) -> tuple[list[Answer], list[HandlerFailure]]:
        """Call the world for each intent, with its quick retries; those that still fail come back as failures.

        Of what is not begun when `until` (monotonic) passes nothing comes back, and it may be called at any time; the first is
        begun in any case. Raises what is a matter of infrastructure; all of them are to be asked again then.
        """
        self.calling = [*intents]
        failpoint(Failpoint.EXTERNAL_INTENDED)
        timed = [*zip(intents, chain([math.inf], repeat(until)), strict=False)]
        coroutines = [each for each in timed if each[0].handler.asynchronous]
        futures = [self._pool.submit(self._blocking, *each) for each in timed if not each[0].handler.asynchronous]
        ended = self.invocation.wait(self._together(coroutines)) if coroutines else []
        ended.extend(future.result() for future in futures)
        self.calling = []
        failpoint(Failpoint.EXTERNAL_RETURNED)
        for end in ended:
            if isinstance(end, SagaError) and not isinstance(end, HandlerFailure):
                raise end
        answers = [end for end in ended if isinstance(end, Answer)]
        return answers, [end for end in ended if isinstance(end, HandlerFailure)]

    def close(self) -> None:
        self._pool.shutdown()

    async def _together(self, intents: Sequence[tuple[Intent, float]]) -> list[Answer | SagaError | None]:
        gate = asyncio.Semaphore(CONCURRENT_CALLS)

        async def one(intent: Intent, until: float) -> Answer | SagaError | None:
            async with gate:
                return None if self.clock.monotonic() > until else await self._awaiting(intent)

        return list(await asyncio.gather(*(one(*each) for each in intents)))

    def _blocking(self, intent: Intent, until: float) -> Answer | SagaError | None:
        if self.clock.monotonic() > until:
            return None
        attempt = intent.tried + 1
        while True:
            try:
                with self._passage(intent, attempt) as context, contained():
                    returned = intent.handler.function(*intent.arguments, self._call(intent, attempt))
                return self._answer(intent, returned, context)
            except Exception as error:
                failure = self._failure(intent, attempt, error)
            if not _is_quick(failure, attempt):
                return failure
            self.clock.sleep(self.chance() * QUICK_PAUSE)
            attempt += 1

    async def _awaiting(self, intent: Intent) -> Answer | SagaError:
        attempt = intent.tried + 1
        while True:
            try:
                with self._passage(intent, attempt) as context, contained():
                    coroutine = intent.handler.function(*intent.arguments, self._call(intent, attempt))
                    returned = await asyncio.create_task(_alone(coroutine))  # one that cancels its task cancels no other's
                return self._answer(intent, returned, context)
            except Exception as error:
                failure = self._failure(intent, attempt, error)
            if not _is_quick(failure, attempt):
                return failure
            await asyncio.sleep(self.chance() * QUICK_PAUSE)
            attempt += 1

    @contextmanager
    def _passage(self, intent: Intent, attempt: int) -> Iterator[TraceContext]:
        """Around one call; what it raises has got its class when the breakers hear of it."""
        with self.breakers.passage(intent.handler, intent.workflow_id), self._span(intent, attempt) as context:
            try:
                yield context
            except Exception as error:
                raise self.invocation.blame(intent.handler, intent.workflow_id, None, error, intent.arguments) from error

    def _span(self, intent: Intent, attempt: int) -> AbstractContextManager[TraceContext]:
        if not is_sampled(intent.context):
            return nullcontext(intent.context)
        return self.tracer.call(intent.handler, intent.workflow_id, attempt, intent.context)

    def _call(self, intent: Intent, attempt: int) -> ExternalCall:
        key = idempotency_key(self.saga, intent.workflow_id, intent.step, intent.act.value)
        return ExternalCall(workflow_id=intent.workflow_id, idempotency_key=key, attempt=attempt)

    def _answer(self, intent: Intent, returned: Any, context: TraceContext) -> Answer:
        outcome = self.invocation.encode(intent.handler, intent.workflow_id, returned)
        return Answer(intent.workflow_id, intent.step, intent.act, outcome, context)

    def _failure(self, intent: Intent, attempt: int, error: Exception) -> SagaError:
        if isinstance(error, HandlerFailure):
            failure: SagaError = error
        else:
            failure = self.invocation.blame(intent.handler, intent.workflow_id, None, error, intent.arguments)
        if isinstance(failure, HandlerFailure):
            failure.tried = attempt - 1
        if isinstance(failure, Unasked):
            failure.is_untouched = not intent.asked and failure.tried == intent.tried
        return failure


async def _alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with contained():  # here already: `sys.exit` in a task ends the loop, whatever else waits there
        return await coroutine


def _is_quick(failure: SagaError, attempt: int) -> bool:
    return isinstance(failure, HandlerFailure) and failure.is_quick(attempt)
