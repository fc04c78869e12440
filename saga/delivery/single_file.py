"""Outbox rows on their way to the broker, of each workflow one at a time.

A delivery that fails leaves a hole, and is heard of only after later records have passed. Nothing of a workflow is therefore
handed to the producer before the broker has its previous event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from saga.store.outbox import OutboxRow


class SingleFile:
    """Rows by their ids; `row.id in file` holds for those that wait behind another one too. `bytes` is what they carry."""

    def __init__(self) -> None:
        self.bytes = 0
        self._rows: dict[str, OutboxRow] = {}
        self._behind: dict[str, deque[OutboxRow]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def begin(self, rows: Iterable[OutboxRow]) -> list[OutboxRow]:
        """Take these rows in, each behind the others of its workflow; answers those to be handed to the producer now."""
        now = []
        for row in rows:
            self._rows[row.id] = row
            self.bytes += len(row.payload)
            if (queue := self._behind.get(row.workflow_id)) is None:
                self._behind[row.workflow_id] = deque()
                now.append(row)
            else:
                queue.append(row)
        return now

    def end(self, id: str) -> tuple[OutboxRow, OutboxRow | None] | None:
        """The row that has arrived, and the one to be handed over now that it has; None for an id that is not on its way."""
        if (row := self._rows.pop(id, None)) is None:
            return None
        self.bytes -= len(row.payload)
        if queue := self._behind[row.workflow_id]:
            return row, queue.popleft()
        del self._behind[row.workflow_id]
        return row, None

    def of(self, lane: int) -> list[str]:
        """The ids of those of a lane."""
        return [id for id, row in self._rows.items() if row.lane == lane]

    def lanes(self) -> set[int]:
        """The lanes of all of them."""
        return {row.lane for row in self._rows.values()}

    def clear(self) -> None:
        """Forget them; they are in the outbox."""
        self.bytes = 0
        self._rows.clear()
        self._behind.clear()
