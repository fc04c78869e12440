"""`saga db`: the tables of the participant's database."""

from __future__ import annotations

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.listing import Listing
from saga.settings import Settings

db = typer.Typer(cls=Listing, help="The tables in the participant's database.", no_args_is_help=True, rich_markup_mode=None)


@db.command()
def upgrade(database: arguments.DatabaseUrl = None, as_json: output.AsJson = False) -> None:
    """Apply the migrations that are missing, each in a transaction; repeating it is harmless."""
    settings = Settings.load(database=database)
    tables = assembly.tables(settings, create=True)
    applied = tables.upgrade()
    if as_json:
        output.json({"database": assembly.database_name(settings), "applied": applied, "version": tables.version()})
        return
    for name in applied:
        output.line(f"applied {name}")
    output.line(f"{assembly.database_name(settings)} is at migration {tables.version()}")


@db.command()
def sql(database: arguments.DatabaseUrl = None, as_json: output.AsJson = False) -> None:
    """Print the SQL of the migrations that are missing, for a database administrator; changes nothing."""
    settings = Settings.load(database=database)
    tables = assembly.tables(settings)
    script = tables.script()
    if as_json:
        output.json({"version": tables.version(), "latest": tables.latest(), "sql": script})
    elif script:
        output.lines(script.rstrip())
    else:
        output.progress(f"nothing is missing: {assembly.database_name(settings)} is at migration {tables.version()}")
