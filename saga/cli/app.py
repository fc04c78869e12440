"""The command line itself: its groups, the global options, and the exit codes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from errno import ENOSPC
from importlib.metadata import version as installed
from typing import Annotated, Any

import typer

from saga.cli import output
from saga.cli.listing import Listing, Loaded
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


SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Run a participant": {
        "run": "running.run:run",
        "drain": "running.drain:drain",
        "import": "running.importing:import_records",
        "db": "running.db:db",
        "topics": "running.topics:topics",
        "broker": "running.broker:broker",
    },
    "Look": {
        "health": "looking.health:health",
        "doctor": "looking.doctor:doctor",
        "parked": "looking.parked:parked",
        "list": "looking.list:list_workflows",
        "show": "looking.show:show",
        "unacknowledged": "looking.unacknowledged:unacknowledged",
        "lanes": "looking.lanes:lanes",
        "observe": "looking.observe:observe",
    },
    "Act": {
        "retry": "acting.retry:retry",
        "skip": "acting.intervene:skip",
        "resolve": "acting.intervene:resolve",
        "abort": "acting.intervene:abort",
        "dead-letters": "acting.dead_letters:dead_letters",
    },
    "Read the past": {
        "trace": "past.trace:trace",
        "state": "past.state:tell_state",
        "audit": "past.audit:audit",
        "record": "past.record:record",
        "project": "past.project:project",
        "rebuild": "past.rebuild:rebuild",
    },
    "Contracts": {
        "check": "contracts.check:check",
        "simulate": "contracts.simulate:simulate",
        "schemas": "contracts.schemas:schemas",
        "docs": "contracts.docs:docs",
        "diagram": "contracts.check:diagram",
    },
}
"""The commands and where each is, in the order in which they are listed: first what one does every day and at night."""

AS_JSON = "saga.as_json"
UsageError: Any = typer.BadParameter.__bases__[0]  # which typer does not name


class _Saga(Listing):
    """Turns what the library refuses into a line on stderr and an exit code; other exceptions are bugs and look so."""

    sections = SECTIONS

    def __init__(self, **given: Any) -> None:
        places = {name: f"saga.cli.{place}" for section in SECTIONS.values() for name, place in section.items()}
        super().__init__(**{**given, "commands": Loaded(places)})

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
