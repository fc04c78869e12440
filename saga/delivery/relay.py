"""Outbox to topics, for the lanes that this thread owns; events of one workflow are first published in commit order.

What was just committed goes out from memory only if all earlier events of its workflow are on their way through this very
relay; everything else goes through the scan of pending rows, ordered by (workflow, sequence). A failed delivery leaves a hole
behind which later records pass, so those of one workflow leave one after the other, and after a failure the producer is thrown
away and the outbox is read again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta

from saga.clock import Clock
from saga.count import many
from saga.delivery.acks import Acks
from saga.delivery.deliveries import Deliveries, Settlement
from saga.delivery.single_file import SingleFile
from saga.errors import BrokerError
from saga.failpoints import Failpoint, failpoint
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow
from saga.store.port import Store
from saga.transport.port import Broker, Outbound, Producer

log = logging.getLogger("saga.relay")

SCAN_ROWS = 1000
MAX_IN_FLIGHT = 5_000  # each is held in memory twice, here and in the client: some 30 MB
MAX_BYTES = 32_000_000  # in flight, where events are large
RESTART_PAUSE = 1.0
STALLED = 10.0  # another leader is found sooner


class Relay:
    """Publishes, and keeps the delivery reports until a transaction has marked or cleaned their rows.

    `astray` has, by lane, the topics that are others than before, as the offsets of what was delivered there say.
    `failing` says since when nothing is published, and why; None once the broker has taken something, or there is nothing left.
    `aside` takes records that have no outbox: they are sent until the broker has them, and then come back from `arrived`.
    Belongs to one thread. `waiting` holds the lanes whose pending rows must be read from the store. What is due is written
    with the next unit of work, or by `write`.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        clock: Clock,
        acks: Acks,
        deliveries: Deliveries,
    ) -> None:
        self.store, self.broker, self.clock = store, broker, clock
        self.acks, self.deliveries = acks, deliveries
        self.waiting: set[int] = set()
        self.astray: dict[int, set[str]] = {}
        self.failing: str | None = None
        self._producer: Producer | None = None
        self._in_flight = SingleFile()
        self._earlier: set[str] = set()
        self._aside: dict[str, Outbound] = {}
        self._aside_again: list[Outbound] = []
        self._arrived: list[str] = []
        self._not_before = self._moved_at = 0.0
        self._scanned: dict[int, int] = {}
        self._scans = 0

    def open(self) -> None:
        """Have a producer before the first event: an idempotent one takes half a second to get its id."""
        self._producer = self._producer or self.broker.producer()

    @property
    def idle(self) -> bool:
        return not (self._in_flight or self.deliveries.due or self._aside or self._aside_again)

    def begin(self, lane: Lane) -> None:
        """The lane is ours, perhaps once more: what is on its way now was sent before others had it."""
        self.waiting.add(lane.number)
        self._earlier.update(self._in_flight.of(lane.number))

    def settle(self, *, all: bool = False) -> Settlement:
        """What the next transaction is to write of what was delivered; with `all` also what could still wait."""
        return self.deliveries.settle(self.acks.known, math.inf if all else self.clock.monotonic())

    def settled(self, done: Settlement) -> None:
        """This is committed."""
        self.deliveries.settled(done)
        if done.lost:
            self.waiting.update(self.acks.known)

    def publish(self, lane: Lane, rows: Mapping[str, Sequence[OutboxRow]], before: Mapping[str, Collection[str]]) -> None:
        """Send what was committed just now, by workflow; `before` are ids of earlier rows that the store has as unpublished."""
        ready: list[OutboxRow] = []
        for workflow_id, committed in rows.items():
            if all(map(self._known, before.get(workflow_id, ()))):
                ready += committed
            else:
                self.waiting.add(lane.number)
        if len(self._in_flight) + len(ready) > MAX_IN_FLIGHT or self._in_flight.bytes + _bytes(ready) > MAX_BYTES:
            self.waiting.add(lane.number)  # the outbox keeps them until the broker keeps up
        if lane.number not in self.waiting:
            self._send(ready)

    def scan(self, lanes: Collection[Lane]) -> None:
        """Send the pending rows of those lanes that wait for it; where more remain, the lane goes on waiting."""
        self.waiting.intersection_update(lane.number for lane in lanes)
        if not (self.waiting or self._in_flight or self._aside or self._aside_again):
            self.failing = None
        if self.clock.monotonic() < self._not_before:
            return
        for lane in sorted(lanes, key=lambda lane: self._scanned.get(lane.number, 0)):  # there may be room for some only
            if lane.number in self.waiting and self._has_room:
                self._scans += 1
                self._scanned[lane.number] = self._scans
                known = [*self._in_flight.of(lane.number), *self.deliveries.of(lane.number)]
                rows = self.store.pending(lane.saga, lane.number, SCAN_ROWS, known=known, most_bytes=MAX_BYTES // 2)
                if len(rows) < SCAN_ROWS and _bytes(rows) < MAX_BYTES // 2:
                    self.waiting.discard(lane.number)
                self._send(rows)

    def aside(self, records: Sequence[Outbound]) -> None:
        """Send what has no outbox, behind all that was handed over before."""
        self._aside_again += records
        if not self._aside_again or self.clock.monotonic() < self._not_before:
            return
        self.open()
        assert self._producer is not None
        again, self._aside_again = self._aside_again, []
        self._aside.update((record.token, record) for record in again)
        try:
            self._producer.send(again)
        except BrokerError as error:
            self._restart(str(error))

    def arrived(self) -> list[str]:
        """The tokens of those that the broker has, each told once."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def collect(self, owned: Iterable[int]) -> None:
        """Take in delivery reports; after a failure all `owned` lanes wait for a scan."""
        if self._producer is None:
            return
        failure, delivered, now = None, False, self.clock.monotonic()
        following: list[OutboxRow] = []
        for report in self._producer.reports():
            if report.error is not None:
                failure = report.error
            elif (landed := self._in_flight.end(report.token)) is not None:
                row, behind = landed
                delivered = True
                if not self.deliveries.add(row, report.offset, now, earlier=row.id in self._earlier):
                    self.astray.setdefault(row.lane, set()).add(row.topic)
                self._earlier.discard(row.id)
                if behind is not None:
                    following.append(behind)
            elif self._aside.pop(report.token, None) is not None:
                self._arrived.append(report.token)
        if failure is not None:
            self._restart(failure)
            self.waiting.update(owned)
        else:
            self._hand_over(following)
            if delivered or self._arrived:
                self.failing = None
        self._notice_a_stall(now, moved=delivered or failure is not None)
        if delivered:
            failpoint(Failpoint.RELAY_ACKNOWLEDGED)

    def write(self, *, all: bool = False) -> None:
        """Write what is due in a transaction of its own."""
        if due := self.settle(all=all):
            with self.store.unit() as unit:
                due.write(unit)
            self.settled(due)

    def flush(self, timeout: float) -> None:
        """Wait for what is on its way, then note all of it; what is not delivered by then stays pending."""
        until = self.clock.monotonic() + timeout
        while self._producer is not None and (self._in_flight or self._aside):
            self._producer.flush(max(0.0, until - self.clock.monotonic()))
            self.collect(())
            if self.clock.monotonic() >= until:
                break
        self.write(all=True)

    def close(self) -> None:
        """End; what is not delivered stays pending in the store."""
        if self._producer is not None:
            self._producer.purge()
        self._forget()
        self._aside.clear()

    @property
    def _has_room(self) -> bool:
        return len(self._in_flight) < MAX_IN_FLIGHT // 2 and self._in_flight.bytes < MAX_BYTES // 2

    def _known(self, id: str) -> bool:
        return id in self._in_flight or id in self.deliveries

    def _send(self, rows: Sequence[OutboxRow]) -> None:
        if not self._in_flight:
            self._moved_at = self.clock.monotonic()
        self._hand_over(self._in_flight.begin(rows))

    def _hand_over(self, rows: Sequence[OutboxRow]) -> None:
        if not rows:
            return
        self.open()
        assert self._producer is not None
        try:
            self._producer.send(
                Outbound(row.id, row.topic, row.lane, row.workflow_id.encode(), row.payload, row.headers) for row in rows
            )
        except BrokerError as error:
            self._restart(str(error))
            self.waiting.update(row.lane for row in rows)

    def _forget(self) -> None:
        """What is on its way stays pending in the store."""
        self._in_flight.clear()
        self._earlier.clear()

    def _notice_a_stall(self, now: float, *, moved: bool) -> None:
        """A broker with too few copies in sync refuses nothing: the client goes on trying for minutes without a word."""
        if moved or not self._in_flight:
            self._moved_at = now
        elif self.failing is None and (quiet := now - self._moved_at) > STALLED:
            why = (
                f"the broker has neither taken nor refused {many(len(self._in_flight), 'event')} that it was sent; "
                f"is it there, and has it enough copies in sync?"
            )
            self._fail(why, quiet)

    def _fail(self, why: str, quiet: float = 0.0) -> None:
        """Nothing is published, for so many seconds already; what was told first stays."""
        since = self.clock.now() - timedelta(seconds=quiet)
        self.failing = self.failing or f"nothing is published since {since:%F %T %Z}: {why}"

    def _restart(self, why: str) -> None:
        log.warning("publishing failed (%s): a new producer will publish the outbox again in %.0f s", why, RESTART_PAUSE)
        self._fail(why)
        assert self._producer is not None
        self._producer.purge()
        self._producer = None
        self.waiting |= self._in_flight.lanes()
        self._forget()
        self._aside_again = [*self._aside.values(), *self._aside_again]
        self._aside.clear()
        self._not_before = self.clock.monotonic() + RESTART_PAUSE


def _bytes(rows: Iterable[OutboxRow]) -> int:
    return sum(len(row.payload) for row in rows)
