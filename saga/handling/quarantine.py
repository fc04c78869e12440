"""What is done about records at which the process dies: no `except` can catch that, so starts are counted before.

Only a lane that was not left in an orderly way is treated so: what may have been in hand when its owner died runs singly, and
what the process has died of three times is not run again. A clean lane counts nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from saga.handling.external import Intent
from saga.handling.intake import Incoming
from saga.handling.invocation import HandlerFailure
from saga.handling.parking import Resume
from saga.handling.timers import Late
from saga.participant.failure import Failure
from saga.participant.handler import Handler
from saga.store.lane import Lane

DEATHS = 3


@dataclass(frozen=True, slots=True)
class Suspect:
    """What the process died of: it is done but for the handler, whose workflow waits for an operator."""

    item: Incoming | Resume | Late
    deaths: int

    def failure(self, handler: Handler, workflow_id: str) -> HandlerFailure:
        return quarantined(handler, workflow_id, self.deaths)


def quarantined(handler: Handler, workflow_id: str, deaths: int) -> HandlerFailure:
    """Why a handler is not run again."""
    why = (
        f"in quarantine: the process died {deaths} times while this ran, or its input was read. Look for what ended it (the "
        f"kernel's log, a core dump), mend it, then retry"
    )
    return HandlerFailure(handler, workflow_id, why, Failure.POISON)


class Caution:
    """How a lane is treated by an owner who claimed it unclean, until `reach` records of each topic have passed, and as many
    letters that are taken back.

    `ends` says where topics ended behind the lane's fence when it was claimed: what came later was in nobody's hands.
    """

    def __init__(self, lane: Lane, reach: int, ends: Mapping[str, int] | None = None) -> None:
        self.lane, self._ends = lane, ends
        self._inherited = dict(lane.trials)
        self._left: dict[tuple[bool, str], int] = defaultdict(lambda: reach)
        self._furthest: dict[str, int] = {}

    def holds(self, item: Incoming) -> bool:
        """Whether this record, read now, may have been in hand when the process died; of a letter its offset does not tell."""
        topic, offset = item.record.topic, item.record.offset
        return self._left[item.again, topic] > 0 and (item.again or self._ends is None or offset < self._ends.get(topic, 0))

    def passed(self, item: Incoming) -> None:
        """Count it; a record that was left and is read again is counted already."""
        topic, offset = item.record.topic, item.record.offset
        if not item.again:
            if offset <= self._furthest.get(topic, -1):
                return
            self._furthest[topic] = offset
        self._left[item.again, topic] -= 1

    def begin(self, name: str) -> int:
        """What goes by this name is begun, as `lane.trials` now says; answers of how many deaths it is suspected."""
        deaths = self._inherited.pop(name, 0)
        self.lane.trials = {**self._inherited, name: deaths + 1}
        return deaths

    def clear(self) -> None:
        """What was begun last is not to be begun again."""
        self.lane.trials = dict(self._inherited)


def name_of(item: Incoming | Resume | Late | Intent) -> str:
    """By what a start is counted."""
    match item:
        case Incoming(record=record):
            return f"{record.topic}@{record.offset}"
        case Intent():
            return f"call {item.workflow_id} {item.step} {item.act.value}"
        case Resume():
            return f"retry {item.workflow_id}"
        case Late():
            return f"late {item.workflow_id}"
