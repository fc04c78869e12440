"""`saga check` and `saga diagram`: what the contract folder alone proves and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saga.cli import output
from saga.cli.arguments import RegistryUrl
from saga.cli.contracts.service import check_services
from saga.clock import Clock, SystemClock
from saga.contracts.saga import Saga
from saga.errors import DefinitionError
from saga.protocol.check import Report, refusal
from saga.protocol.check import check as proved
from saga.protocol.diagram import mermaid
from saga.protocol.story import render

EVERY = 5.0
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The saga's contract folder.")]


def check(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The saga's contract folder.")] = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="MODULE:PARTICIPANT", help="Hold this service to DIR, else to the registry."),
    ] = None,
    registry: RegistryUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Prove that every workflow ends completed or compensated, whatever happens in whatever order; exits 1 if not.

    A saga that is refused comes with the shortest run that shows why, as a numbered story. With --service nothing is proved:
    the service's handlers, views and versions are held to the contracts in DIR, or to those registered.
    """
    if service:
        check_services(service, folder, registry, as_json=as_json)
        return
    if folder is None:
        raise DefinitionError(
            "found no contract folder; name it: saga check DIR, or a service: saga check --service MODULE:PARTICIPANT"
        )
    name, report = _report(folder)
    if as_json:
        output.json(report)
    elif report.verdict == "holds":
        output.line(f"{name} holds: in all {report.states} situations it ends completed or compensated", style="green")
    else:
        output.line(f"{name} is refused", style="bold red")
        for problem in report.problems:
            output.lines(render(problem))
    if report.verdict == "refused":
        raise typer.Exit(1)


def diagram(folder: Folder) -> None:
    """Print the saga as a Mermaid diagram, for a Markdown document."""
    output.lines(mermaid(Saga.load(folder)))


def _report(folder: Path) -> tuple[str, Report]:
    try:
        saga = Saga.load(folder)
    except DefinitionError as error:
        if not any(folder.glob("*.avsc")):
            raise  # there is nothing that could be refused
        return str(folder), refusal(error)
    output.progress(f"exploring saga {saga.name} v{saga.version}")
    return f"saga {saga.name} v{saga.version}", proved(saga, tell=_Pace(SystemClock()))


class _Pace:
    """Tells on stderr every few seconds how many situations were found, since nobody knows how many there are."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.told = clock, clock.monotonic()

    def __call__(self, situations: int) -> None:
        if (now := self.clock.monotonic()) - self.told >= EVERY:
            self.told = now
            output.progress(f"{situations:,} situations so far; Ctrl-C ends it, with nothing proved")
