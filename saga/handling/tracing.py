"""What a tracer is told of: units of work, and those calls of handlers that belong to a sampled trace.

A unit costs one span for its whole batch; an event costs a look at its trace flags (measured: two spans for each event cost
more than the event itself).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from saga.contracts.trace import TraceContext, Traced
from saga.participant.handler import Handler
from saga.store.lane import Lane


class Tracer(Protocol):
    """Records spans; called from all threads of a worker."""

    def unit(self, participant: str, lane: Lane, items: int) -> AbstractContextManager[None]:
        """Around one transaction that takes in that many items."""

    def call(self, handler: Handler, workflow_id: str, attempt: int, traced: Traced) -> AbstractContextManager[TraceContext]:
        """Around one call of a handler, the `attempt`th from 1; answers the place that what it states is to carry on."""


class Untraced:
    """Nobody listens: the place in the trace is carried on as it came."""

    @contextmanager
    def unit(self, participant: str, lane: Lane, items: int) -> Iterator[None]:
        yield

    @contextmanager
    def call(self, handler: Handler, workflow_id: str, attempt: int, traced: Traced) -> Iterator[TraceContext]:
        yield TraceContext(traced.traceparent, traced.tracestate)
