"""What an observer holds of workflows: all that are open, and of those that ended the last ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

from saga.observer.overview import counted
from saga.observer.standing import Standing, standing
from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.history import History

REMEMBERED = 100_000
"""Ids of workflows that were let go, of which a late record is no new workflow."""


class Workflows:
    """`records` were taken in; `ended` counts those that were let go since more than `keep` had ended.

    How a workflow stands is found by `refresh`, not when somebody asks: of a hundred thousand that takes seconds.
    """

    def __init__(self, contracts: Contracts, keep: int) -> None:
        self.contracts, self.keep = contracts, keep
        self.records = 0
        self.ended: Counter[str] = Counter()
        self._histories: dict[str, History] = {}
        self._standings: dict[str, Standing] = {}
        self._touched: dict[str, None] = {}
        self._over: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    def add(self, entry: Entry) -> None:
        """Take a record in; what comes late about a workflow that was let go changes nothing."""
        self.records += 1
        id = entry.workflow
        if id in self._gone:
            return
        if (history := self._histories.get(id)) is None:
            history = self._histories[id] = History(self.contracts.name, id)
        history.add(replace(entry, record=entry.record._replace(headers=())))  # which are half of what it weighs
        if history.entries:
            self._touched.setdefault(id)

    def refresh(self, most: int) -> bool:
        """Find how so many of those stand of which something has come, and let those go that ended first.

        Answers whether there are more.
        """
        for id in [*islice(self._touched, most)]:
            del self._touched[id]
            stands = self._standings[id] = standing(self.contracts, self._histories[id])
            if stands.closed is not None:
                self._over.setdefault(id)
        while len(self._over) > self.keep and (first := next(iter(self._over))) not in self._touched:
            self._let_go(first)
        return bool(self._touched)

    def history(self, id: str) -> History | None:
        """All that is held of one workflow, None if nothing is."""
        return self._histories.get(id)

    def is_let_go(self, id: str) -> bool:
        """Whether it is known to have ended, and not held any more."""
        return id in self._gone

    def standings(self) -> list[Standing]:
        """How each of them stood when that was last found."""
        return [*self._standings.values()]

    def _let_go(self, id: str) -> None:
        self.ended += counted(self._standings.pop(id))
        del self._over[id], self._histories[id]
        self._gone[id] = None
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]
