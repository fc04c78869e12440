"""Which records a projection has folded already: a relay publishes again after a crash, under the same sequence number.

All numbers are remembered, not only the highest: what Kafka lost is sent again behind what came later.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from saga.contracts.acknowledged import Spans
from saga.replay.entry import Entry
from saga.store.joining import is_sqlite
from saga.store.port import Unit

Key = tuple[str, str]


class Seen:
    """The numbers that came of the workflows of one batch, in `table`, which is the projection's own."""

    def __init__(self, unit: Unit, table: str, batch: Sequence[Entry]) -> None:
        self.unit, self.table = unit, table
        self._mark = "?" if is_sqlite(unit.connection) else "%s"
        self._numbers = self._load(sorted({entry.workflow for entry in batch}))
        self._more: dict[Key, Spans] = {}

    @staticmethod
    def create(unit: Unit, table: str) -> None:
        """Make the table."""
        unit.execute(
            f"CREATE TABLE {table} (workflow TEXT NOT NULL, source TEXT NOT NULL, numbers TEXT NOT NULL, "
            f"PRIMARY KEY (workflow, source))"
        )

    def is_news(self, entry: Entry) -> bool:
        """Whether this record was not folded yet; it counts as folded from now on."""
        key = entry.workflow, entry.source
        numbers = self._numbers.setdefault(key, Spans())
        if entry.sequence in numbers:
            return False
        numbers.add(entry.sequence, entry.sequence + 1)
        self._more[key] = numbers
        return True

    def write(self) -> None:
        """Remember the numbers in the transaction at hand."""
        if not self._more:
            return
        row = f"({', '.join([self._mark] * 3)})"
        values = [value for key, numbers in self._more.items() for value in (*key, orjson.dumps(numbers.spans).decode())]
        self.unit.execute(
            f"INSERT INTO {self.table} VALUES {', '.join([row] * len(self._more))} "  # noqa: S608 - a name of ours
            f"ON CONFLICT (workflow, source) DO UPDATE SET numbers = excluded.numbers",
            values,
        )

    def _load(self, workflows: Sequence[str]) -> dict[Key, Spans]:
        if not workflows:
            return {}
        marks = ", ".join([self._mark] * len(workflows))
        found = self.unit.execute(
            f"SELECT workflow, source, numbers FROM {self.table} WHERE workflow IN ({marks})",  # noqa: S608 - ours
            list(workflows),
        )
        return {(workflow, source): Spans(orjson.loads(numbers)) for workflow, source, numbers in found.fetchall()}
