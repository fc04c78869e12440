"""Workflows that were closed long ago, deleted in batches by their lane's owner, once the topics have forgotten them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from saga.clock import Clock
from saga.errors import CommitUnknown
from saga.store.lane import Lane
from saga.store.port import Store

log = logging.getLogger("saga.worker")

AT_ONCE = 500
EVERY = 60.0


class Pruning:
    """Deletes workflows of one thread's lanes that were closed longer than `keep` ago, while that `may` be; without it none.

    `gone` counts them.

    The lane's row remembers when the last of them was closed, in the same transaction: a record of a workflow
    that began before, and is not there, is not handled as if it were news.
    """

    def __init__(self, store: Store, clock: Clock, keep: timedelta | None, may: Callable[[], bool] = lambda: True) -> None:
        self.store, self.clock, self.keep, self.may, self.gone = store, clock, keep, may, 0
        self._again: dict[int, float] = {}

    def prune(self, lane: Lane) -> None:
        """Delete one batch, if it is time; the next is due at once where there may be more. Raises LaneFenced, StoreError."""
        if self.keep is None or self.clock.monotonic() < self._again.get(lane.number, 0.0) or not self.may():
            return
        gone = self._prune(lane, self.clock.now() - self.keep)
        self.gone += gone
        if gone < AT_ONCE:
            self._again[lane.number] = self.clock.monotonic() + EVERY
        if gone:
            log.info("lane %s/%d: %d workflows pruned, closed until %s", lane.saga, lane.number, gone, lane.pruned)

    def _prune(self, lane: Lane, before: datetime) -> int:
        try:
            with self.store.unit() as unit:
                count, until = unit.prune(lane, before, AT_ONCE)
        except CommitUnknown:
            lane.forget(until)  # they may be gone
            raise
        lane.forget(until)
        return count
