"""The tables of a store, which migrations make and change: what `saga db` works on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from saga.errors import DefinitionError
from saga.store.statements import Migration, migrations


class Tables(ABC):
    """The schema of one database; `place` is how people are told where that is, `begin` how its transactions begin."""

    database: ClassVar[str]
    begin: ClassVar[str]
    record: ClassVar[str]
    """The statement that notes a migration, its number and name to be filled in."""
    claimed: ClassVar[str] = "SELECT count(*) > 0 FROM saga_lane"

    def __init__(self, place: str) -> None:
        self.place, self._migrations = place, migrations(self.database)

    @abstractmethod
    def version(self) -> int:
        """The number of the last migration applied; 0 in an empty database."""

    @abstractmethod
    def lived_on(self) -> bool:
        """Whether a lane of this database was ever claimed."""

    @abstractmethod
    def upgrade(self) -> list[str]:
        """Apply what is missing, each migration in a transaction; answers the names applied. Raises as `known`."""

    def latest(self) -> int:
        return self._migrations[-1].number

    def script(self) -> str:
        """The SQL of what is missing, for a database administrator."""
        return "\n".join(f"-- {m.name}\n{self.begin};\n{self._recorded(m)}\nCOMMIT;\n" for m in self._missing())

    def known(self) -> int:
        """The version; raises DefinitionError for one that only a newer library knows."""
        if (found := self.version()) > self.latest():
            raise self._unexpected(found, "upgrade the library, or go back to the database before it")
        return found

    def require(self) -> None:
        """Raise DefinitionError unless the tables are those that this library knows."""
        if (found := self.known()) < self.latest():
            raise self._unexpected(found, "run: saga db upgrade")

    def _missing(self) -> list[Migration]:
        version = self.known()
        return [migration for migration in self._migrations if migration.number > version]

    def _unexpected(self, found: int, step: str) -> DefinitionError:
        state = f"is at migration {found}" if found else "has no saga tables"
        return DefinitionError(f"{self.place} {state}, this library expects migration {self.latest()}; {step}")

    def _recorded(self, migration: Migration) -> str:
        return migration.sql + "\n" + self.record.format(number=migration.number, name=migration.name)
