"""The command line itself: its groups, the global options, and the exit codes."""

from __future__ import annotations

import sys
from errno import ENOSPC
from importlib.metadata import version as installed
from typing import Annotated, Any

import typer

from saga.cli import output
from saga.cli.acting.dead_letters import dead_letters
from saga.cli.acting.intervene import abort, resolve, skip
from saga.cli.acting.retry import retry
from saga.cli.contracts.check import check, diagram
from saga.cli.contracts.docs import docs
from saga.cli.contracts.schemas import schemas
from saga.cli.contracts.simulate import simulate
from saga.cli.listing import Listing
from saga.cli.looking.doctor import doctor
from saga.cli.looking.health import health
from saga.cli.looking.lanes import lanes
from saga.cli.looking.list import list_workflows
from saga.cli.looking.parked import parked
from saga.cli.looking.show import show
from saga.cli.looking.unacknowledged import unacknowledged
from saga.cli.past.audit import audit
from saga.cli.past.project import project
from saga.cli.past.rebuild import rebuild
from saga.cli.past.record import record
from saga.cli.past.state import tell_state
from saga.cli.past.trace import trace
from saga.cli.running.broker import broker
from saga.cli.running.db import db
from saga.cli.running.drain import drain
from saga.cli.running.importing import import_records
from saga.cli.running.run import run
from saga.cli.running.topics import topics
from saga.errors import DefinitionError, SagaError
from saga.settings import Settings
from saga.text import spelt_out

EPILOG = """\b
Exit codes:
  0  done, holds, or drained after SIGTERM or Ctrl-C
  1  refused, not found, or failed while it ran
  2  wrong use: options, settings, a definition, or a database without our tables
  3  the saga needs a new version (`saga schemas check|diff`)

With --json a failure is told on stdout, too: {"error": {"type": "StoreError", "message": TEXT}}

Settings come from SAGA_... in the environment, then from .env; docs/configuration.md explains each:
"""
EPILOG += ", ".join(f"SAGA_{name.upper()}" for name in Settings.model_fields if name != "failpoints") + "."


SECTIONS = {
    "Run a participant": ("run", "drain", "import", "db", "topics", "broker"),
    "Look": ("health", "doctor", "parked", "list", "show", "unacknowledged", "lanes"),
    "Act": ("retry", "skip", "resolve", "abort", "dead-letters"),
    "Read the past": ("trace", "state", "audit", "record", "project", "rebuild"),
    "Contracts": ("check", "simulate", "schemas", "docs", "diagram"),
}
"""The commands in the order in which they are listed: first what one does every day and at night."""

AS_JSON = "saga.as_json"
UsageError: Any = typer.BadParameter.__bases__[0]  # which typer does not name


class _Saga(Listing):
    """Turns what the library refuses into a line on stderr and an exit code; other exceptions are bugs and look so."""

    sections = SECTIONS

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if wrong := [text for text in args if text != spelt_out(text)]:
            raise typer.BadParameter(f"found {spelt_out(wrong[0])!r}; expected text in UTF-8")
        ctx.meta[AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with output.answering(as_json=ctx.meta[AS_JSON]):
            return self._told(ctx)

    def _told(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:  # the library tells it on stderr
            output.failed(UsageError(error.format_message()))
            raise
        except SagaError as error:
            output.error(error, debug=ctx.params["debug"])
            raise typer.Exit(2 if isinstance(error, DefinitionError) else 1) from error
        except OSError as error:
            if error.filename is None and error.errno != ENOSPC:
                raise
            output.error(f"{error.filename or 'output'}: {error.strerror}", debug=ctx.params["debug"])
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Saga,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"saga-choreography {installed('saga-choreography')}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def saga(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Run and look after the participants of choreography sagas."""


app.command()(run)
app.command("list")(list_workflows)
app.command()(show)
app.command("state")(tell_state)
app.command()(audit)
app.command()(rebuild)
app.command()(trace)
app.command()(record)
app.command()(project)
app.command()(parked)
app.command()(unacknowledged)
app.command()(retry)
app.command()(skip)
app.command()(resolve)
app.command()(abort)
app.command()(drain)
app.command("import")(import_records)
app.command()(doctor)
app.command()(health)
app.command()(check)
app.command()(simulate)
app.command()(broker)
app.command()(diagram)
app.command()(docs)
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(topics, name="topics")
app.add_typer(schemas, name="schemas")
app.add_typer(db, name="db")
app.add_typer(lanes, name="lanes")
