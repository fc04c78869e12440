"""The services may be read and deployed one by one: they share contracts, never Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.tables import SERVICES

NAMES = ("orders", "stock", "payments", "shipping")


@pytest.mark.parametrize("service", NAMES)
def test_a_service_imports_no_other(service: str) -> None:
    others = [name for name in NAMES if name != service]
    imported = {
        found
        for file in (SERVICES / service).glob("*.py")
        for found in re.findall(r"(?:from|import)\s+services\.(\w+)", file.read_text())
    }

    assert imported <= {service}
    assert imported.isdisjoint(others)


@pytest.mark.parametrize("service", NAMES)
def test_importing_a_service_opens_nothing(service: str) -> None:
    """No connection, no database, no environment: only the contracts are read."""
    program = (
        "import sys\n"
        "opened = []\n"
        "watched = ('socket.connect', 'socket.bind', 'sqlite3.connect', 'subprocess.Popen')\n"
        "sys.addaudithook(lambda event, _: opened.append(event) if event in watched else None)\n"
        f"from services.{service}.app import {service}\n"
        f"{service}.check()\n"
        "assert not opened, opened\n"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=Path.cwd(), env={}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
