"""The classes that a Java program loads, kept for its next start, of which they are the larger part.

Source: JEP 350, dynamic archives of class data sharing. A machine that does not find them good loads them as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from servers.errors import ServerFailed
from servers.maven import cached
from servers.process import LocalServer
from servers.programs import Report

_FILE = "classes.jsa"
# or it would say in the server's log why it does not take an archive
_SILENT = ("-Xlog:disable", "-Xlog:all=error:stderr")


def kept(name: str, program: Sequence[str], made: Callable[[Sequence[str]], LocalServer], report: Report) -> list[str]:
    """The program with what makes it start from its archive, which is recorded once of the server that `made` makes of it.

    `program` begins with the Java machine. Where that cannot record, all stays as it is.
    """
    machine, *rest = program
    java = Path(machine).resolve()
    of = (str(java), str(java.stat().st_mtime_ns), *rest)
    archive = cached(f"{name}-classes", of, lambda folder: _record(program, folder, made), report) / _FILE
    return [machine, f"-XX:SharedArchiveFile={archive}", *_SILENT, *rest] if archive.exists() else [*program]


def _record(program: Sequence[str], folder: Path, made: Callable[[Sequence[str]], LocalServer]) -> None:
    """The archive is written as the program ends, and so has what a start needs."""
    with suppress(ServerFailed):
        machine, *rest = program
        server = made([machine, f"-XX:ArchiveClassesAtExit={folder / _FILE}", *rest])
        try:
            server.start()
            server.close()
        finally:
            server.stop()
