"""The `saga` command in this process, with no setting but those that a test gives; and small contracts to give it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from saga.cli.app import app

SAGA = get_command(app)
"""All commands, built once: it takes longer than most of them."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands in `folder`."""

    folder: Path

    def __call__(self, *arguments: str | Path, **environment: str) -> Said:
        nothing: dict[str, str | None] = dict.fromkeys(key for key in os.environ if key.startswith("SAGA_"))
        path = [*sys.path]
        try:
            with _logging_kept(), chdir(self.folder), CliRunner().isolation(env={**nothing, **environment}) as (out, err, *_):
                code = _exit_code([str(argument) for argument in arguments])
                sys.stdout.flush()
                return Said(code, _text(out), _text(err))
        finally:
            sys.path[:] = path


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Give the root logger its own handlers back: a worker's would write to a stream that is closed by then, in every test."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        SAGA.main(arguments, prog_name="saga")
    return int(ended.value.code or 0)


def _text(stream: BytesIO) -> str:
    return stream.getvalue().decode().replace("\r\n", "\n")


def schemas(*steps: dict[str, Any], version: int = 1, owner: str = "orders") -> list[dict[str, Any]]:
    """The schemas of a saga `checkout` of these steps; every event is a record of an `order_id`."""
    records, fields = [], []
    for step in steps:
        events = [*step["emits"], *(step[key] for key in ("fails", "compensated") if step.get(key))]
        attributes = {key: value for key, value in step.items() if key != "name"}
        fields.append({"name": step["name"], "type": ["null", *events], "default": None, "step": attributes})
        field = {"name": "order_id", "type": "string"}
        records += [{"type": "record", "name": event, "namespace": "checkout", "fields": [field]} for event in events]
    saga = {"name": "checkout", "version": version, "owner": owner, "deadline": "PT10M"}
    return [*records, {"type": "record", "name": "Checkout", "namespace": "checkout", "saga": saga, "fields": fields}]


def written(folder: Path, contracts: list[dict[str, Any]]) -> Path:
    """A contract folder with these schemas."""
    folder.mkdir(exist_ok=True)
    for schema in contracts:
        (folder / f"{schema['name']}.avsc").write_bytes(orjson.dumps(schema))
    return folder
