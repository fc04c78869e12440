"""Spans: one trace through all services for a workflow whose start was sampled, and nothing else for an event."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from saga.contracts.trace import TraceContext, is_sampled
from saga.observe.tracing import Spans, current
from saga.protocol.facts import StepStatus
from saga.testing.harness import Harness
from tests.travel import Script, TripBooked, harness

TRACE, WEB_REQUEST = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{WEB_REQUEST}-01", f"00-{TRACE}-{WEB_REQUEST}-00"


class Recorded:
    """Where the spans of a fleet end."""

    def __init__(self) -> None:
        self.exporter, self.provider = InMemorySpanExporter(), TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def calls(self) -> dict[tuple[str, str], ReadableSpan]:
        """The spans of calls by step and act, each there once."""
        calls = [span for span in self.spans if span.attributes and "saga.step" in span.attributes]
        found = {(str(c.attributes["saga.step"]), str(c.attributes["saga.act"])): c for c in calls if c.attributes}
        assert len(found) == len(calls)
        return found


def begin(fleet: Harness, traceparent: str | None, workflow_id: str = "w1") -> None:
    agency = fleet.participants["agency"]
    with fleet.transaction("agency") as tx:
        agency.start(TripBooked(trip="rome"), tx, workflow_id=workflow_id, traceparent=traceparent)
    fleet.settle()


def test_one_trace_runs_through_all_services_from_cause_to_effect() -> None:
    recorded = Recorded()

    with harness(Script(), tracer=Spans(recorded.provider)) as fleet:
        begin(fleet, SAMPLED)

    calls = recorded.calls()
    assert set(calls) == {(step, "action") for step in ("hotel", "flight", "pay", "confirm")}
    assert {format_trace_id(span.context.trace_id) for span in calls.values() if span.context} == {TRACE}
    assert {span.kind for span in calls.values()} == {SpanKind.CONSUMER}
    assert parent(calls["hotel", "action"]) == parent(calls["flight", "action"]) == WEB_REQUEST
    assert parent(calls["pay", "action"]) in {own(calls["hotel", "action"]), own(calls["flight", "action"])}
    assert parent(calls["confirm", "action"]) == own(calls["pay", "action"])


@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
def test_what_unwinds_is_in_the_trace_too(external: bool) -> None:
    recorded = Recorded()

    with harness(Script(failing={("pay", "rome")}), external=external, tracer=Spans(recorded.provider)) as fleet:
        begin(fleet, SAMPLED)

    calls = recorded.calls()
    assert {("hotel", "compensation"), ("flight", "compensation")} <= set(calls)
    assert {format_trace_id(span.context.trace_id) for span in calls.values() if span.context} == {TRACE}
    assert parent(calls["hotel", "compensation"]) == own(calls["pay", "action"])


@pytest.mark.parametrize("traceparent", [None, NOT_SAMPLED])
def test_an_event_that_is_not_sampled_makes_no_span_of_its_own_and_carries_its_trace_on(traceparent: str | None) -> None:
    recorded = Recorded()

    with harness(Script(), tracer=Spans(recorded.provider)) as fleet:
        begin(fleet, traceparent)

        found = {dict(record.headers).get("traceparent") for log in fleet.facts() for record in log}

    assert recorded.calls() == {}
    assert found == {traceparent.encode() if traceparent else None}


@pytest.mark.parametrize(
    "traceparent", [NOT_SAMPLED, "", "nonsense", f"00-{'z' * 32}-{'z' * 16}-01", f"00-{TRACE}-01", "1" * 9000]
)
def test_a_workflow_unwinds_to_its_end_whatever_its_place_in_a_trace_is(traceparent: str) -> None:
    with harness(Script(failing={("pay", "rome")}), tracer=Spans(Recorded().provider)) as fleet:
        begin(fleet, traceparent)

        assert fleet.steps("w1")["hotel"] is StepStatus.COMPENSATED
        assert all((workflow := fleet.workflow(name, "w1")) and workflow.closed for name in fleet.stores)


def test_a_unit_of_work_is_one_span_however_many_events_it_takes_in() -> None:
    recorded = Recorded()

    with harness(Script(), partitions=1, tracer=Spans(recorded.provider)) as fleet:
        for number in range(5):
            with fleet.transaction("agency") as tx:
                fleet.participants["agency"].start(TripBooked(trip="rome"), tx, workflow_id=f"w{number}")
        fleet.settle()

    units = [dict(span.attributes or {}) for span in recorded.spans]
    hotels = [u for u in units if u["messaging.consumer.group.name"] == "travel.hotels" and u["messaging.batch.message_count"]]
    assert max(int(str(unit["messaging.batch.message_count"])) for unit in hotels) >= 5
    assert len(hotels) < 5


def test_a_failed_call_says_the_class_of_its_error_and_not_its_text() -> None:
    recorded = Recorded()

    with harness(Script(raising={("hotel", "rome"): 1}), tracer=Spans(recorded.provider)) as fleet:
        begin(fleet, SAMPLED)

    tries = [span for span in recorded.spans if span.attributes and span.attributes.get("saga.step") == "hotel"]
    failed = [span for span in tries if span.status.status_code is StatusCode.ERROR]
    assert failed
    assert len(failed) < len(tries)
    assert [span.events for span in failed] == [() for _ in failed]
    assert [span.status.description for span in failed] == [None for _ in failed]
    assert {(span.attributes or {})["error.type"] for span in failed} == {"RuntimeError"}


def test_a_start_within_a_span_takes_its_place_from_there() -> None:
    recorded = Recorded()

    assert current() is None
    with recorded.provider.get_tracer("web").start_as_current_span("POST /trips") as request:
        here = current()

    context = request.get_span_context()
    assert here is not None
    assert here.startswith(f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-")
    assert is_sampled(TraceContext(here))


def own(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_span_id(span.context.span_id)


def parent(span: ReadableSpan) -> str:
    assert span.parent is not None
    return format_span_id(span.parent.span_id)
