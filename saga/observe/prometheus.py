"""Figures as Prometheus scrapes them: its text format 0.0.4, names as OpenTelemetry's exporters would translate them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from saga.engine.worker import Worker
from saga.observe.figures import FIGURES, Figure, Value, reading, whose

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(worker: Worker) -> str:
    """All figures of the worker as one page."""
    found, common = reading(worker), whose(worker)
    return "".join(
        told(name_of(figure), figure.text, figure.values(found), common, counter=figure.counter) for figure in FIGURES
    )


def told(name: str, text: str, values: Iterable[Value], common: Mapping[str, str], *, counter: bool = False) -> str:
    """One figure as the page has it; all of its `values` have the `common` attributes."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {'counter' if counter else 'gauge'}"]
    lines += [f"{name}{{{_labels({**common, **more})}}} {value:.15g}" for value, more in values]
    return "\n".join(lines) + "\n"


def name_of(figure: Figure) -> str:
    """`saga.outbox.oldest_age` in seconds is `saga_outbox_oldest_age_seconds`."""
    ending = "_seconds" if figure.unit == "s" else "_total" if figure.counter else ""
    return figure.name.replace(".", "_") + ending


def _labels(attributes: Mapping[str, str]) -> str:
    return ",".join(f'{name.replace(".", "_")}="{_escaped(value)}"' for name, value in attributes.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
