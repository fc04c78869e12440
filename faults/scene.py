"""Where a fault takes place: servers of its own, proxies before one service, a fleet under load, and what became of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from demo.audit import Finding
from demo.books import ROOT
from demo.feed import settle
from demo.promises import judged
from demo.real import PARTITIONS, Real, RealBooks, real
from faults import disk
from faults.disk import Disk
from faults.proxy import Proxy
from faults.workload import PATIENCE, Settings, Workload
from saga.contracts.topics import fact_topics
from saga.errors import BrokerError
from saga.replay.entry import entry
from saga.testing.checker.evidence import Claim
from saga.testing.checker.invariant import Invariant
from saga.testing.checker.judgement import Judgement
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from servers import LocalServer, kafka, postgres, registry
from servers.process import LOOPBACK, free_port

RATE = 5.0
"""Orders, or transfers, a second."""
POLL = 0.1


class FaultFailed(Exception):
    """The fault could not be injected, or the fleet did not come to rest; the text says which."""


@dataclass(frozen=True)
class Servers:
    """Kafka, PostgreSQL and a registry that only these runs have, and the victim's ways to the first two.

    `disks` are those of the first two, None where this machine has no means to do something to them.
    """

    kafka: LocalServer
    postgres: LocalServer
    registry: LocalServer
    to_kafka: Proxy
    to_postgres: Proxy
    disks: Mapping[str, Disk] | None

    @property
    def addresses(self) -> dict[str, str]:
        return {server.name: server.address for server in (self.kafka, self.postgres, self.registry)}


@contextmanager
def serving(tell: Callable[[str], None]) -> Iterator[Servers]:
    """The servers, up; Kafka has a second listener, advertised at its proxy. Raises ServerMissing."""
    with ExitStack() as stack:
        broker, database, schemas = kafka.local(tell), postgres.local(tell), registry.local(tell)
        listener = f"{LOOPBACK}:{free_port()}"
        to_kafka, to_postgres = Proxy(listener), Proxy(urlsplit(database.address).netloc.rpartition("@")[2])
        stack.callback(to_kafka.close)
        stack.callback(to_postgres.close)
        _listen_twice(broker, listener, to_kafka.address)
        disks = None if disk.lacking() else {server.name: disk.under(server) for server in (broker, database)}
        for server in (broker, database, schemas):
            stack.callback(server.stop)
            server.start()
        yield Servers(broker, database, schemas, to_kafka, to_postgres, disks)


def _listen_twice(broker: LocalServer, listener: str, advertised: str) -> None:
    file = broker.home / "server.properties"
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
    lines["listeners"] += f",PROXIED://{listener}"
    lines["advertised.listeners"] = f"PLAINTEXT://{broker.address},PROXIED://{advertised}"
    lines["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
    lines["inter.broker.listener.name"] = "PLAINTEXT"
    file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))


class _Ground:
    """The real ground, on which the victim reaches Kafka and its database through proxies."""

    def __init__(self, real: Real, servers: Servers, victim: str) -> None:
        self.real, self.servers, self.victim = real, servers, victim
        self.books, self.processes = real.books, real.processes

    def lay(self, opening: Mapping[str, int]) -> None:
        self.real.lay(opening)

    def ready(self, name: str) -> bool:
        return True

    def environment(self, service: str) -> dict[str, str]:
        told = self.real.environment(service)
        if service != self.victim:
            return told
        url = urlsplit(told["SAGA_DATABASE"])
        user = url.netloc.rpartition("@")[0]
        through = url._replace(netloc=f"{user}@{self.servers.to_postgres.address}").geturl()
        return {**told, "SAGA_DATABASE": through, "SAGA_BROKER": self.servers.to_kafka.address}


@dataclass(frozen=True)
class Recovery:
    """Seconds from the end of a fault until the first lane of those it touched went on, and until all had."""

    first: float
    every: float


@dataclass(frozen=True)
class Outcome:
    """What became of one run; `sent` is how many orders or transfers were asked for."""

    sent: int
    recovery: Recovery | None
    judgement: Judgement
    findings: list[Finding]

    @property
    def against(self) -> list[str]:
        """Every violation and every claim of the business that is false."""
        claims = [f"{one.claim}: {text}" for one in self.findings if not one.holds for text in one.against]
        return [str(violation) for violation in self.judgement.violations] + claims


class Scene:
    """A fleet under load; faults are injected through `fleet`, `servers` and the verbs here."""

    def __init__(self, workload: Workload, ground: _Ground, servers: Servers) -> None:
        self.workload, self.ground, self.servers = workload, ground, servers
        self.fleet, self.victim = workload.fleet, workload.victim
        self.services, self.second = workload.fleet.services, f"{workload.victim}-2"
        self.broker = KafkaBroker(KafkaSettings(servers.kafka.address))
        self.loading: Future[None] | None = None
        self._enough = threading.Event()

    def load(self) -> None:
        """Ask for work at an even pace until told that it is enough."""
        self.workload.send(self._turns())

    def _turns(self) -> Iterator[int]:
        for number in count():
            if self._enough.wait(1 / RATE):
                return
            yield number

    def rest(self, seconds: float) -> None:
        """Let the load go on for so long."""
        self._enough.wait(seconds)

    def until(self, condition: Callable[[], object], what: str, *, pause: float = POLL) -> None:
        """Wait for it. Raises FaultFailed if it does not come about."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > give_up:
                raise FaultFailed(f"waited {PATIENCE:.0f} s in vain for {what}; logs are in {self.fleet.home}")
            time.sleep(pause)

    def kill(self, name: str) -> None:
        """SIGKILL, and a new process at once, as a supervisor would start it."""
        self.signal(name, signal.SIGKILL)
        self.fleet.wait_dead(name)
        self.fleet.start(name)

    def share(self) -> None:
        """Start a second process of the victim and wait until it says that lanes are its own."""
        before = self._taken_over()
        self.fleet.start(self.second)
        self.until(lambda: self._taken_over() > before, "two processes to share the lanes")

    def _taken_over(self) -> int:
        """How many lanes the second process has ever taken over; all of its lives write into one log."""
        log = self.fleet.log(self.second)
        return log.read_text().count(" is ours, epoch ") if log.exists() else 0

    def end(self, name: str) -> None:
        """SIGTERM, and a new process once it has drained."""
        self.signal(name, signal.SIGTERM)
        self.fleet.wait_dead(name)
        self.fleet.start(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.fleet.processes[name].send_signal(number)

    def died(self, name: str) -> bool:
        return self.fleet.processes[name].poll() is not None

    def stop_load(self) -> None:
        """Send no more."""
        self._enough.set()

    def finish_load(self) -> None:
        """Send no more, and wait until all that was sent has been taken in."""
        self.stop_load()
        if self.loading is not None:
            self.loading.result()

    def outcome(self, touched: tuple[str, ...], healed: datetime | None) -> Outcome:
        """Wait until nothing is open any more and judge the run."""
        assert isinstance(self.fleet.books, RealBooks)
        self.fleet.books.close()  # its connections may have died with the server
        standing = settle(self.fleet.books, patience=PATIENCE)
        if not standing.settled:
            raise FaultFailed(f"{standing} after {PATIENCE:.0f} s without a move; logs are in {self.fleet.home}")
        findings = self.workload.findings()
        conserved = [f for f in findings if "conserved" in f.claim]
        claims = tuple(Claim(Invariant.CONSERVED, f.claim, lambda f=f: f.against, f.checked) for f in conserved)  # type: ignore[misc]
        judgement = judged(
            self.ground,
            claims=claims,
            calls=self.workload.calls(),
            effects=self.workload.effects(),
            services=self.services,
            contracts=ROOT / self.workload.kind.contracts,
        )
        recovery = self.recovery(touched, healed) if healed else None
        return Outcome(self.workload.sent, recovery, judgement, findings)

    def moved(self, healed: datetime) -> dict[tuple[str, int], datetime]:
        """When each service, in each lane, first stated something after that moment; one consumer reads it all."""
        every = {Partition(topic, lane): None for topic in fact_topics(self.workload.kind.saga) for lane in range(PARTITIONS)}
        first: dict[tuple[str, int], datetime] = {}
        for record in self.broker.read(every):
            one = entry(record)
            if one.time > healed:
                about = one.source, record.partition
                first[about] = min(one.time, first.get(about, one.time))
        return first

    def has_recovered(self, touched: tuple[str, ...], healed: datetime) -> bool:
        """Whether every touched service has stated something in every lane since."""
        try:
            moved = self.moved(healed)
        except BrokerError:  # it has just come back, and does not lead every partition yet
            return False
        return all((name, lane) in moved for name in touched for lane in range(PARTITIONS))

    def recovery(self, touched: tuple[str, ...], healed: datetime) -> Recovery | None:
        """Of the touched services, by the times of their facts; None where they stated none."""
        spans = [(time - healed).total_seconds() for (name, _), time in self.moved(healed).items() if name in touched]
        return Recovery(min(spans), max(spans)) if spans else None


@contextmanager
def staged(
    kind: type[Workload], home: Path, servers: Servers, settings: Settings, armed: Settings, tell: Callable[[str], None]
) -> Iterator[Scene]:
    """A fleet under load while the block lasts, on topics and databases of its own.

    `settings` are those of all processes of services, `armed` those of the first of each alone.
    """
    with real(home, servers.addresses, tell, kind.kind) as ground:
        proxied = _Ground(ground, servers, kind.victim)
        workload = kind(home, proxied, settings)
        scene = Scene(workload, proxied, servers)
        try:
            workload.fleet.prepare()
            workload.fleet.start_all(armed)
            with ThreadPoolExecutor(1) as pool:
                scene.loading = pool.submit(scene.load)
                try:
                    yield scene
                finally:
                    scene.stop_load()  # what went wrong in the block is to be told, not that its load found nobody
        finally:
            workload.fleet.stop()


def now() -> datetime:
    return datetime.now(UTC)
