"""Starts the fleet as separate processes on this machine, each with its own database, and leaves none of them behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.books import GATEWAY, ROOT, SERVICES
from demo.embedded import Embedded
from demo.ground import Ground
from servers.process import free_port

COMMAND = os.fspath(Path(sys.executable).with_name("saga"))
OWN_VARIABLES = ("SAGA_", "ORDERS_", "STOCK_", "PAYMENTS_", "SHIPPING_", "GATEWAY_")
LANES = "SELECT count(*), coalesce(sum(epoch), 0), (SELECT max(partitions) FROM saga_topics) FROM saga_lane"
POLL = 0.05
GRACE, GRACE_OF_SERVERS = 3.0, 1.0


class FleetError(Exception):
    """A process did not do what the fleet needs; the text gives the end of its log."""


class Fleet:
    """The payment gateway and the four services on a `ground`, by default the embedded one; logs are in the folder `home`.

    Their code is that of the folder `root`, by default the project. As a context manager it starts everything and stops it
    within 5 s at the end of the block, however that ends. The steps of that can be taken one by one: `prepare`, `start`,
    `wait_ready`, `wait_dead`, `restart`, `stop`. Another fleet has other `services`, and other processes `beside` them.
    """

    services: tuple[str, ...] = SERVICES
    beside: tuple[str, ...] = (GATEWAY,)

    def __init__(self, home: Path, *, opening: Mapping[str, int], ground: Ground | None = None, root: Path = ROOT) -> None:
        self.home, self.opening, self.ground, self.root = home, opening, ground or Embedded(home), root
        self.books, self.names = self.ground.books, (*self.ground.processes, *self.beside, *self.services)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.orders_port, self.gateway_port = free_port(), free_port()
        self._epochs: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where orders' API listens."""
        return f"http://127.0.0.1:{self.orders_port}"

    @property
    def path(self) -> str:
        """PYTHONPATH: the services of `root` first, all else from the project."""
        return os.pathsep.join(dict.fromkeys([os.fspath(self.root), os.fspath(ROOT)]))

    def prepare(self) -> None:
        """Make the databases with their tables, and put the opening stock in."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.ground.lay(self.opening)

    def start_all(self, env: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Start every process and wait until all are ready; `env` maps names to additions to their environment."""
        for name in self.names:
            self.start(name, (env or {}).get(name, {}))
            if name in self.ground.processes:
                self.wait_ready(name)
        for name in self.names:
            self.wait_ready(name)

    def start(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Start one process; `env` is added to its environment. Does not wait for it."""
        if name in self.services:
            self._epochs[name] = self._lanes(name)[1]
        command = [sys.executable, "-m", "demo.tether", str(os.getpid()), *self.command(name)]
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.root,
                env={**foreign_environment(), "PYTHONPATH": self.path, **self.environment(name), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def restart(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Start a process that is dead again, on the same files and the same port, and wait until it is ready."""
        self.start(name, env)
        self.wait_ready(name)

    def wait_ready(self, name: str, timeout: float = 60.0) -> None:
        """Wait until the process serves: broker and HTTP servers accept connections, a worker owns all lanes."""
        self._wait(lambda: self._ready(name), name, f"not ready after {timeout:.0f} s", timeout)

    def wait_dead(self, name: str, timeout: float = 60.0) -> int:
        """Wait until the process has ended; answers its exit status, minus the signal that ended it."""
        try:
            return self.processes[name].wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise FleetError(f"{name} is still alive after {timeout:.0f} s") from error

    def require_alive(self) -> None:
        """Raises FleetError if a process has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise self._failed(name, f"ended with status {process.returncode}")

    def stop(self) -> None:
        """End everything within 5 s: the services drain first, while gateway and broker still answer; nothing survives."""
        _end([p for name, p in self.processes.items() if name in self.services], GRACE)
        _end([p for name, p in self.processes.items() if name not in self.services], GRACE_OF_SERVERS)
        self.processes.clear()

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def command(self, name: str) -> list[str]:
        """What is run, as a person would in a terminal."""
        if name in self.ground.processes:
            return [*self.ground.processes[name]]
        if name == GATEWAY:
            return [sys.executable, "-m", "services.payments.gateway"]
        if name == "orders":
            return [sys.executable, "-m", "services.orders"]
        return [COMMAND, "run", f"services.{name}.app:{name}"]

    def environment(self, name: str) -> dict[str, str]:
        """What a process is configured by."""
        if name == GATEWAY:
            return {"GATEWAY_PORT": str(self.gateway_port), "GATEWAY_DATABASE": os.fspath(self.books.path(GATEWAY).absolute())}
        if name in self.ground.processes:
            return {}
        own = {
            "orders": {"ORDERS_PORT": str(self.orders_port)},
            "payments": {"PAYMENTS_GATEWAY": f"http://127.0.0.1:{self.gateway_port}"},
        }
        return {**self.ground.environment(name), **own.get(name, {})}

    def _ready(self, name: str) -> bool:
        if name in self.ground.processes:
            return self.ground.ready(name)
        if name == GATEWAY:
            return _accepts(self.gateway_port)
        lanes, epochs, partitions = self._lanes(name)
        owned = lanes == partitions and epochs >= self._epochs[name] + lanes
        return owned and (name != "orders" or _accepts(self.orders_port))

    def _lanes(self, service: str) -> tuple[int, int, int | None]:
        """Lanes ever owned, the sum of their epochs (every owner raises one), and how many there will be."""
        [(lanes, epochs, partitions)] = self.books.rows(service, LANES)
        return lanes, int(epochs), partitions

    def _wait(self, condition: Callable[[], bool], name: str, complaint: str, timeout: float) -> None:
        give_up = time.monotonic() + timeout
        while not condition():
            if (status := self.processes[name].poll()) is not None:
                raise self._failed(name, f"ended with status {status}")
            if time.monotonic() > give_up:
                raise self._failed(name, complaint)
            time.sleep(POLL)

    def _failed(self, name: str, complaint: str) -> FleetError:
        tail = self.log(name).read_text(errors="replace").splitlines()[-15:]
        return FleetError(f"{name}: {complaint}. The end of {self.log(name)}:\n" + "\n".join(tail))


def foreign_environment() -> dict[str, str]:
    """This process's environment without settings of ours, which would reach every process of the fleet."""
    return {key: value for key, value in os.environ.items() if not key.startswith(OWN_VARIABLES)}


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(processes: list[subprocess.Popen[bytes]], grace: float) -> None:
    """SIGTERM to all, then SIGKILL to the process groups of those that have not ended in `grace` seconds."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    give_up = time.monotonic() + grace
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, give_up - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
