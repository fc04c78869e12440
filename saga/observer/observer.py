"""The observer: follows a saga's topics outside of any group, and tells what is there to whoever asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock

from saga.clock import Clock
from saga.errors import BrokerError
from saga.observer.overview import Overview, overview
from saga.observer.standing import Standing
from saga.observer.workflows import Workflows
from saga.protocol.facts import WorkflowStatus
from saga.replay.contracts import Contracts
from saga.replay.entry import Entry
from saga.replay.following import Following
from saga.replay.source import Topics, TopicSource
from saga.replay.timeline import Timeline, timeline

KEEP = 5_000
LISTED = 100
_SOME, _PIECE = 20_000, 200


class Observer:
    """Holds all open workflows and the `keep` that ended last; of the others it only knows how many ended how.

    One of which nothing was heard for `idle` is a person's business. `look` belongs to one thread; whatever asks may do so
    from any other. `size` is the number of records there were when it began, `trouble` why nothing can be read.
    """

    def __init__(self, contracts: Contracts, broker: Topics, clock: Clock, *, idle: timedelta, keep: int = KEEP) -> None:
        self.contracts, self.broker, self.clock, self.idle, self.keep = contracts, broker, clock, idle, keep
        self.size: int | None = None
        self.trouble: str | None = None
        self.looked: datetime | None = None
        self._following: Following | None = None
        self._held = Workflows(contracts, keep)
        self._lock = Lock()

    def look(self) -> None:
        """Take in what has come since the last look, the first time everything; raises BrokerError.

        One that is not `retriable` may mean that the topics are not those that were read: the next look begins anew.
        """
        try:
            if self._following is None:
                source = TopicSource(self.broker, self.contracts.name)
                self.size, self._following, self.trouble = source.size, Following(source, source.lanes()), None
            self._take(self._following.look())
        except BrokerError as error:
            self.trouble = str(error)
            if not error.retriable:
                with self._lock:
                    self._following, self._held, self.looked = None, Workflows(self.contracts, self.keep), None
            raise
        self.looked, self.trouble = self.clock.now(), None

    def overview(self) -> Overview:
        """All of it in short. Before all was read, what goes on is not known: most of what looks open has ended since."""
        following = self._following
        aged = tuple(following.source.aged) if following is not None else ()
        with self._lock:
            found = overview(self.contracts.latest, self._held.standings(), self.clock.now(), self.idle, aged=aged)
            counts = {**(Counter(found.counts) + self._held.ended)}
            records = self._held.records
        if self.looked is None:
            found = replace(found, alarmed=0, concerns={}, alarms=(), waiting=())
        return replace(found, counts=counts, records=records, looked=self.looked, trouble=self.trouble, aged=aged)

    def search(self, *, status: WorkflowStatus | None = None, text: str = "", limit: int = LISTED) -> list[Standing]:
        """The workflows of this status with this text in their id, those that moved last first."""
        with self._lock:
            fitting = [s for s in self._held.standings() if text in s.id and (status is None or s.status is status)]
        return sorted(fitting, key=lambda stands: stands.moved, reverse=True)[:limit]

    def timeline(self, workflow: str) -> Timeline | None:
        """One workflow, told; None if nothing is held of it."""
        with self._lock:
            held = self._held.history(workflow)
            history = replace(held, entries={**held.entries}) if held is not None and held.entries else None
        return timeline(self.contracts, history) if history is not None else None  # which may ask a registry, and wait

    def is_let_go(self, workflow: str) -> bool:
        """Whether it ended, and so many others after it that it is not held any more."""
        return self._held.is_let_go(workflow)

    def _take(self, entries: Iterator[Entry]) -> None:
        """One by one, since what was read must not be lost with what cannot be; and whoever asks meanwhile is answered."""
        try:
            for number, entry in enumerate(entries, 1):
                with self._lock:
                    self._held.add(entry)
                if number % _SOME == 0:
                    self._refresh()
        finally:
            self._refresh()

    def _refresh(self) -> None:
        is_more = True
        while is_more:
            with self._lock:
                is_more = self._held.refresh(_PIECE)
