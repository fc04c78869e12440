"""A fleet at its work, and whether the business was done right: what every load must be able to say of itself."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from demo.audit import Finding
from demo.fleet import Fleet
from demo.ground import Ground
from demo.real import Real
from saga.testing.checker.evidence import Call, Effect

PATIENCE = 90.0

Settings = Mapping[str, Mapping[str, str]]
"""Of services by name: what is added to the environment of each of their processes."""
HOURS = "FAULTS_HOURS"
"""The one by which the clock of a service is ahead."""


class Crowd(Fleet):
    """A fleet in which a service may have more than one process: `stock-2` is another one of `stock`."""

    def __init__(self, home: Path, opening: Mapping[str, int], ground: Ground, settings: Settings) -> None:
        super().__init__(home, opening=opening, ground=ground)
        self.settings = settings

    def command(self, name: str) -> list[str]:
        service = name.partition("-")[0]
        hours = self.settings.get(service, {}).get(HOURS)
        return [*([sys.executable, "-m", "faults.clocks", hours] if hours else []), *self.program(service)]

    def program(self, service: str) -> list[str]:
        """What one process of a service runs."""
        return super().command(service)

    def environment(self, name: str) -> dict[str, str]:
        service = name.partition("-")[0]
        return {**super().environment(service), **self.settings.get(service, {})}

    def wait_ready(self, name: str, timeout: float = PATIENCE) -> None:
        super().wait_ready(name, timeout)


class Workload(ABC):
    """One run of it, on `ground`. `sent` counts what was asked for.

    `victim` is whom a fault befalls that befalls one service only, `external` who calls a foreign system, if anybody does.
    `one` is what the load consists of, in the plural, for the page.
    """

    name: ClassVar[str]
    one: ClassVar[str]
    kind: ClassVar[type[Real]]
    victim: ClassVar[str]
    external: ClassVar[str | None] = None
    opening: ClassVar[Mapping[str, int]] = {}
    crowd: ClassVar[type[Crowd]] = Crowd

    def __init__(self, home: Path, ground: Ground, settings: Settings) -> None:
        self.fleet = self.crowd(home, self.opening, ground, settings)

    @property
    @abstractmethod
    def sent(self) -> int: ...

    @abstractmethod
    def send(self, turns: Iterator[int]) -> None:
        """Ask for one more piece of work at each turn; return once all were taken in."""

    @abstractmethod
    def findings(self) -> list[Finding]:
        """Every claim of the business; those that say "conserved" are invariant I5."""

    def calls(self) -> list[Call] | None:
        """What callers asked and were told, where that is kept."""
        return None

    def effects(self) -> Iterable[Effect] | None:
        """All effects of all handlers, where services keep them."""
        return None
