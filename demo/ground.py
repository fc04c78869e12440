"""What a fleet stands on: one database per service, and the broker between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from demo.books import Books


class Ground(Protocol):
    """`processes` maps the names of processes that have to run before all others to their commands."""

    @property
    def books(self) -> Books: ...
    @property
    def processes(self) -> Mapping[str, Sequence[str]]: ...

    def lay(self, opening: Mapping[str, int]) -> None:
        """Make the services' tables, and put the opening stock in."""
        ...

    def ready(self, name: str) -> bool:
        """Whether a process of its own serves."""
        ...

    def environment(self, service: str) -> dict[str, str]:
        """What tells a service where its database and its broker are."""
        ...
