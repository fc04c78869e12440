"""What a service declares of a read model: a named, versioned fold of a saga's events into tables of its own. Inert."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from saga.contracts.event import Event, require_events
from saga.contracts.saga import Saga
from saga.contracts.view import check_view
from saga.errors import DefinitionError
from saga.replay.contracts import Contracts
from saga.store.port import Result, Unit

REBUILD = "_rebuild"
"""Behind the names of tables that are being built beside the live ones."""

_LONGEST = 63
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_TABLE = re.compile(r"[a-z_][a-z0-9_]*")
Fold = TypeVar("Fold", bound=Callable[..., None])


class ProjectionTransaction:
    """The open transaction in which events are folded, and their offsets with them; `workflow_id` is that of the event."""

    def __init__(self, unit: Unit, tables: Mapping[str, str]) -> None:
        self._unit, self._tables = unit, tables
        self.workflow_id: str | None = None
        self.workflow_ids: Sequence[str] = ()

    @property
    def connection(self) -> Any:
        """The driver's connection, for whatever `execute` does not cover."""
        return self._unit.connection

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Result:
        """A statement in the driver's own parameter style."""
        return self._unit.execute(sql, parameters)

    def table(self, name: str) -> str:
        """What a declared table is called here: its own name, or another one while it is rebuilt beside the live one."""
        if name not in self._tables:
            raise DefinitionError(f"the projection has no table {name!r}; declared are {', '.join(self._tables)}")
        return self._tables[name]


class Projection:
    """A read model of one saga, or of several versions of it, in `tables`, which belong to it alone.

    Each event is folded exactly once into the database, events of one workflow from one participant in their order. A fold
    must not depend on the order of events of different participants beyond cause before effect, and must do nothing but
    write to `tx`.
    Raise `version` when a fold changes: the tables are then refused until they are rebuilt.
    """

    def __init__(self, name: str, saga: Saga | Sequence[Saga], *, tables: Sequence[str], version: int = 1) -> None:
        if not _NAME.fullmatch(name) or not tables or not all(map(_TABLE.fullmatch, tables)):
            raise DefinitionError(
                f"found projection {name!r} with tables {', '.join(map(repr, tables)) or 'none'}; expected a name like "
                f"'orders-by-day' and at least one table like 'orders_by_day'"
            )
        beside = [f"projection_{name}_seen{REBUILD}", *(f"{table}{REBUILD}" for table in tables)]
        if taken := [found for found in beside if len(found) > _LONGEST or found in tables]:
            raise DefinitionError(
                f"projection {name!r} is rebuilt in {', '.join(taken)}; expected names of at most {_LONGEST} characters, since "
                f"PostgreSQL cuts off what is longer, of which none is that of a live table. Give shorter or other names"
            )
        self.name, self.version, self.tables = name, version, tuple(tables)
        self.contracts = Contracts([saga] if isinstance(saga, Saga) else saga)
        self.folds: dict[str, list[tuple[Callable[..., None], type[Event]]]] = {}
        self.creation: Callable[[ProjectionTransaction], None] | None = None

    def create(self, function: Fold) -> Fold:
        """Declare what makes the tables: `(tx) -> None`, under the names that `tx.table` gives."""
        if self.creation is not None:
            raise DefinitionError(f"projection {self.name!r} has two functions that create its tables; keep one of them")
        self.creation = function
        return function

    def on(self, *views: type[Event]) -> Callable[[Fold], Fold]:
        """Declare what is done with these events: `(event, tx) -> None`, in all versions of the saga that have them.

        Raises DefinitionError for what no version has.
        """
        require_events(views, "on")

        def declare(function: Fold) -> Fold:
            for view in views:
                for name in self._full_names(view):
                    self.folds.setdefault(name, []).append((function, view))
            return function

        return declare

    def _full_names(self, view: type[Event]) -> set[str]:
        """What the event is called in the versions that have it, each of which the view must fit."""
        short, names = view.event_name, set()
        having = [saga for saga in self.contracts.sagas.values() if saga.full_name(short) is not None]
        for saga in having or [self.contracts.latest]:
            names.add(name := saga.event(short))
            check_view(view, saga, name, writes=False)
        return names

    def check(self) -> None:
        """Refuse (DefinitionError) what could not run."""
        if self.creation is None or not self.folds:
            missing = "function that creates its tables (.create)" if self.creation is None else "event that it folds (.on)"
            raise DefinitionError(f"projection {self.name!r} has no {missing}")

    def names(self, *, rebuild: bool = False) -> dict[str, str]:
        """What its tables are called, live or while they are rebuilt."""
        return {table: f"{table}{REBUILD * rebuild}" for table in self.tables}
