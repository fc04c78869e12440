"""The `saga` command in this process: a working folder of its own, and no setting but those that a test gives."""

from __future__ import annotations

import os
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from typer.testing import CliRunner

from saga.cli.app import app


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
        with chdir(self.folder):
            result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={**nothing, **environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)
