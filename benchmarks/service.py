"""A process with participants, asked over its standard input: `python -m benchmarks.service < questions`.

The first line says as JSON what to run. Then each line is a question: `lanes` (owned now), `cpu` (seconds of this process),
`memory` (peak, in MiB); each is answered by a line. It ends with its input.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import orjson

from benchmarks import four_steps, workload
from benchmarks.suite import chain
from saga import Participant, Transaction, Worker
from saga.cli.running.run import tame_collector
from saga.handling.tracing import Tracer
from saga.store.port import Store
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings

WAIT = 0.002


def shop(bench: Any) -> Participant:
    """Ends what the ledger has accepted, and so acknowledges it."""
    participant = Participant("shop", bench)

    @participant.step
    def finish(accepted: workload.Accepted, tx: Transaction) -> workload.Finished:
        return workload.Finished(order=accepted.order)

    return participant


def participants(kind: str, name: str) -> Mapping[str, Participant]:
    """The participants of a saga of this kind: `four`, `ledger`, `ledger-waiting`, `ledger-sqlite`, or `chain-<steps>`."""
    if kind == "four":
        return four_steps.participants(four_steps.saga(name))
    if kind == "ledger":
        bench = workload.saga(name)
        return {"ledger": workload.ledger(bench), "shop": shop(bench)}
    if kind == "ledger-waiting":
        return {"ledger": workload.ledger(workload.saga(name), wait=WAIT)}
    if kind == "ledger-sqlite":
        return {"ledger": workload.ledger(workload.saga(name), business=workload.BUSINESS.replace("%s", "?"))}
    return chain.participants(name, int(kind.removeprefix("chain-")))


def opened(address: str) -> Store:
    """PostgreSQL by its connection string, SQLite by its path."""
    return SqliteStore(Path(address), migrate=True) if address.endswith(".db") else PostgresStore(address, migrate=True)


def tracer() -> Tracer:
    """As a service would trace: spans in batches, to an exporter that throws them away."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from saga.observe.tracing import Spans

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.01)))
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return Spans(provider)


def peak() -> float:
    """MiB this process has held at most; `ru_maxrss` would be that of whoever started it, if that was more."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def main() -> None:
    logging.disable(logging.WARNING)
    wanted = orjson.loads(sys.stdin.readline())
    known = participants(wanted["kind"], wanted["saga"])
    with ExitStack() as stack:
        workers = [
            Worker(
                known[name],
                store=stack.enter_context(closing(opened(address))),
                broker=KafkaBroker(KafkaSettings(wanted["kafka"])),
                tracer=tracer() if wanted.get("traced") else None,
            )
            for name, address in wanted["stores"].items()
        ]
        for worker in workers:
            stack.enter_context(worker.running())
        tame_collector()
        answers: dict[str, Callable[[], float]] = {
            "lanes": lambda: sum(len(worker.standing().lanes) for worker in workers),
            "cpu": time.process_time,
            "memory": peak,
        }
        for question in sys.stdin:
            sys.stdout.write(f"{answers[question.strip()]()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
