"""What the commands share that read a saga's history: where it is read from, by which contracts, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from saga import assembly
from saga.cli import output
from saga.contracts.saga import Saga
from saga.count import many
from saga.errors import DefinitionError, SagaError
from saga.replay.contracts import Contracts
from saga.replay.history import History
from saga.replay.recording import RecordingSource
from saga.replay.source import Source, TopicSource
from saga.settings import Settings
from saga.span import rough

Name = Annotated[str, typer.Argument(metavar="SAGA", help="The saga's name, after which its topics are called.")]
Schemas = Annotated[
    list[Path] | None,
    typer.Option("--schemas", metavar="DIR", help="Contract folder, instead of SAGA_SCHEMAS; one for each version."),
]
RegistryUrl = Annotated[str | None, typer.Option("--registry", metavar="URL", help="Instead of SAGA_REGISTRY.")]
Versions = Annotated[
    list[int] | None, typer.Option("--version", metavar="N", help="Of the saga, from the registry: 1; repeatable.")
]
File = Annotated[
    Path | None, typer.Option("--from", metavar="FILE", help="Read what `saga record` wrote, instead of the topics.")
]
Partial = Annotated[bool, typer.Option("--partial", help="Take what is there, although something is missing.")]

EVERY, LOOKED_AT = 1.0, 1000
SHOWN = 10


def contracts(
    settings: Settings, name: str | None, folders: Sequence[Path] | None, versions: Sequence[int] | None
) -> Contracts:
    """The versions of the saga: from the folders given, else from the registry, else from the folder of the settings.

    Without a `name`, the saga of the folder, also where there is a registry.
    """
    registry = assembly.registry(settings)
    if folders or (settings.schemas and (registry is None or name is None)):
        found = [Saga.load(folder) for folder in folders or filter(None, [settings.schemas])]
        if foreign := sorted({saga.name for saga in found} - {name or found[0].name}):
            raise DefinitionError(
                f"found the contracts of saga {', '.join(foreign)}; expected {name!r}. Correct the name, or --schemas."
            )
    elif registry is not None and name is None:
        raise DefinitionError("which saga? a registry knows many; add --saga NAME or --schemas DIR")
    elif registry is not None and name is not None:
        found = [Saga.from_registry(registry, name, version=version) for version in versions or [1]]
    else:
        raise DefinitionError("no contracts are at hand; add --schemas DIR or --registry URL, or set SAGA_SCHEMAS")
    return Contracts(found, registry)


def source(settings: Settings, name: str, file: Path | None) -> Source:
    """The saga's topics, or a recording of them."""
    found: Source = RecordingSource(file) if file is not None else TopicSource(assembly.broker(settings), name)
    if found.saga != name:
        raise DefinitionError(f"{file} is a recording of saga {found.saga!r}; expected {name!r}")
    return found


def refuse_unknown(saga: str, wanted: Sequence[str], seen: Collection[str], at: datetime | None = None) -> None:
    """Refuse workflows that are asked for and not there: a misspelt id would otherwise be a result that lacks it."""
    if unknown := [workflow for workflow in wanted if workflow not in seen]:
        by, what = ("", "the id") if at is None else (f" by {output.moment(at)}", "the id, and --at")
        raise SagaError(f"the topics of saga {saga!r} hold nothing about {', '.join(unknown)}{by}; check {what}")


class Pace:
    """Tells on stderr, once a second, how many records were read, how fast, and how long it will take.

    What is read a second time is counted from the beginning again.
    """

    def __init__(self, size: int | None) -> None:
        self.size, self.read = size, 0
        self.began = self.told = time.monotonic()

    def __call__(self, read: int) -> None:
        if 0 <= read - self.read < LOOKED_AT:
            return
        now = time.monotonic()
        if read < self.read:
            self.began = now
        self.read = read
        if now - self.told < EVERY:
            return
        self.told, rate = now, read / max(now - self.began, 0.001)
        text = f"{many(read, 'record')}, {rate:.0f}/s"
        if self.size:
            left = rough(timedelta(seconds=max(0, self.size - read) / rate))
            text = f"{read} of {self.size} records, {rate:.0f}/s, {left} left"
        output.progress(text)


class Findings:
    """What is missing, by workflow: the first few in words, the others counted."""

    def __init__(self, aged: Sequence[str], contracts: Contracts) -> None:
        self.aged, self.contracts = aged, contracts
        self.first: dict[str, list[str]] = {}
        self.count = 0
        self.unknown: set[int] = set()

    def add(self, history: History, texts: Sequence[str]) -> None:
        """Note it of one workflow, if there is anything."""
        if texts:
            self.count += 1
            self.unknown |= history.versions - self.contracts.sagas.keys()
            if len(self.first) < SHOWN:
                self.first[history.workflow] = [*texts]

    def tell(self, *, partial: bool) -> None:
        """Say on stderr what is missing; exits 1 unless a partial result is wanted."""
        for text in self.aged:
            output.progress(f"  {text}: older records have aged out or were deleted")
        if not self.count:
            return
        for workflow, texts in self.first.items():
            for text in texts:
                output.progress(f"  {workflow}: {text}")
        if self.count > len(self.first):
            output.progress(f"  and {many(self.count - len(self.first), 'more workflow')}")
        word = "workflow is" if self.count == 1 else "workflows are"
        if partial:
            output.progress(f"{self.count} {word} not whole, and marked so")
        else:
            output.error(f"{self.count} {word} not whole, nothing was written; {self._advice}")
            raise typer.Exit(1)

    @property
    def _advice(self) -> str:
        partial = "add --partial to take what is there"
        if not self.unknown:
            return partial
        word, numbers = "versions" if len(self.unknown) > 1 else "version", ", ".join(map(str, sorted(self.unknown)))
        return f"name the contracts of {word} {numbers} too (--schemas DIR or --version N, once for each version), or {partial}"
