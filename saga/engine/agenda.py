"""What is due by the clock, looked up a few times a second: retries, timeouts, letters to take back, what waits or is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from saga.clock import Clock
from saga.engine.bounds import Bounds
from saga.engine.lanes import Lanes, Owned
from saga.engine.processor import Processor
from saga.engine.progress import Mark, lag, mark
from saga.engine.pruning import Pruning
from saga.errors import BrokerError, LaneFenced, StoreError
from saga.participant.participant import Participant
from saga.store.lane import Lane
from saga.store.port import Store, Unit
from saga.transport.port import Consumer

log = logging.getLogger("saga.worker")

DUE_EVERY = 0.25
COUNT_AMONG = 4  # of so many looks at what is due, one counts what waits
DUE_AT_ONCE = 100
DUE_PATIENCE = 0.5
_NOTHING = (0, 0)


class Agenda:
    """Belongs to one thread, and looks `every` so many seconds; `guard` keeps one lane's trouble from the others.

    `lag` is by lane, as of about a second ago. `_marks` are those up to which lanes in which timeouts have passed must be read
    first; `_behind` are the ones that are not yet: looks that could have room for theirs alone go on without them, until one
    finds no further such lane.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store,
        clock: Clock,
        lanes: Lanes,
        processor: Processor,
        pruning: Pruning,
        *,
        guard: Callable[[Owned, Callable[[], None]], None],
        batch: int,
        every: float,
    ) -> None:
        self.participant, self.store, self.clock, self.lanes = participant, store, clock, lanes
        self.processor, self.guard, self.batch, self.every = processor, guard, batch, every
        self.pruning = pruning
        self.lag: dict[int, int] = {}
        self._bounds = Bounds()
        self._marks: dict[int, Mark] = {}
        self._behind: set[int] = set()
        self._look_again = self._count_again = 0.0
        self._in_vain = False

    @property
    def is_due(self) -> bool:
        return self.clock.monotonic() >= self._look_again

    def see_to_it(self, consumer: Consumer) -> None:
        """Try those parked workflows again whose time has come, see to timeouts that have passed, delete what is long over.

        To be called with no transaction under way.
        """
        if not (lanes := self._at_work()):
            return
        self._look_again = self.clock.monotonic() + self.every
        versions, now, acks = self.participant.versions, self.clock.now(), self.processor.acks
        saga, known = versions.name, versions.numbers
        mine = [each.version for each in versions if each.initiator == self.participant.name]
        try:
            with self.store.unit() as unit:
                due = unit.due(saga, lanes, known, now, self.batch)
                forward = [number for number in lanes if number not in self._behind]
                expired = unit.expired(saga, forward, known, now, self.batch, deadlines=mine)
                for number in filter(acks.held.get, lanes):
                    acks.release(self.lanes.owned[number].lane, unit)
                kept, timeline = self._measure(unit, consumer), unit.timeline
                recalled = unit.recalled(saga, lanes, known, 1)
        except (StoreError, BrokerError) as error:
            level = logging.DEBUG if self._in_vain else logging.WARNING
            log.log(level, "what is due cannot be looked up (%s); trying again", error)
            self._in_vain = True
            return
        finally:
            self._regulate(consumer)
        self._in_vain = False
        for number in lanes:
            self._do(number, partial(_require_kept, timeline, None if kept is None else kept.get(number, _NOTHING)))
        late = self._caught_up(consumer, {lane for lane, _ in expired}, now)
        self.prune()
        for number in {letter.lane for letter in recalled}:
            self._do(number, self.processor.take_back)
        self._for_each_lane(due, self.processor.retry)
        self._for_each_lane(
            [(lane, id) for lane, id in expired if lane in late],
            lambda lane, ids, until: self.processor.expire(lane, ids, until, late[lane.number]),
        )

    def prune(self) -> None:
        """Delete what ended long ago, of lanes of which it is time."""
        for number in self._at_work():
            self._do(number, self.pruning.prune)

    def _at_work(self) -> list[int]:
        return [number for number, owned in self.lanes.owned.items() if not owned.at_rest]

    def _caught_up(self, consumer: Consumer, numbers: set[int], now: datetime) -> dict[int, datetime]:
        """Those on which nothing that came before a moment waits, with it; what only waits for company is written first.

        To a busy lane more comes at any time: it need not be read to its end, only as far as that was when it was looked at.
        """
        for number in numbers & self.processor.passing.keys():
            self._do(number, self.processor.note)
        try:
            marks = [self._mark(consumer, number, now) for number in numbers & {*self._at_work()}]
        except BrokerError as error:
            log.warning("whether timeouts have passed cannot be seen (%s); trying again", error)
            return {}
        late = {mark.lane.number: self._marks.pop(mark.lane.number).moment for mark in marks if mark.is_reached}
        behind = numbers - late.keys()
        self._behind = self._behind | behind if behind else set()
        return late

    def _mark(self, consumer: Consumer, number: int, now: datetime) -> Mark:
        known = self._marks.get(number)
        if known is None or known.lane is not self.lanes.owned[number].lane:
            known = self._marks[number] = mark(consumer, self.lanes, number, now)
        return known

    def _measure(self, unit: Unit, consumer: Consumer) -> Mapping[int, tuple[int, int]] | None:
        """See about once a second whether the bounds became full or are so no more; answers how far the store has the lanes."""
        if self.clock.monotonic() < self._count_again:
            return None
        self._count_again = self.clock.monotonic() + COUNT_AMONG * self.every
        self.lag = lag(consumer, self.lanes)
        self._bounds.look(unit, self.participant)
        return unit.batches(self.participant.versions.name)

    def _regulate(self, consumer: Consumer) -> None:
        """Take no more facts in while too much waits; polling, publishing, acknowledgments and due retries go on."""
        full = self._bounds.full
        if (full is None) is (self.lanes.full is None):
            return
        self.lanes.full = full
        sources = [source for number in self.lanes.owned for source in self.lanes.sources(number)]
        if full is not None:
            log.warning("nothing more is taken in: %s", full)
            consumer.pause(sources)
        else:
            log.info("facts are taken in again")
            waiting = self.lanes.waiting()
            consumer.resume([source for source in sources if source not in waiting])

    def _for_each_lane(self, found: Sequence[tuple[int, str]], work: Callable[[Lane, Sequence[str], float], None]) -> None:
        """A few at a time, and no longer than a moment: thousands that are due at once must not keep what is new waiting."""
        until = self.clock.monotonic() + DUE_PATIENCE
        for number in dict.fromkeys(lane for lane, _ in found):
            ids = [id for lane, id in found if lane == number]
            for begin in range(0, len(ids), DUE_AT_ONCE):
                if self.clock.monotonic() <= until:
                    self._do(number, work, ids[begin : begin + DUE_AT_ONCE], until)

    def _do(self, number: int, work: Callable[..., None], *more: object) -> None:
        """Do it for the lane, if it is still ours and at work."""
        owned = self.lanes.owned.get(number)
        if owned is not None and not owned.at_rest:
            self.guard(owned, partial(work, owned.lane, *more))


def _require_kept(timeline: str | None, standing: tuple[int, int] | None, lane: Lane) -> None:
    """A lane with nothing to do would not hear of it otherwise."""
    lane.require_same_server(timeline)
    if standing is not None and not lane.is_kept(*standing):
        raise LaneFenced(lane.saga, lane.number, lane.epoch)
