"""Workflows of which the store has nothing, in by COPY: nothing is looked for and nothing replaced, as INSERT would have to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import psycopg

from saga.errors import StoreConflict
from saga.store.postgres_rows import Columns, workflow_columns
from saga.store.postgres_tables import store_error
from saga.store.workflow import Workflow

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPED = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_BRACES = str.maketrans({"{": "{{", "}": "}}"})


def copy_ended(connection: psycopg.Connection[Any], address: str, saga: str, workflows: Sequence[Workflow]) -> None:
    """Write these closed workflows, folded, in the transaction that is open on the connection, which is in no pipeline."""
    columns = {"saga": [saga], **workflow_columns(workflows, {workflow.id for workflow in workflows})}
    names, rows = copied(columns)
    try:
        with connection.cursor().copy(f"COPY saga_workflow ({', '.join(names)}) FROM STDIN") as copy:
            copy.write(rows)
    except psycopg.errors.UniqueViolation as error:
        raise StoreConflict(f"{address}: a workflow was there already ({error.diag.message_detail})") from error
    except psycopg.Error as error:
        raise store_error(address, error) from error


def copied(columns: Columns) -> tuple[list[str], str]:
    """The columns that hold anything, and the rows in COPY's text format; what is alike in all rows is written once."""
    count = columns["rows"]
    held = {name: column for name, column in columns.items() if type(column) is list}
    alike = {name: _texts(column)[0] for name, column in held.items() if len(column) < count}
    form = "\t".join("{}" if name not in alike else alike[name].translate(_BRACES) for name in held)
    rows = map(f"{form}\n".format, *(_texts(column) for name, column in held.items() if name not in alike))
    return [*held], "".join(rows)


def _texts(column: Sequence[Any]) -> list[str]:
    return [r"\N" if value is None else _text(str(value)) for value in column]


def _text(value: str) -> str:
    return value if _SPECIAL.search(value) is None else value.translate(_ESCAPED)
