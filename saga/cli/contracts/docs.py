"""`saga docs`: what a contract folder tells its readers, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from saga.cli import output
from saga.contracts.saga import Saga
from saga.count import many
from saga.documents.folder import write
from saga.documents.library import library
from saga.documents.lint import Finding, lint
from saga.documents.past import Past, past
from saga.errors import DefinitionError
from saga.evolution.history import History

Folders = Annotated[list[Path], typer.Argument(metavar="DIR", help="The contract folders of one or more sagas.")]
Into = Annotated[Path, typer.Option("--into", metavar="DIR", help="Where to write; files of an earlier run are replaced.")]
Partitions = Annotated[
    int | None, typer.Option("--partitions", metavar="N", min=1, help="Partitions of each topic, for AsyncAPI to tell.")
]
Check = Annotated[bool, typer.Option("--check", help="Only say which texts are missing; write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that has files of others; those are kept.")]


def docs(
    folders: Folders,
    into: Into = Path("build/docs"),
    partitions: Partitions = None,
    check: Check = False,
    force: Force = False,
    as_json: output.AsJson = False,
) -> None:
    """Write the documents of sagas: a site to read without a network, AsyncAPI 3 and Mermaid.

    The site has a page for each saga, participant and event, and the folder's history in git. There is an AsyncAPI document for
    each saga and each participant. The same contracts always give the same bytes.

    Writes nothing and exits 1 while a text is missing: a purpose, what success is, how a step fails, what a time limit means.
    """
    sagas = [Saga.load(folder) for folder in folders]
    findings = [(folder, finding) for folder, saga in zip(folders, sagas, strict=True) for finding in lint(saga)]
    if findings:
        _refuse(findings, as_json)
    if check:
        _tell({"missing": []}, f"no text is missing in {', '.join(map(str, folders))}", as_json)
        return
    told = [(saga, _past(folder, saga)) for folder, saga in zip(folders, sagas, strict=True)]
    done = write(into, library(told, partitions=partitions), force=force)
    said = f"wrote {many(len(done.written), 'file')} to {into}" + (f", removed {len(done.removed)}" if done.removed else "")
    _tell({"missing": [], "into": into, "written": done.written, "removed": done.removed}, said, as_json)


def _past(folder: Path, saga: Saga) -> Past:
    """What git knows; documents are written without it as well."""
    try:
        return past(saga, History(folder))
    except DefinitionError as error:
        output.progress(f"the pages of {saga.name} tell no history: {error}")
        return {}


def _refuse(findings: Sequence[tuple[Path, Finding]], as_json: bool) -> None:
    if as_json:
        output.json({"missing": [{"folder": folder, "place": f.place, "text": f.text} for folder, f in findings]})
    else:
        for folder, finding in findings:
            output.line(f"{folder}: {finding.place}: {finding.text}")
        output.progress(
            f"{len(findings)} texts are missing, nothing was written; where they go: docs/saga-schema.md, 'What must be said'"
        )
    raise typer.Exit(1)


def _tell(data: dict[str, object], text: str, as_json: bool) -> None:
    if as_json:
        output.json(data)
    else:
        output.line(text)
