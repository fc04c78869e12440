"""The figures of a worker, as OpenTelemetry collects them and as Prometheus scrapes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from saga import Worker
from saga.contracts.topics import saga_topics
from saga.handling.intake import Counts
from saga.observe.figures import FIGURES
from saga.observe.health import asgi
from saga.observe.metrics import measure
from saga.observe.prometheus import exposition, name_of
from saga.store.memory import MemoryStore
from saga.transport.memory import MemoryBroker
from tests.services.asgi import client
from tests.travel import CREATE_EFFECTS, Script, TripBooked, fleet
from tests.waiting import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "observing.md"
ROWS = re.findall(r"^\| `(saga\.[\w.]+)` \| `(\w+)` \| ([^|]+) \| [^|]+ \|$", DOCUMENT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")  # nobody alters it, and it takes a second until its figures stand
def worker() -> Iterator[Worker]:
    """The airline, which has flown one trip and told it, since when its store was looked at."""
    agency, _, airline, _ = fleet(Script())
    broker = MemoryBroker(saga_topics("travel"), partitions=2)
    books, store = MemoryStore(), MemoryStore()
    with store.transaction() as tx:
        tx.execute(CREATE_EFFECTS)
    with Worker(agency, store=books, broker=broker).running(), Worker(airline, store=store, broker=broker).running() as worker:
        until(lambda: books._tables.partitions and len(worker.standing().lanes) == 2, what="the lanes")
        with books.transaction() as tx:
            agency.start(TripBooked(trip="rome"), tx, workflow_id="w1")
        until(lambda: worker.standing().counts.handled == 1 and not unpublished(store), what="the flight")
        until(lambda: taken_in(store) == 2, what="the airline's own word of it to be passed over for good")
        until(lambda: worker.standing().lag == {0: 0, 1: 0}, what="a look at how far it is")
        worker._watch.look()
        yield worker


def taken_in(store: MemoryStore) -> int:
    return sum(lane.offsets.get("travel.events", 0) for lane in store.lanes())


def unpublished(store: MemoryStore) -> bool:
    with store.unit() as unit:
        return bool(unit.waiting("travel"))


def test_opentelemetry_collects_what_the_worker_last_saw(worker: Worker) -> None:
    reader = InMemoryMetricReader()
    measure(worker, MeterProvider([reader]))

    data = reader.get_metrics_data()

    assert data is not None
    [metrics] = [scope.metrics for resource in data.resource_metrics for scope in resource.scope_metrics]
    found = {
        (metric.name, point.attributes.get("saga.outcome") or point.attributes.get("saga.lane")): point
        for metric in metrics
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint) and point.attributes is not None
    }
    assert found["saga.facts", "handled"].value == 1
    assert found["saga.lanes.owned", None].value == 2
    assert found["saga.lane.lag", "1"].value == 0
    assert found["saga.worker.state", None].attributes == {"saga.name": "travel", "saga.participant": "airline"}
    assert {metric.name: metric.unit for metric in metrics} == {
        f.name: f.unit for f in FIGURES if f.name != "saga.breaker.state"
    }


def test_prometheus_scrapes_the_same_figures(worker: Worker) -> None:
    with client(asgi(worker)) as http:
        page = http.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = page.text.splitlines()
    assert 'saga_facts_total{saga_name="travel",saga_participant="airline",saga_outcome="handled"} 1' in lines
    assert 'saga_outbox_oldest_age_seconds{saga_name="travel",saga_participant="airline"} 0' in lines
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == {name_of(figure) for figure in FIGURES}
    assert all(re.fullmatch(r"#.+|\w+(\{[^{}]+\})? [\d.e+-]+", line) for line in lines)


def test_records_that_could_not_be_taken_in_are_a_figure(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = replace(worker.standing(), counts=Counts(handled=1, dead=2))
    monkeypatch.setattr(worker, "standing", lambda: dead)

    with client(asgi(worker)) as http:
        page = http.get("/metrics")

    assert 'saga_facts_total{saga_name="travel",saga_participant="airline",saga_outcome="dead"} 2' in page.text.splitlines()


def test_prometheus_is_told_large_numbers_to_the_last_digit(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    many = replace(worker.standing(), lost=12_345_678)
    monkeypatch.setattr(worker, "standing", lambda: many)

    assert 'saga_events_lost_total{saga_name="travel",saga_participant="airline"} 12345678' in exposition(worker).splitlines()


def test_the_table_names_every_figure_with_its_kind_and_unit_and_no_other() -> None:
    kinds = {figure.name: ("counter" if figure.counter else "gauge", figure.unit) for figure in FIGURES}

    assert {name: (kind, unit) for name, kind, unit in ROWS} == kinds
