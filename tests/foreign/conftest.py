"""Programs in JavaScript that judge our documents, with their packages in a folder that git ignores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from servers.process import run
from servers.programs import chromium, npm, one_at_a_time
from tests.serving import missing_is_told
from tests.sources import ROOT

Judge = Callable[..., Any]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Runs one of the scripts of this folder with arguments, and gives what it prints as JSON."""
    with missing_is_told(os.environ):
        installer = npm(print)
    modules = _modules(installer)

    def judged(script: str, *arguments: str | Path) -> Any:
        shutil.copy(HERE / script, modules / script)
        done = subprocess.run(["node", modules / script, *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return orjson.loads(done.stdout)

    return judged


@pytest.fixture(scope="session")
def browser() -> Path:
    """The program of a real browser."""
    with missing_is_told(os.environ):
        return chromium(print)


def _modules(installer: Path) -> Path:
    """The folder with the packages, fetched once for each list of packages."""
    wanted = (HERE / "package.json").read_bytes()
    folder = ROOT / ".cache" / f"foreign-{sha256(wanted).hexdigest()[:8]}"
    with one_at_a_time("foreign"):
        if not (folder / ".installed").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_bytes(wanted)
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
            run("npm install", [str(installer), "install", *options], cwd=folder)
            (folder / ".installed").touch()
    return folder
