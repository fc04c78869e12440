"""One fault: what is done to a fleet under load, and who has to recover from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from demo.books import SERVICES
from faults.scene import VICTIM, Scene


@dataclass(frozen=True, eq=False)
class Fault:
    """`inject` does it and undoes it; it answers the moment from which recovery counts: the kill, or the end of an outage.

    `env` is added to the environment of services at their start. `touched` are those whose recovery is measured. `quick` ones
    are run by the slow tests too.
    """

    id: str
    text: str
    inject: Callable[[Scene], datetime]
    touched: tuple[str, ...] = (VICTIM,)
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    quick: bool = False


def everybody(**settings: str) -> dict[str, dict[str, str]]:
    """Additions to the environment of all services."""
    return {name: settings for name in SERVICES}
