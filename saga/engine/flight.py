"""A transaction between its first statement and the moment at which it is known to be committed.

Until then nothing follows from it: nothing is published or acknowledged, and the lane has not moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from saga.contracts.acknowledged import Reason
from saga.delivery.acks import Remark
from saga.delivery.deliveries import Settlement
from saga.errors import CommitUnknown, StoreError
from saga.handling.external import Intent
from saga.handling.handling import Item
from saga.handling.intake import Incoming
from saga.handling.parking import Setback
from saga.handling.quarantine import Suspect
from saga.participant.ledger import Ledger
from saga.store.dead_letter import DeadLetter
from saga.store.dead_letter import Reason as Unreadable
from saga.store.lane import Lane
from saga.store.port import Store, Unit


@dataclass(slots=True)
class Flight:
    """What one transaction does with `items` of `lane`, which is to become `ahead`.

    `unpublished` are the ids of earlier rows by workflow, `due` what it notes of deliveries; `remarks`, `letters` and `intents`
    are as `Handling` left them. `failed` says why it was not committed, or why that is not known.
    """

    lane: Lane
    items: Sequence[Item]
    ahead: Lane
    remarks: list[Remark]
    letters: list[DeadLetter]
    intents: list[Intent] = field(default_factory=list)
    unpublished: Mapping[str, set[str]] = field(default_factory=dict)
    due: Settlement = field(default_factory=Settlement)
    failed: StoreError | None = None
    unit: Unit = field(init=False)
    ledger: Ledger = field(init=False)

    @property
    def told(self) -> list[Remark]:
        """What its acknowledgment is to say of records apart."""
        # of a version that is not known yet: it is not handled
        waiting = [letter.place for letter in self.letters if letter.reason is Unreadable.UNKNOWN_VERSION]
        parked = [(r.topic, r.offset) for r in self.ledger.suspended] + [(place.topic, place.offset) for place in waiting]
        return [*self.remarks, *(Remark(topic, offset, Reason.PARKED) for topic, offset in parked)]

    def leave(self, count: int) -> None:
        """Do without the last of the items: the lane does not go beyond those before them."""
        self.items = self.items[:-count]
        self.ahead.offsets, self.ahead.gaps = after(self.lane, self.items)

    def land(self, store: Store) -> None:
        """Wait until it is committed; raises why it is not, or CommitUnknown where the store does not know either."""
        try:
            if self.failed is not None:
                raise self.failed
            self.unit.arrive()
        except CommitUnknown:
            if not self.is_known(store):
                raise

    def is_known(self, store: Store) -> bool:
        """Whether the store has it, whose COMMIT was not answered; whatever it says, no other one is given its number."""
        self.lane.batch = self.ahead.batch
        return store.committed(self.ahead)


def parts(items: Sequence[Incoming], batch: int) -> Iterator[Sequence[Incoming]]:
    """Parts with at most a batch of messages each; records that concern others weigh nothing."""
    begin = weight = 0
    for end, item in enumerate(items):
        if item.message is not None or item.letter is not None:
            if weight == batch:
                yield items[begin:end]
                begin, weight = end, 0
            weight += 1
    if items:
        yield items[begin:]


def after(lane: Lane, items: Sequence[Item]) -> tuple[dict[str, int], dict[str, list[tuple[int, int]]]]:
    """Offsets and gaps behind the items; what a lane that is new to a topic finds gone is a gap for good."""
    offsets, gaps = dict(lane.offsets), lane.gaps
    for incoming in map(incoming_of, items):
        if incoming is not None and not incoming.again:
            topic, offset = incoming.record.topic, incoming.record.offset
            if topic not in offsets and offset > 0:
                gaps = {**gaps, topic: [(0, offset)]}
            offsets[topic] = offset + 1
    return offsets, gaps


def incoming_of(item: Item) -> Incoming | None:
    """The record that it passes, if there is one."""
    inner = item.item if isinstance(item, Suspect) else item
    found = inner.incoming if isinstance(inner, Setback) else inner
    return found if isinstance(found, Incoming) else None
