"""A server process of ours: it answers before anyone hears of it, and it does not outlive whoever started it.

Every process leads a session of its own, so that Ctrl-C reaches us and not the servers. A tethered one is ended by the kernel
when the thread that started it dies, however it dies.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from servers.errors import ServerFailed

LOOPBACK = "127.0.0.1"
_LOG = "server.log"
_TAIL_LINES = 25
_POLL_SECONDS = 0.05
_TRIES = 50


@dataclass
class LocalServer:
    """One server on this machine, with a folder of its own; what it keeps there is thrown away with it.

    `start` after `crash` goes on with the same data at the same address.
    """

    name: str
    address: str
    home: Path
    command: Sequence[str]
    answers: Callable[[str], bool]
    _: KW_ONLY
    environment: Mapping[str, str] = field(default_factory=dict)
    user: pwd.struct_passwd | None = None  # None: whoever we are
    end: signal.Signals = signal.SIGKILL
    tethered: bool = True
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """The process id; raises ServerFailed when the server is not running."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running; start it first")
        return self._process.pid

    @property
    def log(self) -> Path:
        """Where the server writes what it has to say."""
        return self.home / _LOG

    def start(self, within: float = 120.0) -> None:
        """Return when the server answers; raises ServerFailed with the end of its log when it ends or `within` seconds pass."""
        if self._process is not None:
            raise ServerFailed(f"{self.name} is running already, as process {self._process.pid}")
        command = [*privileges(self.user, self.end if self.tethered else None), *self.command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=self.home,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            await_answer(self.name, lambda: self.answers(self.address), within, self._ended)
        except BaseException as failure:
            self.crash()
            if isinstance(failure, ServerFailed):
                raise ServerFailed(f"{failure}\n{self.log} ends:\n{tail(self.log)}") from failure
            raise

    def crash(self) -> None:
        """End the process at once, with no time to tidy up; its folder stays."""
        if self._process is not None:
            self._process.send_signal(self.end)
            self._process.wait()
            self._process = None

    def close(self, within: float = 60.0) -> None:
        """Ask the process to end in an orderly way; its folder stays. Raises ServerFailed when it has not within so long."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired as late:
                raise ServerFailed(f"{self.name} has not ended {within:.0f} s after SIGTERM") from late
            self._process = None

    def stop(self) -> None:
        """End the process and remove its folder; harmless when repeated."""
        self.crash()
        shutil.rmtree(self.home, ignore_errors=True)

    def let_go(self) -> None:
        """Forget the process and leave it running: whoever calls this has written down its id."""
        if self._process is not None:
            self._process.returncode = 0  # Popen warns of a process that nobody waited for
            self._process = None

    def _ended(self) -> str | None:
        code = None if self._process is None else self._process.poll()
        return None if code is None else f"ended with code {code} before it answered"


def await_answer(name: str, answers: Callable[[], bool], within: float, ended: Callable[[], str | None] = lambda: None) -> None:
    """Return as soon as `answers`; raises ServerFailed once `ended` tells why it never will, or after `within` seconds."""
    deadline = time.monotonic() + within
    while not answers():
        if reason := ended():
            raise ServerFailed(f"{name} {reason}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"{name} did not answer within {within:.0f} s")
        time.sleep(_POLL_SECONDS)


def run(name: str, command: Sequence[str], *, cwd: Path, user: pwd.struct_passwd | None = None) -> None:
    """Run a program to its end; raises ServerFailed with the end of what it printed when that end is not a good one."""
    done = subprocess.run(  # noqa: S603
        [*privileges(user, signal.SIGKILL), *command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        printed = "\n".join(done.stdout.splitlines()[-_TAIL_LINES:])
        raise ServerFailed(f"{name} ended with code {done.returncode}; `{' '.join(command)}` printed:\n{printed}")


def privileges(user: pwd.struct_passwd | None, tether: signal.Signals | None) -> list[str]:
    """What to put before a command so that it runs as `user` and gets the signal `tether` when its parent dies."""
    identity = [] if user is None else [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    leash = [] if tether is None else [f"--pdeathsig={tether.name}"]
    return ["setpriv", *identity, *leash, "--"] if identity or leash else []


def workspace(name: str, user: pwd.struct_passwd | None = None) -> Path:
    """A new temporary folder that `user` owns."""
    home = Path(tempfile.mkdtemp(prefix=f"saga-{name}-"))
    if user is not None:
        os.chown(home, user.pw_uid, user.pw_gid)
    return home


def free_port() -> int:
    """A loopback port that nobody listens on, outside the range from which the kernel picks ports of outgoing connections."""
    first, last = 15_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    for _ in range(_TRIES):
        port = random.SystemRandom().randint(first, last)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise ServerFailed(f"no free port between {first} and {last} in {_TRIES} tries; see `ss -ltn` for who has them")


def tail(log: Path) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
