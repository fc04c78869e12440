"""Which texts a contract owes its readers: the purpose, what success is, how it fails, and what a time limit means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saga.contracts.saga import Saga


@dataclass(frozen=True, slots=True)
class Finding:
    """One text that is missing or explains nothing: the place in the contracts, and what to write there."""

    place: str
    text: str


def lint(saga: Saga) -> list[Finding]:
    """Everything that is missing, in the order in which the saga tells it; empty for a contract that can be published."""
    return [*_of_saga(saga), *(found for field in step_fields(saga) for found in _of_step(saga, field)), *_of_events(saga)]


def step_fields(saga: Saga) -> list[Mapping[str, Any]]:
    """The fields of the saga's own schema that describe steps, in order."""
    return [field for field in saga.own["fields"] if "step" in field]


def _of_saga(saga: Saga) -> Iterator[Finding]:
    name = str(saga.own["name"])
    if not _says(saga.own, "doc"):
        yield Finding(name, 'no "doc"; say what the saga is for')
    yield from _limit(name, saga.own["saga"], "deadline", "what it means for the customer when the deadline passes")


def _of_step(saga: Saga, field: Mapping[str, Any]) -> Iterator[Finding]:
    place = f"{saga.own['name']}.{field['name']}"
    if not _says(field, "doc"):
        yield Finding(place, 'no "doc"; say when the step succeeds')
    yield from _limit(place, field["step"], "timeout", "what is known, and what is not, when the timeout passes")


def _limit(place: str, attributes: Mapping[str, Any], limit: str, wanted: str) -> Iterator[Finding]:
    text = f"{limit}_doc"
    if limit in attributes and not _says(attributes, text):
        yield Finding(place, f'"{limit}" without "{text}"; say {wanted}')
    if limit not in attributes and text in attributes:
        yield Finding(place, f'"{text}" explains a "{limit}" that is not there; remove it')


def _of_events(saga: Saga) -> Iterator[Finding]:
    for step in saga.steps:
        for event in (*step.outcomes, step.compensated):
            if isinstance(event, str) and not _says(saga.types[event], "doc"):
                wanted = f"when step {step.name} fails, and what is then unchanged" if event == step.fails else "what happened"
                yield Finding(event, f'no "doc"; say {wanted}')


def _says(place: Mapping[str, Any], attribute: str) -> bool:
    return bool(str(place.get(attribute) or "").strip())
