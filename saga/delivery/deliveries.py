"""Events between the broker's report of them and the store's note of it: to be cleaned when handled, else to be marked.

A delivered event is held for a moment, since most are acknowledged at once and their rows can then be deleted without having
been marked first. What a crash forgets here is published a second time, under the same id.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, TypeVar

from saga.contracts.acknowledged import Acknowledgments
from saga.participant.versions import Versions
from saga.protocol.facts import FactStatus, expected, stated
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Unit

HOLD = 1.0
CLEARED_AT_ONCE = 10_000
STRANGER = ""
"""Stands for whoever an event may concern that a release wrote of whose saga nothing is known here: never heard of, so it is
kept for one that knows."""

_One = TypeVar("_One")


class Cleared(NamedTuple):
    """Everything on a topic before this offset is handled: rows that lie there need no look at each."""

    saga: str
    lane: int
    topic: str
    offset: int


@dataclass(slots=True)
class Settlement:
    """What the next transaction writes of delivered events; `lost` ones are to be published once more."""

    marked: list[Published] = field(default_factory=list)
    handled: list[Published] = field(default_factory=list)
    lost: list[Published] = field(default_factory=list)
    cleared: list[Cleared] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.marked or self.handled or self.lost or self.cleared)

    def write(self, unit: Unit) -> None:
        unit.mark(self.marked)
        unit.clean(self.handled)
        unit.again(self.lost)
        for place in self.cleared:
            unit.clean_before(*place, CLEARED_AT_ONCE)


class Deliveries:
    """Belongs to one thread; `hold` is for how many seconds a delivered event waits for its acknowledgments.

    `due` is what is to be written next, and grows until `settled`. `marked` are the lanes in which
    there may be rows that were. `strange` has, by lane and topic, the first offset of an event for a `STRANGER`.
    """

    def __init__(self, versions: Versions, *, hold: float = HOLD) -> None:
        self.versions, self.hold = versions, hold
        self.due = Settlement()
        self.marked: set[int] = set()
        self.strange: dict[tuple[int, str], int] = {}
        self._queues: dict[tuple[int, str, frozenset[str]], deque[tuple[Published, float]]] = {}
        self._ids: dict[Published, str] = {}
        self._known: dict[str, int] = {}
        self._ends: dict[tuple[int, str], int] = {}
        self._audience = lru_cache(maxsize=1024)(self._audience_of)

    def __contains__(self, id: str) -> bool:
        return id in self._known

    def of(self, lane: int) -> list[str]:
        """The ids of those of a lane."""
        return [id for id, number in self._known.items() if number == lane]

    def begin(self, lane: Lane) -> None:
        """The lane is ours, perhaps with marked rows; what is delivered from now on comes behind what it has read."""
        self.marked.add(lane.number)
        self._ends = {place: end for place, end in self._ends.items() if place[0] != lane.number}
        self._ends |= {(lane.number, topic): offset for topic, offset in lane.offsets.items()}
        self.strange = {place: first for place, first in self.strange.items() if place[0] != lane.number}

    def add(self, row: OutboxRow, offset: int, now: float, *, earlier: bool = False) -> bool:
        """The broker has this event; answers False, and takes no notice, if it has it on another topic of that name.

        Offsets of one topic only ever grow, so that is certain where one is lower than what was there before the event was
        sent. Not so if that was `earlier` than the lane's present beginning here, since others may have gone on meanwhile.
        """
        end = self._ends.get((row.lane, row.topic), 0)
        if offset < end and not earlier:
            return False
        self._ends[row.lane, row.topic] = max(offset, end)
        report = Published(row.saga, row.workflow_id, row.sequence, offset)
        self._known[row.id] = row.lane
        self._ids[report] = row.id
        if audience := self.audience(row, offset):
            key = row.lane, row.topic, audience
            self._queues.setdefault(key, deque()).append((report, now + self.hold))
        else:
            self.due.handled.append(report)
        return True

    def audience(self, row: OutboxRow, offset: int) -> frozenset[str]:
        """Who has to acknowledge this event, which stands at that offset."""
        headers = dict(row.headers)
        saga = int(headers["ce_sagaversion"]), headers.get("ce_gates", "")
        found = self._audience(saga, headers.get("ce_step", ""), headers["ce_status"], row.type)
        if STRANGER in found:
            place = row.lane, row.topic
            self.strange[place] = min(offset, self.strange.get(place, offset))
        return found

    def settle(self, told: Mapping[int, Acknowledgments], now: float = math.inf) -> Settlement:
        """What is acknowledged or has been held for long enough by `now` (monotonic), until `settled` a part of the answer."""
        for (lane, topic, audience), queue in self._queues.items():
            if not queue:
                continue
            known = told.get(lane) or Acknowledgments()
            unbroken, end = known.unbroken(audience, topic), known.end(audience, topic)
            while queue and (queue[0][0].offset < end or queue[0][1] <= now):
                report, _ = queue.popleft()
                offset = report.offset
                if offset < unbroken or (offset < end and not known.missing(audience, topic, offset)):
                    self.due.handled.append(report)
                else:
                    self.due.marked.append(report)
                    self.marked.add(lane)
        return Settlement([*self.due.marked], [*self.due.handled], [*self.due.lost], [*self.due.cleared])

    def settled(self, done: Settlement) -> None:
        """This is committed; what another one wrote too, since an answer to COMMIT was lost, is told twice."""
        _strike(self.due.marked, done.marked)
        _strike(self.due.handled, done.handled)
        _strike(self.due.lost, done.lost)
        _strike(self.due.cleared, done.cleared)
        for report in (*done.marked, *done.handled):
            if (id := self._ids.pop(report, None)) is not None:
                self._known.pop(id, None)

    def _audience_of(self, saga: tuple[int, str], step: str, status: str, type: str) -> frozenset[str]:
        try:
            return expected(self.versions.saga(*saga), stated(step, FactStatus(status), type))
        except LookupError:  # written by another release
            latest = self.versions.latest
            is_retired = saga[0] < latest.version and saga[0] not in self.versions
            return latest.participants if is_retired else frozenset({STRANGER})


def _strike(due: list[_One], written: list[_One]) -> None:
    """At worst something is written twice, which changes nothing; what is struck unwritten would stay unpublished."""
    if due[: len(written)] == written:
        del due[: len(written)]
