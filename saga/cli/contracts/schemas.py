"""`saga schemas plan|register|pull`: the contracts of a folder, and those of the registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from saga import assembly
from saga.cli import output
from saga.cli.arguments import RegistryUrl
from saga.cli.contracts import classes, evolution
from saga.cli.contracts.check import Folder
from saga.cli.listing import Listing
from saga.contracts.registry import Registry
from saga.contracts.saga import Saga
from saga.contracts.schema import full_name
from saga.count import many
from saga.errors import DefinitionError
from saga.evolution.plan import Entry, plan, registered_version, subjects
from saga.protocol.check import check as proved
from saga.protocol.story import render
from saga.settings import Settings
from saga.whole import put

schemas = typer.Typer(cls=Listing, help="The contracts, and how they change.", no_args_is_help=True, rich_markup_mode=None)
schemas.command("check")(evolution.check)
schemas.command("diff")(evolution.diff)
schemas.command("python")(classes.python)


@schemas.command("plan")
def plan_(folder: Folder, registry: RegistryUrl = None, as_json: output.AsJson = False) -> None:
    """Say what `register` would do, and register nothing; exits 1 if something would be refused."""
    _tell(plan(Saga.load(folder), _registry(registry)), as_json)


@schemas.command()
def register(folder: Folder, registry: RegistryUrl = None, as_json: output.AsJson = False) -> None:
    """Register the saga, its events and the library's own records, once the saga is proved to hold.

    Subjects are set to FULL_TRANSITIVE compatibility. If one schema is refused nothing is registered, and it exits 1.
    """
    saga, known = Saga.load(folder), _registry(registry)
    _refuse_unsafe(saga)
    entries = plan(saga, known)
    if not any(entry.state == "refuse" for entry in entries):
        output.progress(f"registering {many(len(entries), 'schema')}")
        entries = [Entry(subject, "registered", known.register(subject, schema)) for subject, schema in subjects(saga)]
    _tell(entries, as_json)


@schemas.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's name.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the files are written.")],
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="Instead of the highest.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    registry: RegistryUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Write the contracts of a registered saga into a folder, one file for each type."""
    known = _registry(registry)
    saga = Saga.from_registry(known, name, version=version or registered_version(known, name))
    own = {**saga.own, "fields": [field for field in saga.own["fields"] if field["name"] != "workflow"]}
    schemas = [own, *(schema for name, schema in saga.types.items() if not name.startswith("saga."))]
    if (there := sorted(to.glob("*.avsc"))) and not overwrite:
        raise DefinitionError(f"{to} holds {there[0].name} already; name an empty folder, or say --overwrite")
    to.mkdir(parents=True, exist_ok=True)
    names = [str(schema["name"]) for schema in schemas]
    files = []
    for schema in schemas:
        stem = str(schema["name"])
        file = to / f"{stem if names.count(stem) == 1 else full_name(schema, '')}.avsc"
        put(file, orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        files.append(str(file))
    if as_json:
        output.json({"saga": saga.name, "version": saga.version, "files": sorted(files)})
    else:
        output.line(f"{many(len(files), 'contract')} of saga {saga.name} v{saga.version} in {to}")


def _registry(url: str | None) -> Registry:
    return assembly.registry_needed(Settings.load(registry=url))


def _refuse_unsafe(saga: Saga) -> None:
    report = proved(saga)
    if report.verdict == "refused":
        stories = "\n".join(render(problem) for problem in report.problems)
        raise DefinitionError(f"saga {saga.name} v{saga.version} is refused, nothing was registered: {stories}")


def _tell(entries: list[Entry], as_json: bool) -> None:
    refused = [entry for entry in entries if entry.state == "refuse"]
    if as_json:
        output.json({"subjects": [asdict(entry) for entry in entries]})
    else:
        rows = [[entry.subject, entry.state, str(entry.id or "")] for entry in entries]
        output.table(["subject", "state", "id"], rows)
        for entry in refused:
            for why in entry.why or ("an older version than the latest does not go together with it",):
                output.line(f"{entry.subject}: {why}", style="bold red")
    if refused:
        output.error(
            "not compatible: give new fields a default, drop only those that have one, or make a new event; "
            "what changes the steps needs a new version of the saga. See docs/evolution.md"
        )
        raise typer.Exit(1)
