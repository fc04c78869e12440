"""Where a drill takes place: the demo's fleet on a release of its own, the orders it was sent, and what a page needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import NoReturn
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid5

from demo.audit import audit
from demo.books import SERVICES
from demo.feed import Feed, settle
from demo.fleet import COMMAND, Fleet
from demo.ground import Ground
from demo.order import Line, Order
from drills.release import Release
from servers.process import LOOPBACK, free_port
from services.orders.app import ORDERS

MUGS = Line("TIN-MUG", 1, 250)
OPENING = {MUGS.sku: 10_000}
TIMEOUT, DEADLINE = "PT1H", "PT2H"
"""Longer than in production, so that nothing runs out while somebody reads a page."""

OVERDUE = "PT2S"
"""Shorter than in production, so that what is lost is sent again while somebody looks."""

PATIENCE = 60.0
POLL = 0.1


class DrillFailed(Exception):
    """The state did not come about, the page is wrong, or the fleet did not end as it should; the text says which."""


class Scene:
    """A running fleet. `exports` is what has to be set before the commands of a page are run, in the folder `root`."""

    def __init__(self, fleet: Fleet, release: Release, health: Mapping[str, str]) -> None:
        self.fleet, self.release, self.health, self.root = fleet, release, health, release.root
        self.exports: dict[str, str] = {}
        self._feed = Feed(fleet.url, fleet.books, patience=PATIENCE)
        self._numbers = count(1)
        self._totals: dict[str, int] = {}

    def order(self, number: int, country: str = "Spain") -> list[str]:
        """Send so many orders; answers the ids of their workflows."""
        orders = [Order(f"D{n:05}", "4711", country, (MUGS,)) for n in islice(self._numbers, number)]
        self._totals.update((order.order_id, order.total) for order in orders)
        self._feed.send(orders)
        return [str(uuid5(ORDERS, order.order_id)) for order in orders]

    def stop(self, name: str) -> None:
        """End a process in an orderly way."""
        self.fleet.processes[name].terminate()
        self.fleet.wait_dead(name)
        del self.fleet.processes[name]

    def start(self, name: str) -> None:
        """Start one that has ended, and wait until it serves."""
        self.fleet.restart(name, self._env(name))

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it. Raises DrillFailed if it does not come about."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            self.fleet.require_alive()
            if time.monotonic() > give_up:
                raise DrillFailed(f"waited {PATIENCE:.0f} s in vain for {what}; logs are in {self.fleet.home}")
            time.sleep(POLL)

    def keep(self) -> NoReturn:
        """Go on until the keyboard interrupts. Raises FleetError if a process ends by itself."""
        while True:
            self.fleet.require_alive()
            time.sleep(POLL)

    def count(self, owner: str, sql: str) -> int:
        """The number that this statement finds in the database of a service, or of the gateway."""
        [(found,)] = self.fleet.books.rows(owner, sql)
        return int(found)

    def look_at(self, service: str, **more: str) -> None:
        """Whose alarm it is, and more names that the page uses."""
        environment = self.fleet.ground.environment(service)
        settings = {name: environment[name] for name in environment if name != "SAGA_LANES"}
        self.exports = {
            "SERVICE": f"services.{service}.app:{service}",
            **settings,
            "SAGA_SCHEMAS": os.path.relpath(self.release.contracts, self.root),
            **({"SAGA_HEALTH": self.health[service]} if service in self.health else {}),
            **more,
        }

    def figure(self, service: str, name: str) -> float:
        """The sum of a figure of a service, as it is scraped; 0 while nobody answers."""
        try:
            with urlopen(f"http://{self.health[service]}/metrics", timeout=5) as response:
                lines = response.read().decode().splitlines()
        except (URLError, OSError):
            return 0.0
        series = tuple(f"{name.replace('.', '_')}{suffix}{{" for suffix in ("", "_total", "_seconds"))
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

    def settle(self) -> None:
        """Wait until no workflow is open any more."""
        settle(self.fleet.books, self.fleet.require_alive, patience=PATIENCE)

    def finish(self) -> None:
        """Wait for the end of all workflows and look at the books. Raises DrillFailed for whatever they say against it."""
        self.settle()
        findings = audit(self.fleet.books, opening=OPENING, totals=self._totals)
        if wrong := [f"{finding.claim}: {', '.join(finding.against)}" for finding in findings if not finding.holds]:
            raise DrillFailed(f"the audit is not clean: {'; '.join(wrong)}; logs are in {self.fleet.home}")

    def _env(self, name: str) -> dict[str, str]:
        return environment(self.health).get(name, {})


def environment(health: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the services of a drill are told besides."""
    own = {name: {"SAGA_HEALTH": health[name]} if name in health else {} for name in SERVICES}
    return {name: {**settings, "SAGA_OVERDUE": OVERDUE} for name, settings in own.items()}


@contextmanager
def staged(home: Path, ground: Ground | None = None, *, timeout: str = TIMEOUT, deadline: str = DEADLINE) -> Iterator[Scene]:
    """A fleet that runs while the block lasts, with its files in the folder `home`."""
    release = Release(home / "release", timeout=timeout, deadline=deadline)
    fleet = Fleet(home, opening=OPENING, ground=ground, root=release.root)
    health = {name: f"{LOOPBACK}:{free_port()}" for name in ("stock", "payments", "shipping")}
    try:
        fleet.prepare()
        fleet.start_all(environment(health))
        yield Scene(fleet, release, health)
    finally:
        fleet.stop()


def path_of_commands() -> str:
    """PATH, on which `saga` is the one that runs here."""
    return os.pathsep.join([os.path.dirname(COMMAND), os.environ.get("PATH", os.defpath)])
