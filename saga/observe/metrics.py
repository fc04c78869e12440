"""Figures as OpenTelemetry metrics: observable instruments, read when the service's own exporter collects."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider

from saga.engine.worker import Worker
from saga.observe.figures import FIGURES, Figure, reading, whose


def measure(worker: Worker, meter_provider: MeterProvider | None = None) -> None:
    """Have this worker measured by the provider, or by the global one; to be said once for each worker.

    Where and how often the numbers go is the provider's business; collecting waits for nobody.
    """
    meter = (meter_provider or get_meter_provider()).get_meter("saga")
    for figure in FIGURES:
        _instrument(meter, worker, figure)


def _instrument(meter: Meter, worker: Worker, figure: Figure) -> None:
    create = meter.create_observable_counter if figure.counter else meter.create_observable_gauge
    create(figure.name, callbacks=[_observe(worker, figure)], unit=figure.unit, description=figure.text)


def _observe(worker: Worker, figure: Figure) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, {**whose(worker), **more}) for value, more in figure.values(reading(worker))]

    return observe
