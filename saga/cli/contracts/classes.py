"""`saga schemas python`: event classes from contracts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from saga.cli import output
from saga.cli.contracts.check import Folder
from saga.contracts import python as source
from saga.contracts.saga import Saga
from saga.whole import put


def python(
    folder: Folder,
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of the screen.")] = None,
    participant: Annotated[
        str | None, typer.Option("--participant", metavar="NAME", help="Only what this participant reads and writes.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if FILE is out of date.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Write a typed class for each event; the same contracts give the same text."""
    words = ["saga", "schemas", "python", str(folder)]
    words += ["-o", str(to)] if to else []
    words += ["--participant", participant] if participant else []
    text = source.python(Saga.load(folder), participant, command=shlex.join(words))
    if check:
        _compare(text, to, shlex.join(words))
    elif to is not None:
        put(to, text.encode())
    if as_json:
        output.json({"file": to, "text": text})
    elif to is None:
        typer.echo(text, nl=False)
    else:
        output.line(f"{to} is {'up to date' if check else 'written'}")


def _compare(text: str, file: Path | None, command: str) -> None:
    if file is None:
        raise typer.BadParameter("name the file to be looked at with -o FILE", param_hint="--check")
    if not file.exists() or file.read_text() != text:
        output.error(f"{file} is not what the contracts say; run: {command}")
        raise typer.Exit(1)
