"""Published events that somebody has still to acknowledge: cleaned once they are handled, sent again once they are lost.

Those before the first offset that anybody lacks are cleaned without a look; the rows of others are read page by page, the
lowest offsets first. Lost is what nobody can come to any more: the offset that a group committed has passed the event, then
the acks partition was read to its end, and there is still no acknowledgment. A group that has committed nothing is behind or
absent, and what is parked is in good hands: neither is lost.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from saga.clock import Clock
from saga.contracts.topics import group
from saga.delivery.acks import Acks
from saga.delivery.deliveries import STRANGER, Cleared, Deliveries
from saga.errors import BrokerError
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Store
from saga.transport.port import Broker, Partition

log = logging.getLogger("saga.acks")

PAGE = 500
PROBE = 50  # where the last look cleaned nothing, most often this one will not either
SWEEP_EVERY = 1.0
JUDGE_EVERY = 10.0
OVERDUE = timedelta(seconds=30)
_START = ("", -1)

Ends = Callable[[Iterable[Partition]], dict[Partition, int]]
_Open = tuple[OutboxRow, list[str]]
"""An event, with those that have not acknowledged it."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """Events of a lane that a group has passed without a word, to be judged when the acks have been read up to `end`."""

    suspects: list[tuple[OutboxRow, str]]
    end: int


class Unhandled:
    """The unhandled events of the lanes of one thread.

    An event older than `overdue` is asked after. `lost` counts those that were sent again, `since` tells by lane when the
    oldest unhandled event was written.
    """

    def __init__(
        self, store: Store, broker: Broker, clock: Clock, acks: Acks, deliveries: Deliveries, *, overdue: timedelta
    ) -> None:
        self.saga, self.store, self.broker, self.clock = acks.saga, store, broker, clock
        self.acks, self.deliveries, self.overdue = acks, deliveries, overdue
        self.sweep_every, self.judge_every = SWEEP_EVERY, JUDGE_EVERY
        self.lost = 0
        self.everybody = frozenset().union(*(saga.participants for saga in deliveries.versions))
        self.since: dict[int, datetime] = {}
        self.trials: dict[int, _Trial] = {}
        self._behind: dict[int, tuple[str, int]] = {}
        self._judged: dict[int, tuple[str, int]] = {}
        self._cleared: dict[tuple[int, str], int] = {}
        self._moving: set[int] = set()
        self._unseen: set[int] = set()
        self._sweep_at = self._judge_at = 0.0

    def begin(self, lane: Lane) -> None:
        """The lane is ours: its rows are not known."""
        self.deliveries.begin(lane)
        self._behind[lane.number] = self._judged[lane.number] = _START
        self._unseen.add(lane.number)
        self._cleared = {place: offset for place, offset in self._cleared.items() if place[0] != lane.number}

    def give_up(self, lane: int) -> None:
        """The lane is another owner's."""
        self.deliveries.marked.discard(lane)
        self.since.pop(lane, None)
        self.trials.pop(lane, None)

    def sweep(self, lanes: Mapping[int, Lane], ends: Ends) -> None:
        """Clean what everybody has, if it is time, and now and then look a page of each lane over; raises StoreError."""
        now = self.clock.monotonic()
        if now < self._sweep_at or self.deliveries.due:
            return
        self._sweep_at = now + self.sweep_every
        judging = now >= self._judge_at
        open_: list[_Open] = []
        for number in lanes if judging else self.deliveries.marked & lanes.keys():  # a former owner may have marked late
            if self._clear(number) and not judging:
                continue
            if judging or self._behind[number] != _START or number in self._unseen:
                begin = self._behind[number]
                left = self._look_over(number, PAGE if judging or number in self._moving | self._unseen else PROBE)
                open_ += self._next(number, begin, left) if judging else ()
        self._give_verdicts(lanes)
        if judging and not self.deliveries.due.lost:
            self._judge_at = now + self.judge_every
            try:
                self._accuse([*self._passed(open_)], ends)
            except BrokerError as error:
                log.warning("what became of unhandled events cannot be asked (%s); trying again", error)

    def _clear(self, number: int) -> bool:
        """Have all rows cleaned behind which everybody is, with no look at them; answers whether there may be some.

        Not before each was looked at once: a former owner may have left some for a stranger.
        """
        if number in self._unseen:
            return False
        known, strange = self.acks.known[number], self.deliveries.strange
        found = [(topic, known.unbroken(self.everybody, topic)) for topic in self.acks.facts]
        found = [(topic, min(upto, strange.get((number, topic), upto))) for topic, upto in found]
        more = [(topic, upto) for topic, upto in found if upto > self._cleared.get((number, topic), 0)]
        for topic, upto in more:
            self._cleared[number, topic] = upto
            self.deliveries.due.cleared.append(Cleared(self.saga, number, topic, upto))
        return bool(more)

    def _look_over(self, number: int, limit: int) -> list[_Open]:
        """Clean what is handled; the others with those that have not acknowledged them."""
        begin = self._behind[number]
        rows = self.store.unhandled(self.saga, number, begin, limit)
        is_full, self._behind[number] = len(rows) == limit, _following(rows, limit)
        if is_full and number in self._unseen:
            self._sweep_at = 0.0
        if not is_full:
            self._unseen.discard(number)
        left = []
        for row in rows:
            if missing := self._missing(row):
                left.append((row, missing))
            else:
                self.deliveries.due.handled.append(_report(row))
        if begin == _START:
            self._remember(number, [row for row, _ in left], is_all=not is_full)
        self._moving.discard(number)
        if len(left) < len(rows):
            self._moving.add(number)
            if is_full:
                self._sweep_at = 0.0
        return left

    def _next(self, number: int, begin: tuple[str, int], left: list[_Open]) -> list[_Open]:
        """What is to be judged now: what was `left` of the page that began there if that is the next one, else of the next.

        Looks that clean go on between two verdicts, and none of what they saw must remain without one.
        """
        if self._judged[number] == begin:
            self._judged[number] = self._behind[number]
            return left
        rows = self.store.unhandled(self.saga, number, self._judged[number], PAGE)
        self._judged[number] = _following(rows, PAGE)
        return [(row, missing) for row in rows if (missing := self._missing(row))]

    def _missing(self, row: OutboxRow) -> list[str]:
        assert row.offset is not None
        return self.acks.known[row.lane].missing(self.deliveries.audience(row, row.offset), row.topic, row.offset)

    def _remember(self, number: int, left: list[OutboxRow], *, is_all: bool) -> None:
        self.since.pop(number, None)
        if left:
            self.since[number] = min(row.created for row in left)
        elif is_all:
            self.deliveries.marked.discard(number)

    def _passed(self, open_: Iterable[_Open]) -> Iterator[tuple[OutboxRow, str]]:
        """Overdue events with a participant whose group has passed them."""
        before = self.clock.now() - self.overdue
        late = [(row, missing) for row, missing in open_ if row.created <= before]
        overdue = [(row, name) for row, missing in late for name in missing if name != STRANGER]
        partitions: dict[str, set[Partition]] = defaultdict(set)
        for row, name in overdue:
            partitions[name].add(Partition(row.topic, row.lane))
        told = {name: self.broker.committed(group(self.saga, name), [*of]) for name, of in partitions.items()}
        for row, name in overdue:
            if told[name].get(Partition(row.topic, row.lane), 0) > (row.offset or 0):
                yield row, name

    def _accuse(self, suspects: list[tuple[OutboxRow, str]], ends: Ends) -> None:
        """Ask where the acks end, now that it is known what the groups have passed."""
        by_lane: dict[int, list[tuple[OutboxRow, str]]] = defaultdict(list)
        for row, name in suspects:
            if not self._is_parked(row, name):
                by_lane[row.lane].append((row, name))
        if by_lane:
            found = ends([Partition(self.acks.topic, lane) for lane in by_lane])
            self.trials |= {lane: _Trial(of, found[Partition(self.acks.topic, lane)]) for lane, of in by_lane.items()}

    def _give_verdicts(self, lanes: Mapping[int, Lane]) -> None:
        for number, trial in [*self.trials.items()]:
            if number not in lanes:
                del self.trials[number]
            elif lanes[number].offsets.get(self.acks.topic, 0) >= trial.end:
                del self.trials[number]
                self._send_again(trial.suspects)

    def _send_again(self, suspects: Iterable[tuple[OutboxRow, str]]) -> None:
        lost: dict[str, tuple[OutboxRow, list[str]]] = {}
        for row, name in suspects:
            known = self.acks.known[row.lane]
            if known.missing([name], row.topic, row.offset or 0) and not self._is_parked(row, name):
                lost.setdefault(row.id, (row, []))[1].append(name)
        for row, names in lost.values():
            self.lost += 1
            log.error(
                "lost: %s of workflow %s, event %s at %s/%d@%d, was passed by %s and never acknowledged; it is sent again",
                row.type, row.workflow_id, row.id, row.topic, row.lane, row.offset, ", ".join(sorted(names)),
            )  # fmt: skip
            self.deliveries.due.lost.append(_report(row))

    def _is_parked(self, row: OutboxRow, name: str) -> bool:
        return row.offset in self.acks.known[row.lane].of(name, row.topic).parked


def _following(rows: Sequence[OutboxRow], limit: int) -> tuple[str, int]:
    """Where the page begins that follows this one."""
    return (rows[-1].topic, rows[-1].offset or 0) if len(rows) == limit else _START


def _report(row: OutboxRow) -> Published:
    assert row.offset is not None
    return Published(row.saga, row.workflow_id, row.sequence, row.offset)
