"""`python -m drills NAME`: causes the state of one page of docs/operations on a fleet of its own, for somebody to practise on.

With `--check` it follows the page itself, and audits what becomes of the fleet.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from demo.books import ROOT
from demo.fleet import FleetError
from demo.ground import Ground
from drills import page
from drills.drill import Drill
from drills.scene import DrillFailed, Scene, path_of_commands, staged
from servers.errors import ServerFailed, ServerMissing

NAMES = (
    "parked-growing",
    "stuck-compensation",
    "breaker-open",
    "deadline-burst",
    "lane-paused",
    "unacknowledged-overdue",
    "dead-letters",
    "store-behind",
    "store-behind-postgres",
)
HOME = ROOT / ".demo"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def drill(name: str) -> Drill:
    """The drill of this page."""
    found = import_module(f"drills.{name.replace('-', '_')}").DRILL
    assert isinstance(found, Drill)
    return found


@app.command()
def run(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which; without one they are listed.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Follow the page, and end.")] = False,
) -> None:
    """Cause the state that a page of docs/operations is about, and keep it until Ctrl-C."""
    if name is None:
        for each in NAMES:
            typer.echo(f"  {each:<24} {drill(each).text}{' (needs Kafka and PostgreSQL)' if drill(each).real else ''}")
        typer.echo("\nmake drill NAME=... causes it, and says which page of docs/operations it is about")
        return
    if name not in NAMES:
        typer.echo(f"error: there is no drill {name!r}; there are {', '.join(NAMES)}", err=True)
        raise typer.Exit(2)
    try:
        _run(drill(name), check=check)
    except (DrillFailed, FleetError, ServerMissing, ServerFailed) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _run(one: Drill, *, check: bool) -> None:
    """Its files stay if it fails."""
    HOME.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f"{one.name}-", dir=HOME))
    typer.echo(f"starting the fleet in {home}: {one.text}", err=True)
    _play(one, home, check=check)
    shutil.rmtree(home)


def _play(one: Drill, home: Path, *, check: bool) -> None:
    with grounds(one, home) as ground, staged(home, ground, timeout=one.timeout, deadline=one.deadline) as scene:
        if check:
            one.check(scene)
            typer.echo(f"{one.name}: the page holds, and the books are in order", err=True)
            return
        one.cause(scene)
        _brief(one, scene)
        _practise(one, scene)


@contextmanager
def grounds(one: Drill, home: Path) -> Iterator[Ground | None]:
    """What the fleet of this drill stands on; None is the embedded ground."""
    if not one.real:
        yield None
        return
    from demo.real import real  # its clients are no business of those who run without servers

    with real(home, {}, lambda text: typer.echo(text, err=True)) as ground:
        yield ground


def _brief(one: Drill, scene: Scene) -> None:
    lines = [f"cd {shlex.quote(str(scene.root))}", f"export PATH={shlex.quote(path_of_commands())}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in scene.exports.items()]
    typer.echo("\nIn another terminal:\n")
    typer.echo("\n".join(f"  {line}" for line in lines))
    typer.echo(f"\nThe page is {one.page.relative_to(ROOT)}. Logs and databases are in {scene.fleet.home}.")


def _practise(one: Drill, scene: Scene) -> None:
    """Do what the page asks of people when the person at the keyboard says so, and wait for Ctrl-C."""
    try:
        for act in page.acts(one.page).values():
            typer.echo(f"Enter does what the page asks of people: {act}")
            if not sys.stdin.readline():
                break
            one.acts[act](scene)
            typer.echo("done")
        typer.echo("Ctrl-C ends the drill")
        scene.keep()
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)


if __name__ == "__main__":
    app()
