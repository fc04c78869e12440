"""Units of work and handlers as OpenTelemetry spans, by its conventions for messaging; payloads and errors' texts stay out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context as Carried
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer_provider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from saga.contracts.topics import group
from saga.contracts.trace import TraceContext, Traced
from saga.participant.handler import Handler
from saga.store.lane import Lane

SCHEMA = "https://opentelemetry.io/schemas/1.36.0"

_W3C = TraceContextTextMapPropagator()


def current() -> str | None:
    """The place in the trace that this thread is in, for `start(..., traceparent=current())`; None outside of one."""
    here = _here()
    return here.traceparent if here else None


class Spans:
    """A tracer for `Worker(..., tracer=Spans())`; its spans go to the provider, or to the global one.

    One span `process <saga>.events` for each transaction. One span `process <step>` for each call of a handler whose workflow
    began in a sampled trace, its parent the call that stated the triggering event; so one trace runs through all services.
    Ids and names of things are attributes: no value of an event, and of an exception its class alone.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = (provider or get_tracer_provider()).get_tracer("saga", schema_url=SCHEMA)

    @contextmanager
    def unit(self, participant: str, lane: Lane, items: int) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            f"process {lane.saga}.events",
            kind=SpanKind.CONSUMER,
            context=Carried(),
            record_exception=False,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.consumer.group.name": group(lane.saga, participant),
                "messaging.destination.name": f"{lane.saga}.events",
                "messaging.destination.partition.id": str(lane.number),
                "messaging.batch.message_count": items,
            },
        ):
            yield

    @contextmanager
    def call(self, handler: Handler, workflow_id: str, attempt: int, traced: Traced) -> Iterator[TraceContext]:
        headers = {"traceparent": traced.traceparent or "", "tracestate": traced.tracestate or ""}
        with self._tracer.start_as_current_span(
            f"process {handler.step}",
            kind=SpanKind.CONSUMER,
            context=_W3C.extract(headers, Carried()),
            record_exception=False,
            set_status_on_exception=False,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.message.conversation_id": workflow_id,
                "saga.step": handler.step,
                "saga.act": handler.act.value,
                "saga.attempt": attempt,
            },
        ) as span:
            try:
                yield _here() or TraceContext(traced.traceparent, traced.tracestate)
            except Exception as error:
                cause = error.__cause__ or error
                span.set_attribute("error.type", type(cause).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def _here() -> TraceContext | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return TraceContext(carrier["traceparent"], carrier.get("tracestate")) if carrier else None
