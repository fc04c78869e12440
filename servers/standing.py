"""Servers that stand until someone takes them down: which processes they are, written to a file of the work tree.

Only these processes are ever ended: a process id alone may long belong to somebody else, so its start is kept with it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from servers import kafka, postgres, registry
from servers.errors import ServerFailed
from servers.process import LocalServer
from servers.programs import Report

FOLDER = Path(__file__).parent.parent / ".servers"
VARIABLES: Mapping[str, str] = {"kafka": "SAGA_BROKER", "postgres": "SAGA_DATABASE", "registry": "SAGA_REGISTRY"}


class Starter(Protocol):
    """Makes a server that is not started yet."""

    def __call__(self, report: Report, *, tethered: bool) -> LocalServer: ...


_ALL: Mapping[str, Starter] = {"kafka": kafka.local, "postgres": postgres.local, "registry": registry.local}
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Standing:
    """One server that we started; `began` is when, in the kernel's ticks since boot, and `end` the signal that ends it."""

    name: str
    address: str
    pid: int
    began: str
    home: str
    end: int

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return bool(self.began) and _began(self.pid) == self.began  # without a start it had died before it was written down

    def down(self) -> None:
        """End the process and remove its data; raises ServerFailed when it does not end."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, self.end)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.alive:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name}, process {self.pid}, does not end; see the log in {self.home}")
            time.sleep(0.05)
        shutil.rmtree(self.home, ignore_errors=True)


class StandingSet:
    """The servers written down in `folder`, which tells git to look away."""

    def __init__(self, folder: Path = FOLDER, starters: Mapping[str, Starter] = _ALL) -> None:
        self._file, self._starters = folder / "servers.json", starters

    def members(self) -> dict[str, Standing]:
        """What was started and not taken down, by name, alive or not. Raises ServerFailed for a file that is not ours."""
        try:
            written = json.loads(self._file.read_text()) if self._file.exists() else {}
            return {name: Standing(**entry) for name, entry in written.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ServerFailed(
                f"{self._file} cannot be read as the list of servers that run ({error}); end what still runs, and delete it"
            ) from error

    def up(self, report: Report) -> dict[str, Standing]:
        """Start what is not alive and return all; raises ServerMissing or ServerFailed, and keeps what did start."""
        members = self.members()
        for name, local in self._starters.items():
            if name in members and members[name].alive:
                continue
            if name in members:
                members.pop(name).down()  # it died by itself; its data goes
            self._write(members)  # what could not be written down afterwards would run for ever
            report(f"starting {name}")
            members[name] = _stand(local(report, tethered=False))
            self._write(members)
        return members

    def down(self, report: Report) -> None:
        """Take down all that was started, and forget it; raises ServerFailed when one does not end."""
        members = self.members()
        for name in list(members):
            report(f"stopping {name}")
            members[name].down()
            del members[name]
            self._write(members)

    def _write(self, members: Mapping[str, Standing]) -> None:
        folder, unfinished = self._file.parent, self._file.with_suffix(".unfinished")
        try:
            folder.mkdir(exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
            unfinished.write_text(json.dumps({name: asdict(member) for name, member in members.items()}, indent=1))
            unfinished.rename(self._file)
        except OSError as error:
            raise ServerFailed(f"{folder}: what runs cannot be written down: {error.strerror}") from error


def _stand(server: LocalServer) -> Standing:
    server.start()
    standing = Standing(server.name, server.address, server.pid, _began(server.pid), str(server.home), server.end)
    server.let_go()
    return standing


def _began(pid: int) -> str:
    """Tell two processes of one id apart; empty when there is none, or when it has ended and nobody has asked how."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]
