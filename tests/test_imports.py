"""Imports go one way, heavy libraries live in one adapter each, and declaring a service opens nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatch

from tests.sources import MODULES, ROOT, imports

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "count", "span", "text", "forking", "signals"),
    ("failpoints", "whole"),
    ("settings",),
    ("protocol",),
    ("contracts",),
    ("evolution",),
    ("store",),
    ("transport",),
    ("participant",),
    ("delivery",),
    ("handling",),
    ("engine",),
    ("observe",),
    ("assembly",),
    ("documents",),
    ("replay",),
    ("observer",),
    ("testing",),
    ("cli",),
    ("__main__",),
)
"""From the bottom up; rooms of one layer do not know each other."""

ADAPTERS: Mapping[str, tuple[str, ...]] = {
    "avro": ("saga.evolution.compatibility",),
    "confluent_kafka": ("saga.transport.kafka*", "saga.transport.embedded", "saga.contracts.registry"),
    "fastavro": ("saga.contracts.avro", "saga.replay.avro_file"),
    "opentelemetry": ("saga.observe.*",),
    "psycopg": ("saga.store.postgres*", "saga.replay.tables"),
    "pydantic_settings": ("saga.settings",),
    "rich": ("saga.cli.*",),
    "sqlalchemy": ("saga.store.*",),
    "sqlite3": ("saga.store.*", "saga.replay.tables"),
    "typer": ("saga.cli.*",),
}
"""Library to the modules that may import it."""

HEAVY = ("confluent_kafka", "fastavro", "opentelemetry", "psycopg", "rich", "sqlalchemy", "sqlite3", "typer")

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/app.py"))

WATCHED = """
import sys

FORBIDDEN = {"socket.__new__", "socket.connect", "socket.bind", "sqlite3.connect", "subprocess.Popen", "os.fork", "os.system"}

def watch(event, arguments):
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in FORBIDDEN or written:
        raise PermissionError(f"{event} {arguments}")

sys.addaudithook(watch)
"""


def layer(name: str) -> int:
    room = name.split(".")[1]
    found = [height for height, rooms in enumerate(LAYERS) if room in rooms]
    assert found, f"{name} is in no layer; give the room {room!r} its place in LAYERS and in ARCHITECTURE.md"
    return found[0]


def test_imports_go_downward_only() -> None:
    wrong = [
        f"{name}:{line} imports {imported}"
        for name, file in MODULES.items()
        for line, imported in imports(file)
        if name != "saga" and imported.partition(".")[0] == "saga" and not _downward(name, imported)
    ]

    assert wrong == []


def _downward(name: str, imported: str) -> bool:
    if imported == "saga":
        return False  # the public names are made of everything below them
    same_room = name.split(".")[1] == imported.split(".")[1]
    return same_room or layer(imported) < layer(name)


def test_only_its_adapter_imports_a_library() -> None:
    wrong = [
        f"{name}:{line} imports {imported}"
        for name, file in MODULES.items()
        for line, imported in imports(file)
        for allowed in [ADAPTERS.get(imported.partition(".")[0])]
        if allowed is not None and not any(fnmatch(name, pattern) for pattern in allowed)
    ]

    assert wrong == []


def test_the_core_of_the_protocol_knows_the_standard_library_only() -> None:
    found = {
        imported.partition(".")[0]
        for name, file in MODULES.items()
        if name.startswith("saga.protocol")
        for _, imported in imports(file)
    }

    assert found <= {*sys.stdlib_module_names, "saga"}


def test_importing_the_library_loads_no_adapter() -> None:
    code = f"import saga, sys; print(*sorted(set(sys.modules) & {set(HEAVY)}))"

    assert _python(code).stdout.strip() == ""


def test_declaring_a_service_opens_nothing_and_needs_no_environment() -> None:
    declared = [f"from services.{service}.app import {service}; {service}.check()" for service in SERVICES]

    done = _python("\n".join([WATCHED, *declared, "print('declared')"]))

    assert done.stdout == "declared\n", done.stderr
    assert len(declared) == 4


def test_what_opens_nothing_is_really_watched() -> None:
    done = _python(WATCHED + "import socket; socket.socket()")

    assert "PermissionError: socket.__new__" in done.stderr


def _python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter without any environment."""
    command = [sys.executable, "-B", "-c", code]
    return subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False)
