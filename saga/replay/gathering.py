"""From a stream of records to whole histories, with few of them in memory.

A workflow that ended, and of which nothing is missing, is told after `linger` others have ended; all others are held until
their lane has been read to its end. What comes for a workflow that was told already is told once more, as `late`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.history import History
from saga.replay.source import Source

LINGER = 2_000
Pace = Callable[[int], None]
"""Is told how many records have been read, one by one."""


def histories(
    source: Source,
    contracts: Contracts,
    *,
    wanted: Collection[str] = (),
    lanes: Collection[int] | None = None,
    linger: int = LINGER,
    pace: Pace = lambda _: None,
) -> Iterator[History]:
    """The histories of all workflows, or those `wanted`; of all lanes, or of those given."""
    read = 0
    for lane in source.lanes() if lanes is None else sorted(lanes):
        gathering = _Lane(contracts, linger)
        for entry in source.read(lane):
            read += 1
            pace(read)
            if not wanted or entry.workflow in wanted:
                gathering.add(entry)
                yield from gathering.told()
        yield from gathering.rest()


class _Lane:
    """The histories of one lane that are not told yet."""

    def __init__(self, contracts: Contracts, linger: int) -> None:
        self.contracts, self.linger = contracts, linger
        self.held: dict[str, History] = {}
        self.settled: dict[str, None] = {}
        self.past: set[int] = set()

    def add(self, entry: Entry) -> None:
        history = self.held.get(entry.workflow)
        if history is None:
            is_late = hash(entry.workflow) in self.past
            history = self.held[entry.workflow] = History(self.contracts.name, entry.workflow, late=is_late)
        history.add(entry)
        if self._is_settled(history):
            self.settled.setdefault(entry.workflow)

    def told(self) -> Iterator[History]:
        while len(self.settled) > self.linger:
            workflow = next(iter(self.settled))
            del self.settled[workflow]
            if self._is_settled(self.held[workflow]):
                self.past.add(hash(workflow))
                yield self.held.pop(workflow)

    def _is_settled(self, history: History) -> bool:
        return history.is_settled(self.contracts.of(history))

    def rest(self) -> Iterator[History]:
        yield from (history for history in self.held.values() if history.entries)
