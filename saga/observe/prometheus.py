"""Figures as Prometheus scrapes them: its text format 0.0.4, names as OpenTelemetry's exporters would translate them."""

from __future__ import annotations

from collections.abc import Mapping

from saga.engine.worker import Worker
from saga.observe.figures import FIGURES, Figure, reading, whose

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(worker: Worker) -> str:
    """All figures of the worker as one page."""
    found, common = reading(worker), whose(worker)
    lines: list[str] = []
    for figure in FIGURES:
        name = name_of(figure)
        lines += [f"# HELP {name} {figure.text}", f"# TYPE {name} {'counter' if figure.counter else 'gauge'}"]
        lines += [f"{name}{{{_labels({**common, **more})}}} {value:.15g}" for value, more in figure.values(found)]
    return "\n".join(lines) + "\n"


def name_of(figure: Figure) -> str:
    """`saga.outbox.oldest_age` in seconds is `saga_outbox_oldest_age_seconds`."""
    ending = "_seconds" if figure.unit == "s" else "_total" if figure.counter else ""
    return figure.name.replace(".", "_") + ending


def _labels(attributes: Mapping[str, str]) -> str:
    return ",".join(f'{name.replace(".", "_")}="{_escaped(value)}"' for name, value in attributes.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
