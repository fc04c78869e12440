"""Disks that are slow, full or broken, under single servers: a page of C before the writes of libc, where it can be compiled.

No debugger, no file system of its own and no rights are needed. What a server has mapped into memory is not touched.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from servers import LocalServer, ServerFailed

SOURCE = Path(__file__).with_name("disk.c")


class Trouble(StrEnum):
    """What the shim is told, by one byte."""

    NONE = "-"
    SLOW = "s"
    FULL = "f"
    BROKEN = "b"


def lacking() -> str | None:
    """Why nothing can be done to disks here."""
    return None if shutil.which("cc") else "no C compiler (cc) is on this machine"


class Disk:
    """One server's; `told` is the file that says how it is, and whether the server has met it so."""

    def __init__(self, told: Path) -> None:
        self.told = told
        self.told.write_bytes(b"--")
        told.chmod(0o666)

    def was_met(self) -> bool:
        """Whether the server has come upon the latest trouble."""
        return self.told.read_bytes()[1:] == b"!"

    @contextmanager
    def having(self, trouble: Trouble) -> Iterator[None]:
        """Have it be so for the length of a block."""
        self._say(f"{trouble}-")
        try:
            yield
        finally:
            self._say(Trouble.NONE)

    def _say(self, words: str) -> None:
        with self.told.open("r+b") as file:  # in place: it is mapped
            file.write(words.encode())


def under(server: LocalServer) -> Disk:
    """Put the shim under a server that is not started yet. Raises ServerFailed where it cannot be compiled."""
    shim, told = server.home / "disk.so", server.home / "disk"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(shim), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")
    shim.chmod(0o755)
    server.environment = {**server.environment, "LD_PRELOAD": str(shim), "FAULTS_DISK": str(told)}
    return Disk(told)
