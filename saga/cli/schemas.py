"""`saga schemas`: the contracts of a folder in the schema registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from saga import assembly
from saga.cli import output
from saga.cli.check import Folder
from saga.contracts.registry import Registry
from saga.contracts.saga import Saga
from saga.contracts.schema import Schema
from saga.errors import DefinitionError
from saga.protocol.check import check as proved
from saga.protocol.story import render
from saga.settings import Settings

schemas = typer.Typer(help="The contracts in the schema registry.", no_args_is_help=True, rich_markup_mode=None)

RegistryUrl = Annotated[
    str | None, typer.Option("--registry", metavar="URL", help="Instead of SAGA_REGISTRY: http://host:8080/apis/ccompat/v7")
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One subject, and how the folder's schema relates to what is registered there."""

    subject: str
    state: Literal["registered", "new", "compatible", "refuse"]
    id: int | None = None


@schemas.command()
def check(folder: Folder, registry: RegistryUrl = None, as_json: output.AsJson = False) -> None:
    """Say what `register` would do, and register nothing; exits 1 if a schema is not compatible with its older versions."""
    saga, known = _asked(folder, registry)
    _tell([_entry(known, subject, schema) for subject, schema in subjects(saga)], as_json)


@schemas.command()
def register(folder: Folder, registry: RegistryUrl = None, as_json: output.AsJson = False) -> None:
    """Register the saga, its events and the library's own records, once the saga is proved to hold.

    Subjects are set to FULL_TRANSITIVE compatibility. If one schema is not compatible nothing is registered, and it exits 1.
    """
    saga, known = _asked(folder, registry)
    _refuse_unsafe(saga)
    entries = [_entry(known, subject, schema) for subject, schema in subjects(saga)]
    if not any(entry.state == "refuse" for entry in entries):
        output.progress(f"registering {len(entries)} schemas")
        entries = [Entry(subject, "registered", known.register(subject, schema)) for subject, schema in subjects(saga)]
    _tell(entries, as_json)


def _asked(folder: Path, url: str | None) -> tuple[Saga, Registry]:
    registry = assembly.registry(Settings.load(registry=url))
    if registry is None:
        raise DefinitionError("no registry is configured; set SAGA_REGISTRY=http://host:8080/apis/ccompat/v7, or --registry")
    return Saga.load(folder), registry


def _refuse_unsafe(saga: Saga) -> None:
    report = proved(saga)
    if report.verdict == "refused":
        stories = "\n".join(render(problem) for problem in report.problems)
        raise DefinitionError(f"saga {saga.name} v{saga.version} is refused, nothing was registered: {stories}")


def subjects(saga: Saga) -> Iterator[tuple[str, Schema]]:
    """Everything that is registered of a saga: its published events, the library's records among them, and its state."""
    yield from ((saga.subject(name), saga.contract(name)) for name in saga.published)
    yield saga.state


def _entry(registry: Registry, subject: str, schema: Schema) -> Entry:
    if registry.registered(subject, schema):
        return Entry(subject, "registered", registry.id_of(subject, schema))
    if registry.incompatible(subject, schema):
        return Entry(subject, "refuse")
    return Entry(subject, "compatible" if registry.known(subject) else "new")


def _tell(entries: list[Entry], as_json: bool) -> None:
    if as_json:
        output.json({"subjects": [asdict(entry) for entry in entries]})
    else:
        rows = [[entry.subject, entry.state, str(entry.id or "")] for entry in entries]
        output.table(["subject", "state", "id"], rows)
    if any(entry.state == "refuse" for entry in entries):
        output.error("not compatible: give new fields a default, drop only those that have one, or make a new event")
        raise typer.Exit(1)
