"""Which records a projection has folded already: a relay publishes again after a crash, under the same sequence number.

Within one topic a source first publishes a workflow's facts in their order, so the highest number that came tells whether a
record is new.
"""

from __future__ import annotations

from collections.abc import Sequence

from saga.replay.entry import Entry
from saga.store.port import Unit

Key = tuple[str, str, str]


class Seen:
    """The highest numbers of the workflows of one batch, in `table`, which is the projection's own."""

    def __init__(self, unit: Unit, table: str, batch: Sequence[Entry]) -> None:
        self.unit, self.table = unit, table
        self._mark = "?" if type(unit.connection).__module__.startswith("sqlite3") else "%s"
        self._highest = self._load(sorted({entry.workflow for entry in batch}))
        self._raised: dict[Key, int] = {}

    @staticmethod
    def create(unit: Unit, table: str) -> None:
        """Make the table."""
        unit.execute(
            f"CREATE TABLE {table} (workflow TEXT NOT NULL, source TEXT NOT NULL, topic TEXT NOT NULL, "
            f"sequence BIGINT NOT NULL, PRIMARY KEY (workflow, source, topic))"
        )

    def is_news(self, entry: Entry) -> bool:
        """Whether this record was not folded yet; it counts as folded from now on."""
        key = entry.workflow, entry.source, entry.record.topic
        if entry.sequence <= self._highest.get(key, 0):
            return False
        self._highest[key] = self._raised[key] = entry.sequence
        return True

    def write(self) -> None:
        """Remember the highest numbers in the transaction at hand."""
        if not self._raised:
            return
        row = f"({', '.join([self._mark] * 4)})"
        values = [value for key, sequence in self._raised.items() for value in (*key, sequence)]
        self.unit.execute(
            f"INSERT INTO {self.table} VALUES {', '.join([row] * len(self._raised))} "  # noqa: S608 - a name of ours
            f"ON CONFLICT (workflow, source, topic) DO UPDATE SET sequence = excluded.sequence",
            values,
        )

    def _load(self, workflows: Sequence[str]) -> dict[Key, int]:
        if not workflows:
            return {}
        marks = ", ".join([self._mark] * len(workflows))
        found = self.unit.execute(
            f"SELECT workflow, source, topic, sequence FROM {self.table} WHERE workflow IN ({marks})",  # noqa: S608 - ours
            list(workflows),
        )
        return {(workflow, source, topic): sequence for workflow, source, topic, sequence in found.fetchall()}
