"""The tables of a store, which migrations make and change: what `saga db` works on."""

from __future__ import annotations

from typing import Protocol


class Tables(Protocol):
    """The store's schema: what `saga db` works on."""

    def version(self) -> int:
        """The number of the last migration applied; 0 in an empty database."""
        ...

    def latest(self) -> int: ...

    def upgrade(self) -> list[str]:
        """Apply what is missing, each migration in a transaction; answers the names applied."""
        ...

    def script(self) -> str:
        """The SQL of what is missing, for a database administrator."""
        ...
