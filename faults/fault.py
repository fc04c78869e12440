"""One fault: what is done to a fleet under load, and who has to recover from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from faults.scene import Scene
from faults.workload import Settings, Workload


class Whom(StrEnum):
    """Whom it befalls, in the words of a workload."""

    VICTIM = "victim"
    EXTERNAL = "external"
    EVERYBODY = "everybody"

    def among(self, workload: type[Workload]) -> tuple[str, ...]:
        """The services that are meant; none where the workload has no such one."""
        if self is Whom.EVERYBODY:
            return workload.kind.services
        found = workload.victim if self is Whom.VICTIM else workload.external
        return (found,) if found else ()


def _nothing(_: type[Workload]) -> Settings:
    return {}


def _no_reason() -> str | None:
    return None


@dataclass(frozen=True, eq=False)
class Fault:
    """`inject` does it and undoes it; it answers the moment from which recovery counts: the kill, or the end of an outage.
    None if there is no such moment.

    `touched` are those whose recovery is measured; they start with this `failpoint` armed, if any. `settings` are added to the
    environment of every process of services. `lacking` says why it cannot be done on this machine, if so. `quick` ones are run
    by the slow tests too.
    """

    id: str
    text: str
    inject: Callable[[Scene], datetime | None]
    touched: Whom = Whom.VICTIM
    failpoint: str = ""
    settings: Callable[[type[Workload]], Settings] = _nothing
    lacking: Callable[[], str | None] = _no_reason
    quick: bool = False

    @property
    def anytime(self) -> bool:
        """Whether it needs nothing that is set at the start of a process."""
        return not self.failpoint and self.settings is _nothing and self.lacking() is None
