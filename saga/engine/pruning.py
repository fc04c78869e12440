"""Workflows that were closed long ago, deleted in batches by their lane's owner, once the topics have forgotten them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from saga.clock import Clock
from saga.errors import CommitUnknown, DefinitionError
from saga.protocol.definition import Definition
from saga.store.port import Lane, Store

log = logging.getLogger("saga.worker")

AT_ONCE = 500
EVERY = 60.0
MARGIN = timedelta(days=1)


class Pruning:
    """Deletes workflows of one thread's lanes that were closed longer than `keep` ago; without it none.

    The lane's row remembers when the last of them was closed, in the same transaction: a record of a workflow
    that began before, and is not there, is not handled as if it were news.
    """

    def __init__(self, store: Store, clock: Clock, keep: timedelta | None) -> None:
        self.store, self.clock, self.keep = store, clock, keep
        self._again: dict[int, float] = {}

    def prune(self, lane: Lane) -> None:
        """Delete one batch, if it is time; the next is due at once where there may be more. Raises LaneFenced, StoreError."""
        if self.keep is None or self.clock.monotonic() < self._again.get(lane.number, 0.0):
            return
        gone = self._prune(lane, self.clock.now() - self.keep)
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


def refuse_to_forget(keep: timedelta, sagas: Iterable[Definition], kept: Mapping[str, timedelta | None]) -> None:
    """Raise DefinitionError where workflows run, or topics keep records, for longer than ended workflows are to be kept.

    Records say when their workflow began by its deadline, so there must be one.
    """
    for saga in sagas:
        if saga.deadline is None or keep < saga.deadline + MARGIN:
            raise DefinitionError(
                f"SAGA_KEEP_WORKFLOWS: found {keep}, while the deadline of saga {saga.name} v{saga.version} is "
                f"{saga.deadline or 'not there'}; expected one, and to keep workflows a day longer. Raise it, or unset it."
            )
    for topic, span in kept.items():
        if span is None:
            raise DefinitionError(
                f"SAGA_KEEP_WORKFLOWS: found {keep}, while topic {topic} keeps records for ever; a workflow whose records may "
                f"come again must be remembered. Unset it, or give the topic a retention.ms."
            )
        if keep < span + MARGIN:
            raise DefinitionError(
                f"SAGA_KEEP_WORKFLOWS: found {keep}, while topic {topic} keeps records for up to {span} (retention.ms and "
                f"segment.ms); expected at least {span + MARGIN}, a day more. Raise it, or shorten the topic's retention."
            )
