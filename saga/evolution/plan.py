"""What registering a saga would do at the registry, subject by subject, and why something is refused there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from saga.contracts.registry import Registry
from saga.contracts.saga import Saga, registered
from saga.contracts.schema import Schema
from saga.errors import DefinitionError
from saga.evolution.change import Change, Verdict
from saga.evolution.choreography import saga_changes
from saga.evolution.events import event_changes


@dataclass(frozen=True, slots=True)
class Entry:
    """One subject, and how the folder's schema relates to what is registered there; `why` where it is refused."""

    subject: str
    state: Literal["registered", "new", "compatible", "refuse"]
    id: int | None = None
    why: tuple[str, ...] = ()


def subjects(saga: Saga) -> Iterator[tuple[str, Schema]]:
    """Everything that is registered of a saga: its published events, the library's records among them, and its state."""
    yield from ((saga.subject(name), saga.contract(name)) for name in saga.published)
    yield saga.state


def plan(saga: Saga, registry: Registry) -> list[Entry]:
    """Ask the registry about every subject, and hold the choreography to the one registered under the same version."""
    state, _ = saga.state
    entries = []
    for subject, schema in subjects(saga):
        entry = _entry(registry, subject, schema)
        if subject == state and entry.state in {"compatible", "refuse"} and (why := disagreement(saga, registry)):
            entry = Entry(subject, "refuse", why=why)
        entries.append(entry)
    return entries


def registered_version(registry: Registry, name: str, up_to: int | None = None) -> int:
    """The highest registered version of a saga, of those up to a number where one is; raises DefinitionError for none."""
    versions = [
        int(number)
        for subject in registry.subjects("")
        for stem, dash, number in [subject.rpartition("-v")]
        if dash and number.isdigit() and registered(registry, subject, name) is not None
    ]
    if not versions:
        raise DefinitionError(f"{registry.url} has no saga {name!r}; register it: saga schemas register DIR")
    return max([version for version in versions if up_to is None or version <= up_to] or versions)


def disagreement(saga: Saga, registry: Registry) -> tuple[str, ...]:
    """What of its steps differs from those registered under the same version, and would need another one.

    Raises DefinitionError where none are.
    """
    return _told([*saga_changes(Saga.from_registry(registry, saga.name, version=saga.version), saga)])


def _entry(registry: Registry, subject: str, schema: Schema) -> Entry:
    if registry.registered(subject, schema):
        return Entry(subject, "registered", registry.id_of(subject, schema))
    if registry.incompatible(subject, schema):
        return Entry(subject, "refuse", why=_told(event_changes(registry.latest(subject), schema)))
    return Entry(subject, "compatible" if registry.known(subject) else "new")


def _told(changes: list[Change]) -> tuple[str, ...]:
    """The latest version may be compatible where an earlier one is not; then the registry alone knows why."""
    return tuple(str(change) for change in changes if change.verdict is not Verdict.COMPATIBLE)
